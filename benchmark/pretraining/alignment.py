"""The text alignment: the student's last block, its projection and the text tower learn to name what is rendered."""

import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor, nn

from benchmark.pretraining.bank import Bank
from benchmark.pretraining.crops import Crops, Scope, sample_crops
from benchmark.pretraining.distillation import held, refuse_others
from benchmark.pretraining.features import Shard
from benchmark.pretraining.objective import WEIGHTS, Lexicon, losses, paraphrases
from benchmark.pretraining.student import CONFIG, GRID, NORMALISATION, Target, export
from datamodules.components.rendering.noise import stream

_AHEAD = 4  # batches prepared while a step runs


@dataclass(kw_only=True)
class Schedule:
    """Length, batches and learning rate of a training.

    Attributes:
        pairs: scenes in the bank.
        text_steps: steps of the text tower alone, on pairs of captions.
        part_steps: steps on parts of scenes, every third the whole scene coarsely, after them.
        whole_steps: steps on whole scenes, after them.
        part_batch: pairs per step of the first kind.
        whole_batch: pairs per step of the second kind.
        stress: largest factor on what a defect changes, in the first step; each pair samples its own from 1 on. With 1
            nothing is learnt of defects for a thousand steps.
        stress_end: the largest factor from 40 % of the part steps on; it falls linearly until then.
        lr: peak learning rate of AdamW for the text tower; it rises over 100 steps and falls along a cosine to nothing.
        image_lr: the same of the image tower's last block and projection.
        hold: weight of the distillation loss of the last block, on views of photographs.
        hold_batch: whole views per step, or four times as many parts.
        weight_decay: of all weights that are matrices.
        save_every: steps between two checkpoints.
    """

    pairs: int = 6_000
    text_steps: int = 150
    part_steps: int = 1_500
    whole_steps: int = 300
    part_batch: int = 32
    whole_batch: int = 12
    stress: float = 4.0
    stress_end: float = 2.0
    lr: float = 1e-3
    image_lr: float = 3e-4
    hold: float = 2.0
    hold_batch: int = 2
    weight_decay: float = 0.05
    save_every: int = 100

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.text_steps + self.part_steps + self.whole_steps

    def scope(self, step: int) -> Scope | None:
        """Part of a scene that the crops of a step show; None in steps of the text tower alone."""
        if step < self.text_steps:
            return None
        if step >= self.text_steps + self.part_steps:
            return "whole"
        return "coarse" if step % 3 == 0 else "part"

    def stress_at(self, step: int) -> float:
        """Largest factor on what a defect changes, in a step."""
        done = min(1.0, max(0, step - self.text_steps) / max(1.0, 0.4 * self.part_steps))
        return self.stress + (self.stress_end - self.stress) * done

    def rate(self, step: int) -> float:
        """Share of the peak learning rate, of a step."""
        return min(1.0, (step + 1) / 100) * 0.5 * (1.0 + math.cos(math.pi * step / self.steps))


class Learner(nn.Module):
    """The model with the tokens that training uses; all of its image tower but the last block is frozen."""

    def __init__(self, seed: int, image_tower: dict[str, Tensor]) -> None:
        """Initialise the weights.

        Args:
            seed: of the text tower and both projections.
            image_tower: the student's weights by their names in open_clip's `VisionTransformer`.
        """
        super().__init__()
        torch.manual_seed(seed)
        self.clip: Any = open_clip.CLIP(**CONFIG)
        visual = self.clip.visual
        visual.load_state_dict(image_tower | {"proj": visual.proj.detach()})
        visual.requires_grad_(False)
        self.lexicon = Lexicon(open_clip.SimpleTokenizer())
        self.table = nn.Parameter(self.clip.token_embedding.weight[self.lexicon.used].clone())
        self.clip.token_embedding.weight = nn.Parameter(torch.zeros_like(self.clip.token_embedding.weight), False)
        self.of_images = [visual.proj, *visual.ln_post.parameters(), *visual.transformer.resblocks[-1].parameters()]
        for parameter in self.of_images:
            parameter.requires_grad_(True)

    def model(self) -> dict[str, Tensor]:
        """The state dict of open_clip, rows of unused tokens zero."""
        state = {name: tensor.detach().clone() for name, tensor in self.clip.state_dict().items()}
        state["token_embedding.weight"][self.lexicon.used] = self.table.detach()
        return state


