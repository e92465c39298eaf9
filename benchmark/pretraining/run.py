"""`bench pretrain embedded`: from words to a file of weights."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmark.pretraining import distillation, features, photographs
from benchmark.pretraining.bank import open_bank
from benchmark.pretraining.student import GRID, SIDE
from benchmark.pretraining.teacher import open_teacher
from benchmark.pretraining.trainer import Schedule, pretrain
from benchmark.request.registry import ConfigError
from datamodules.components.roots import cache_folder
from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.model_files import LOCAL_DIR
from methods.components.clip.published_weights import EMBEDDED

FEWEST = 1_000  # photographs


def run(what: str, seed: int, folder: Path | None, device: torch.device, words: Sequence[str]) -> None:
    """Render the bank, train or resume, and print the path of the weights.

    Args:
        what: "embedded", the one model that is pretrained here.
        seed: of the training.
        folder: of bank and trainings; None takes `pretraining` below `$BENCH_CACHE` or the user's cache.
        device: of the steps.
        words: KEY=VALUE of `Schedule`.

    Raises:
        ConfigError: another model, an unknown key or a value that is no number, or a folder with other settings.
    """
    _check(what, seed)
    schedule, place = read_schedule(words), folder or cache_folder() / "pretraining"
    print(f"bank of {schedule.pairs} pairs and training below {place}", flush=True)
    bank = open_bank(place, schedule.pairs)
    try:
        path = pretrain(place / f"seed-{seed}", bank, schedule, seed=seed, device=device)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    print(f"{path}\nsha256 of all weights: {CLIPBackbone.load(EMBEDDED, str(path)).weights_hash}")
    print(f"use it: bench run … backbone.pretrained={path}")


def run_distillation(
    what: str, teacher: str, root: Path, seed: int, folder: Path | None, device: torch.device, words: Sequence[str]
) -> None:
    """Show photographs to the teacher, train or resume its student, and print the folder of the weights.

    Args:
        what: "embedded", the one model that is pretrained here.
        teacher: see `open_teacher`.
        root: below which Debian's packages of photographs lie.
        seed: of the student.
        folder: of features and trainings; None takes `pretraining` below `$BENCH_CACHE` or the user's cache.
        device: of teacher and student.
        words: KEY=VALUE of `distillation.Schedule`.

    Raises:
        ConfigError: as `run`, or no photographs, or no such teacher.
    """
    _check(what, seed)
    schedule, place = read_schedule(words, distillation.Schedule), folder or cache_folder() / "pretraining"
    shown = photographs.find(root, place / "photographs.json")
    lacking = "; ".join(photographs.missing(root)) or "nothing: all sources are there"
    if len(shown) < FEWEST:
        raise ConfigError(f"{len(shown)} photographs below {root} are too few, {FEWEST} are needed. Do: {lacking}.")
    print(f"more photographs: {lacking}")
    tower = open_teacher(teacher, GRID).to(device)
    shards = features.shard_folder(place, tower, shown, SIDE, 0)
    print(f"{len(shown)} photographs; features below {shards}", flush=True)
    path = distillation.distil(
        place / f"student-seed-{seed}",
        lambda count: features.make_shards(shards, tower, root, shown, count, SIDE, 0),
        schedule,
        seed=seed,
        device=device,
        source=shards.name,
    )
    print(f"{path}\nsha256 of all weights: {CLIPBackbone.load(f'{LOCAL_DIR}{path}', '').weights_hash}")
    print(f"use it: bench run … --backbone {LOCAL_DIR}{path} (its text tower is untrained)")


def _check(what: str, seed: int) -> None:
    if what != EMBEDDED:
        raise ConfigError(f"Only {EMBEDDED!r} is pretrained here; got {what!r}. Published CLIPs are used as they are.")
    if seed < 0:
        raise ConfigError(f"--seed must be 0 or more, got {seed}.")


def read_schedule(words: Sequence[str], cls: Any = Schedule) -> Any:
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
        least = 0 if key in ("part_steps", "whole_steps", "weight_decay") else 1e-12
        if values[key] < least:
            raise ConfigError(f"{key} must be {'above 0' if least else '0 or more'}, got {value}.")
    return cls(**values)
