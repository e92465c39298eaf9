"""The distillation: views and the teacher's features in, a student out; it goes on where it stopped."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.pretraining.features import Shard
from benchmark.pretraining.student import (
    CONFIG,
    Target,
    export,
    fit_target,
    new_student,
    normalised,
    objective,
    see,
    trained,
    unexplained,
)
from benchmark.pretraining.views import PER_SHARD
from benchmark.request.registry import ConfigError
from datamodules.components.rendering.noise import stream


@dataclass(kw_only=True)
class Schedule:
    """Length, batches and learning rate of a distillation.

    Attributes:
        views: views that the teacher sees in all; about 1 MB of cache each.
        first_views: views in the pool at the first step.
        steps: steps in all.
        steps_per_shard: steps after which another shard joins the pool, until all views are there.
        batch: whole views per step.
        parts: steps out of four on parts of views, half as high and wide, four times as many: a patch costs less there,
            and windows of patches alone are what WinCLIP shows the tower.
        lr: learning rate of AdamW: rises over `warmup` steps, stays until `flat`, falls with the root of the steps.
        warmup: see `lr`.
        flat: see `lr`.
        weight_decay: of all weights that are matrices.
        average: decay of the running average of the weights, which is what is exported.
        save_every: steps between two checkpoints.
    """

    views: int = 8_064
    first_views: int = 512
    steps: int = 10_000
    steps_per_shard: int = 100
    batch: int = 16
    parts: int = 3
    lr: float = 2e-3
    warmup: int = 50
    flat: int = 400
    weight_decay: float = 0.02
    average: float = 0.995
    save_every: int = 50

    def pool(self, step: int) -> int:
        """Number of shards that a step draws from."""
        most, first = (-(-count // PER_SHARD) for count in (self.views, self.first_views))
        return min(most, first + step // self.steps_per_shard)

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        return self.lr * min(1.0, (step + 1) / self.warmup) * math.sqrt(self.flat / max(self.flat, step))


class Training:
    """A student, its running average and its optimizer; `settings` say what its checkpoint is of."""

    def __init__(self, pool: list[Shard], schedule: Schedule, seed: int, device: torch.device, source: str) -> None:
        self.schedule, self.seed, self.device = schedule, seed, device
        self.target = fit_target(pool, CONFIG["vision_cfg"]["width"])
        self.clip: Any = new_student(seed, pool[0].images).to(device)
        self.average = {name: value.detach().clone() for name, value in self.clip.visual.state_dict().items()}
        self.weights = trained(self.clip)
        groups = [
            {"params": [p for p in self.weights if p.ndim > 1], "weight_decay": schedule.weight_decay},
            {"params": [p for p in self.weights if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
        self.settings = {"seed": seed, "source": source, "model": json.dumps(CONFIG), **asdict(schedule)}

    def step(self, pool: list[Shard], number: int) -> dict[str, Tensor]:
        """One step on what its number says of the pool; returns the terms of the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(number)
        rng, batch = stream("distillation", self.seed, number), self.schedule.batch
        if number % 4 < self.schedule.parts:
            images, tokens, corner = _parts(pool, rng, 4 * batch)
            found, classes = see(self.clip, images.to(self.device), corner), None
        else:
            images, tokens, classes = _views(pool, rng, batch)
            found, classes = see(self.clip, images.to(self.device)), classes.to(self.device)
        terms = unexplained(found, tokens.to(self.device), classes, self.target)
        self.optimizer.zero_grad(set_to_none=True)
        objective(terms).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        decay = min(self.schedule.average, (1 + number) / (10 + number))
        with torch.no_grad():
            for name, value in self.clip.visual.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        return {name: term.detach() for name, term in terms.items()}

    def model(self) -> dict[str, Tensor]:
        """The whole model, its image tower averaged."""
        state: dict[str, Tensor] = self.clip.state_dict()
        return state | {f"visual.{name}": value for name, value in self.average.items()}

    def save(self, path: Path, step: int, seconds: float) -> None:
        """Write the checkpoint after `step` steps and so many processor seconds."""
        fresh = path.with_suffix(".new")
        state = {
            "student": self.clip.visual.state_dict(), "average": self.average,
            "optimizer": self.optimizer.state_dict(), "step": step, "seconds": seconds, "settings": self.settings,
        }  # fmt: skip
        torch.save(state, fresh)
        fresh.replace(path)

    def resume(self, path: Path) -> tuple[int, float]:
        """Load a checkpoint, if there is one; returns the next step and the processor seconds spent.

        Raises:
            ConfigError: it was made with other settings.
        """
        if not path.exists():
            return 0, 0.0
        kept = torch.load(path, weights_only=True)
        refuse_others(path, kept["settings"], self.settings)
        self.clip.visual.load_state_dict(kept["student"])
        self.optimizer.load_state_dict(kept["optimizer"])
        for name, value in kept["average"].items():
            self.average[name].copy_(value)
        return kept["step"], kept["seconds"]


