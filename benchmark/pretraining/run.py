"""`bench pretrain embedded`: from words to a file of weights."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmark.pretraining import alignment, distillation, features, photographs
from benchmark.pretraining.bank import open_bank
from benchmark.pretraining.student import CONFIG, GRID, SIDE, fit_target, read_tower
from benchmark.pretraining.teacher import open_teacher
from benchmark.request.registry import ConfigError
from datamodules.components.roots import cache_folder
from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.model_files import LOCAL_DIR
from methods.components.clip.published_weights import EMBEDDED
from methods.components.clip.weights import hash_weights

FEWEST = 1_000  # photographs
_OF_TEXTS = "text."


def run(
    what: str, teacher: str, root: Path, seed: int, folder: Path | None, device: torch.device, words: Sequence[str]
) -> None:
    """Show photographs to the teacher, distil its student, align it with texts, and print the folder of the model.

    Args:
        what: "embedded", the one model that is pretrained here.
        teacher: see `open_teacher`.
        root: below which Debian's packages of photographs lie.
        seed: of the text alignment; the student's is 0.
        folder: of features and trainings; None takes `pretraining` below `$BENCH_CACHE` or the user's cache.
        device: of teacher and student.
        words: KEY=VALUE of `distillation.Schedule`, text.KEY=VALUE of `alignment.Schedule`.

    Raises:
        ConfigError: another model, an unknown key or a value that does not fit, a folder with other settings, no
            photographs, or no such teacher.
    """
    _check(what, seed)
    of_texts = [word.removeprefix(_OF_TEXTS) for word in words if word.startswith(_OF_TEXTS)]
    schedule = read_schedule([word for word in words if not word.startswith(_OF_TEXTS)], distillation.Schedule)
    texts, place = read_schedule(of_texts, alignment.Schedule), folder or cache_folder() / "pretraining"
    tower = open_teacher(teacher, GRID).to(device)
    shown = photographs.find(root, place / "photographs.json")
    lacking = "; ".join(photographs.missing(root)) or "nothing: all sources are there"
    if len(shown) < FEWEST:
        raise ConfigError(f"{len(shown)} photographs below {root} are too few, {FEWEST} are needed. Do: {lacking}.")
    print(f"more photographs: {lacking}")
    shards = features.shard_folder(place, tower, shown, SIDE, 0)
    print(f"{len(shown)} photographs; features below {shards}", flush=True)
    student = distillation.distil(
        place / "student",
        lambda count: features.make_shards(shards, tower, root, shown, count, SIDE, 0),
        schedule,
        seed=0,
        device=device,
        source=shards.name,
    )
    image_tower = read_tower(student)
    views = features.open_shards(shards, schedule.pool(schedule.steps - 1))  # all that the student has seen
    target = fit_target(views[: schedule.pool(0)], CONFIG["vision_cfg"]["width"])
    bank = open_bank(place, texts.pairs)
    source = f"{shards.name} {hash_weights(image_tower)}"
    path = alignment.align(
        place / f"texts-seed-{seed}", image_tower, bank, views, target, texts, seed=seed, device=device, source=source
    )
    print(f"{path}\nsha256 of all weights: {CLIPBackbone.load(f'{LOCAL_DIR}{path}', '').weights_hash}")
    print(f"use it: bench run … --backbone {LOCAL_DIR}{path}")


def _check(what: str, seed: int) -> None:
    if what != EMBEDDED:
        raise ConfigError(f"Only {EMBEDDED!r} is pretrained here; got {what!r}. Published CLIPs are used as they are.")
    if seed < 0:
        raise ConfigError(f"--seed must be 0 or more, got {seed}.")


def read_schedule(words: Sequence[str], cls: Any) -> Any:
    """The schedule of class `cls` with the values of KEY=VALUE words; ConfigError if one does not fit."""
    kinds = {name: type(value) for name, value in asdict(cls()).items()}
    values: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in kinds:
            raise ConfigError(f"bench pretrain takes KEY=VALUE with one of {', '.join(kinds)}; got {word!r}.")
        if key in values:
            raise ConfigError(f"{word!r} says {key} a second time: keep one of the two.")
        try:
            values[key] = kinds[key](value)
        except ValueError:
            raise ConfigError(f"{key} must be of type {kinds[key].__name__}, got {value!r}.") from None
        if not math.isfinite(values[key]):
            raise ConfigError(f"{key} must be finite, got {value!r}.")
        least = 0 if key in ("part_steps", "whole_steps", "weight_decay", "hold") else 1e-12
        if values[key] < least:
            raise ConfigError(f"{key} must be {'above 0' if least else '0 or more'}, got {value}.")
    return cls(**values)