def align(
    folder: Path,
    image_tower: dict[str, Tensor],
    bank: Bank,
    views: list[Shard],
    target: Target,
    schedule: Schedule,
    *,
    seed: int,
    device: torch.device,
    source: str = "",
    until: int | None = None,
) -> Path:
    """Train or resume one model; returns its folder, for `local-dir:`.

    Args:
        folder: of this training: checkpoint, log and result.
        image_tower: the student's weights.
        bank: the pairs to sample crops from.
        views: of photographs, with the teacher's features that hold the last block.
        target: of the student.
        schedule: length, batches and learning rate.
        seed: of the text tower at the start and of every crop and caption.
        device: of the steps.
        source: what the image tower is, part of what a checkpoint was made with.
        until: stop after this step; None for all.

    Raises:
        ConfigError: the checkpoint was made with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    learner = Learner(seed, image_tower).to(device)
    optimizer = _optimizer(learner, schedule)
    settings = {"seed": seed, "source": source, "model": json.dumps(CONFIG), **asdict(schedule)}
    first, spent = _resume(folder / "checkpoint.pt", learner, optimizer, settings)
    last = schedule.steps if until is None else min(until, schedule.steps)
    began = time.process_time() - spent
    with (folder / "log.jsonl").open("a") as log:
        for step, crops in _prepared(bank, schedule, seed, range(first, last)):
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * schedule.rate(step)
            terms = _terms(learner, crops, stream("words", seed, step), vv=step % 3 == 1)
            weights = WEIGHTS
            if crops is not None:
                rng = stream("hold", seed, step)
                terms["hold"] = held(learner.clip, views, target, rng, schedule.hold_batch, whole=step % 4 == 0)
                weights = WEIGHTS | {"hold": schedule.hold}
            optimizer.zero_grad(set_to_none=True)
            torch.stack([weights[name] * term for name, term in terms.items()]).sum().backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                learner.clip.logit_scale.clamp_(0.0, math.log(100.0))
            done, seconds = step + 1, time.process_time() - began
            if done % 20 == 0 or done == last:
                line = {"step": done, "cpu_s": round(seconds, 1)}
                log.write(json.dumps(line | {name: round(term.item(), 4) for name, term in terms.items()}) + "\n")
                log.flush()
            if done % schedule.save_every == 0 or done == last:
                _save(folder / "checkpoint.pt", learner, optimizer, done, seconds, settings)
                print(f"texts: step {done} of {schedule.steps}, {seconds / 60:.0f} CPU min", flush=True)
    return export(learner.model(), folder / "embedded")


def _optimizer(learner: Learner, schedule: Schedule) -> torch.optim.Optimizer:
    """AdamW that decays matrices alone."""
    of_images = set(learner.of_images)
    groups = []
    for peak, images in ((schedule.lr, False), (schedule.image_lr, True)):
        learnt = [p for p in learner.parameters() if p.requires_grad and (p in of_images) == images]
        groups += [
            {"params": [p for p in learnt if p.ndim > 1], "weight_decay": schedule.weight_decay, "peak": peak},
            {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0, "peak": peak},
        ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def _terms(learner: Learner, crops: Crops | None, words: np.random.Generator, *, vv: bool) -> dict[str, Tensor]:
    """The terms of a step on crops, or of the text tower alone."""
    if crops is None:
        return paraphrases(learner.clip, learner.lexicon, learner.table, words)
    mean, std = (value.to(learner.table.device) for value in NORMALISATION)
    images = (torch.from_numpy(crops.images).to(learner.table.device) - mean) / std
    return losses(learner.clip, learner.lexicon, learner.table, crops, images, words, vv=vv)


def _prepared(bank: Bank, schedule: Schedule, seed: int, steps: range) -> Iterator[tuple[int, Crops | None]]:
    """The crops of each step, prepared in a thread while the steps before run."""

    def sample(step: int) -> Crops | None:
        scope = schedule.scope(step)
        if scope is None:
            return None
        pairs = schedule.whole_batch if scope == "whole" else schedule.part_batch
        return sample_crops(bank, GRID, pairs, scope, seed, step, schedule.stress_at(step))

    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(sample, step) for step in steps[:_AHEAD]]
        for at, step in enumerate(steps):
            crops = waiting.pop(0).result()
            if at + _AHEAD < len(steps):
                waiting.append(pool.submit(sample, steps[at + _AHEAD]))
            yield step, crops


def _resume(path: Path, learner: Learner, optimizer: Any, settings: dict[str, Any]) -> tuple[int, float]:
    """Load a checkpoint, if there is one; returns the next step and the processor seconds spent.

    Raises:
        ConfigError: it was made with other settings.
    """
    if not path.exists():
        return 0, 0.0
    kept = torch.load(path, weights_only=True)
    refuse_others(path, kept["settings"], settings)
    learner.load_state_dict(kept["learner"])
    optimizer.load_state_dict(kept["optimizer"])
    return kept["step"], kept["seconds"]


def _save(path: Path, learner: Learner, optimizer: Any, step: int, seconds: float, settings: dict[str, Any]) -> None:
    fresh = path.with_suffix(".new")
    state = {
        "learner": learner.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds,
        "settings": settings,
    }  # fmt: skip
    torch.save(state, fresh)
    fresh.replace(path)