def distil(
    folder: Path,
    shards: Callable[[int], list[Shard]],
    schedule: Schedule,
    *,
    seed: int,
    device: torch.device,
    source: str = "",
    until: int | None = None,
) -> Path:
    """Train or resume a student; returns the folder of its weights, for `local-dir:`.

    Args:
        folder: of this training: checkpoint, log and result.
        shards: gives the first n shards, computing those that are not there.
        schedule: length, batches and learning rate.
        seed: of the first weights and of every batch.
        device: of the steps.
        source: what the shards are of, part of what a checkpoint was made with.
        until: stop after this step; None for all.

    Raises:
        ConfigError: the checkpoint was made with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pool = shards(schedule.pool(0))
    training = Training(pool, schedule, seed, device, source)
    first, spent = training.resume(folder / "checkpoint.pt")
    began = time.process_time() - spent
    last = schedule.steps if until is None else min(until, schedule.steps)
    with (folder / "log.jsonl").open("a") as log:
        for number in range(first, last):
            if len(pool) < schedule.pool(number):
                pool = shards(schedule.pool(number))
            terms = training.step(pool, number)
            done, seconds = number + 1, time.process_time() - began
            line: dict[str, Any] = {"step": done, "cpu_s": round(seconds, 1), "views": PER_SHARD * len(pool)}
            if done % 20 == 0 or done == last:
                line |= {name: [round(value, 4) for value in term.tolist()] for name, term in terms.items()}
                log.write(f"{json.dumps(line)}\n")
                log.flush()
            if done % schedule.save_every == 0 or done == last:
                training.save(folder / "checkpoint.pt", done, seconds)
                export(training.model(), folder / "student")
                print(line, flush=True)
    return export(training.model(), folder / "student")


def refuse_others(path: Path, made: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise a ConfigError unless the checkpoint at `path` was `made` with the settings that are `asked` for."""
    if differing := [key for key in made | asked if made.get(key) != asked.get(key)]:
        came, wanted = (", ".join(f"{key}={its.get(key)}" for key in differing) for its in (made, asked))
        raise ConfigError(f"{path} was made with {came}; asked for {wanted}. Take another folder.")


def held(clip: Any, pool: list[Shard], target: Target, rng: np.random.Generator, batch: int, *, whole: bool) -> Tensor:
    """The loss of the last block alone, on `batch` whole views or four times as many parts of views."""
    device = clip.visual.conv1.weight.device
    if whole:
        images, tokens, classes = _views(pool, rng, batch)
        found = see(clip, images.to(device))
        return objective(_last(unexplained(found, tokens.to(device), classes.to(device), target)))
    images, tokens, corner = _parts(pool, rng, 4 * batch)
    return objective(_last(unexplained(see(clip, images.to(device), corner), tokens.to(device), None, target)))


def _last(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: term[-1:] for name, term in terms.items()}


def _views(pool: list[Shard], rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised images, and the teacher's tokens and class tokens of them."""
    rows = _drawn(pool, rng, size)
    images, tokens, classes = (np.stack([shard[part][row] for shard, row in rows]) for part in range(3))
    return normalised(images, rng), torch.from_numpy(tokens).float(), torch.from_numpy(classes).float()


def _parts(pool: list[Shard], rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Normalised parts of images, all from one corner (row and column of the first patch), and the teacher's tokens."""
    vision = CONFIG["vision_cfg"]
    patch, grid = vision["patch_size"], vision["image_size"] // vision["patch_size"]
    row, column = (int(at) for at in rng.integers(0, grid - grid // 2 + 1, 2))
    rows, columns = slice(row, row + grid // 2), slice(column, column + grid // 2)
    images, tokens = [], []
    for shard, at in _drawn(pool, rng, size):
        side = slice(row * patch, rows.stop * patch), slice(column * patch, columns.stop * patch)
        images.append(shard.images[at][side])
        square = shard.tokens[at].reshape(shard.tokens.shape[1], grid, grid, -1)
        tokens.append(square[:, rows, columns].reshape(shard.tokens.shape[1], -1, square.shape[-1]))
    return normalised(np.stack(images), rng), torch.from_numpy(np.stack(tokens)).float(), (row, column)


def _drawn(pool: list[Shard], rng: np.random.Generator, size: int) -> list[tuple[Shard, int]]:
    chosen = [pool[int(rng.integers(len(pool)))] for _ in range(size)]
    return [(shard, int(rng.integers(len(shard.images)))) for shard in chosen]
