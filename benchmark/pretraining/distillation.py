"""The distillation: views and the teacher's features in, a student out; it goes on where it stopped."""

import json
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
        steps_per_shard: steps after which another shard joins the pool, until all views are in it.
        batch: views per step.
        lr: learning rate of AdamW: it rises over `warmup` steps, stays until `flat`, then falls with the root of the steps.
        warmup: see `lr`.
        flat: see `lr`.
        weight_decay: of all weights that are matrices.
        average: decay of the running average of the weights, which is what is exported.
        save_every: steps between two checkpoints.
    """

    views: int = 8_064
    first_views: int = 512
    steps: int = 10_000
    steps_per_shard: int = 25
    batch: int = 8
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
        return self.lr * min(1.0, (step + 1) / self.warmup) * (self.flat / max(self.flat, step)) ** 0.5


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
    target = fit_target(pool, CONFIG["vision_cfg"]["width"])
    clip = new_student(seed, pool[0].images).to(device)
    weights = trained(clip)
    average = {name: value.detach().clone() for name, value in clip.visual.state_dict().items()}
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": schedule.weight_decay},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
    )
    settings = {"seed": seed, "source": source, "model": json.dumps(CONFIG), **asdict(schedule)}
    first, spent = _resume(folder / "checkpoint.pt", clip, average, optimizer, settings)
    began = time.process_time() - spent
    last = schedule.steps if until is None else min(until, schedule.steps)
    with (folder / "log.jsonl").open("a") as log:
        for step in range(first, last):
            if len(pool) < schedule.pool(step):
                pool = shards(schedule.pool(step))
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step)
            rng = stream("distillation", seed, step)
            images, tokens, classes = (part.to(device) for part in _batch(pool, rng, schedule.batch))
            terms = unexplained(see(clip, images), tokens, classes, target)
            optimizer.zero_grad(set_to_none=True)
            objective(terms).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            _follow(average, clip, min(schedule.average, (1 + step) / (10 + step)))
            done, seconds = step + 1, time.process_time() - began
            if done % 10 == 0 or done == last:
                log.write(json.dumps({"step": done, "cpu_s": round(seconds, 1), "views": len(pool) * PER_SHARD} | _rounded(terms)) + "\n")
                log.flush()
            if done % schedule.save_every == 0 or done == last:
                _save(folder / "checkpoint.pt", clip, average, optimizer, done, seconds, settings)
                export(clip, average, folder / "student")
                print(f"step {done} of {schedule.steps}, {seconds / 60:.1f} CPU min, {_rounded(terms)}", flush=True)
    return export(clip, average, folder / "student")


def _batch(pool: list[Shard], rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised images, and the teacher's tokens and class tokens of them."""
    rows = [(pool[int(rng.integers(len(pool)))], int(rng.integers(PER_SHARD))) for _ in range(size)]
    images, tokens, classes = (
        np.stack([shard[part][row % len(shard.images)] for shard, row in rows]) for part in range(3)
    )
    return normalised(images, rng), torch.from_numpy(tokens).float(), torch.from_numpy(classes).float()


@torch.no_grad()
def _follow(average: dict[str, Tensor], clip: Any, decay: float) -> None:
    for name, value in clip.visual.state_dict().items():
        average[name].lerp_(value, 1 - decay)


def _rounded(terms: dict[str, Tensor]) -> dict[str, list[float]]:
    return {name: [round(value, 4) for value in term.tolist()] for name, term in terms.items()}


def _resume(
    path: Path, clip: Any, average: dict[str, Tensor], optimizer: Any, settings: dict[str, Any]
) -> tuple[int, float]:
    """Load a checkpoint; returns the next step and the processor seconds spent."""
    if not path.exists():
        return 0, 0.0
    kept = torch.load(path, weights_only=True)
    made = kept["settings"]
    if differing := [key for key in made | settings if made.get(key) != settings.get(key)]:
        came, asked = (", ".join(f"{key}={its.get(key)}" for key in differing) for its in (made, settings))
        raise ConfigError(f"{path} was made with {came}; asked for {asked}. Take another folder.")
    clip.visual.load_state_dict(kept["student"])
    optimizer.load_state_dict(kept["optimizer"])
    for name, value in kept["average"].items():
        average[name].copy_(value)
    return kept["step"], kept["seconds"]


def _save(
    path: Path, clip: Any, average: dict[str, Tensor], optimizer: Any, step: int, seconds: float, settings: Any
) -> None:
    fresh = path.with_suffix(".new")
    state = {
        "student": clip.visual.state_dict(), "average": average, "optimizer": optimizer.state_dict(), "step": step,
        "seconds": seconds, "settings": settings,
    }  # fmt: skip
    torch.save(state, fresh)
    fresh.replace(path)
