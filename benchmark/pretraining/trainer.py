"""The pretraining itself: steps, checkpoints, and the file that is shipped."""

import json
import logging
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
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmark.pretraining.bank import Bank
from benchmark.pretraining.crops import PATCH, Crops, Scope, sample_crops
from benchmark.pretraining.objective import WEIGHTS, Lexicon, losses, paraphrases
from benchmark.pretraining.start import waves, whitening
from datamodules.components.rendering.noise import stream
from methods.components.clip.published_weights import EMBEDDED
from methods.components.clip.weights import model_config

_log = logging.getLogger(__name__)
#: Mean and deviation that open_clip gives the images of a model without its own, (1, 3, 1, 1) each.
NORMALISATION = [
    torch.tensor(v).view(1, 3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
]
_AHEAD = 4  # batches prepared while a step runs


@dataclass(kw_only=True)
class Schedule:
    """Length, batches and learning rate of a training.

    Attributes:
        pairs: scenes in the bank.
        text_steps: steps of the text tower alone, on pairs of captions.
        part_steps: steps on crops of 64 pixels, every third the whole scene coarsely, after them.
        whole_steps: steps on whole crops of 128 pixels, after them.
        part_batch: pairs per step of the first kind.
        whole_batch: pairs per step of the second kind.
        stress: largest factor on what a defect changes, in the first step; each pair samples its own from 1 on. With 1
            nothing is learnt of defects for a thousand steps.
        stress_end: the largest factor from 40 % of the part steps on; it falls linearly until then.
        lr: peak learning rate of AdamW; it rises over 100 steps and falls along a cosine to nothing.
        weight_decay: of all weights that are matrices.
        save_every: steps between two checkpoints.
    """

    pairs: int = 12_000
    text_steps: int = 150
    part_steps: int = 3_600
    whole_steps: int = 900
    part_batch: int = 32
    whole_batch: int = 12
    stress: float = 4.0
    stress_end: float = 2.0
    lr: float = 1e-3
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
        """Learning rate of a step."""
        return self.lr * min(1.0, (step + 1) / 100) * 0.5 * (1.0 + math.cos(math.pi * step / self.steps))


class Learner(nn.Module):
    """The model, its token table cut down to the tokens that training uses."""

    def __init__(self, seed: int, patches: Tensor) -> None:
        """Initialise the weights.

        Args:
            seed: of the weights.
            patches: of normalised images, (n, 3 * patch * patch), that the first layer is fitted to.
        """
        super().__init__()
        torch.manual_seed(seed)
        self.clip: Any = open_clip.CLIP(**model_config(EMBEDDED))
        with torch.no_grad():
            visual = self.clip.visual
            visual.conv1.weight.copy_(whitening(patches, len(visual.conv1.weight)).view_as(visual.conv1.weight))
            visual.positional_embedding[1:] = waves(visual.grid_size[0], visual.positional_embedding.shape[1])
        self.lexicon = Lexicon(open_clip.SimpleTokenizer())
        self.table = nn.Parameter(self.clip.token_embedding.weight[self.lexicon.used].clone())
        self.clip.token_embedding.weight = nn.Parameter(torch.zeros_like(self.clip.token_embedding.weight), False)

    def export(self) -> dict[str, Tensor]:
        """The state dict of open_clip in half precision, rows of unused tokens zero."""
        state = {name: tensor.detach().clone() for name, tensor in self.clip.state_dict().items()}
        state["token_embedding.weight"][self.lexicon.used] = self.table.detach().cpu()
        return {name: tensor.half().contiguous().cpu() for name, tensor in state.items()}


def pretrain(
    folder: Path, bank: Bank, schedule: Schedule, *, seed: int, device: torch.device, until: int | None = None
) -> Path:
    """Train or resume one model; returns its safetensors file.

    Args:
        folder: of this training: checkpoint, log and result.
        bank: the pairs to sample crops from.
        schedule: length, batches and learning rate.
        seed: of the weights at the start and of every crop and caption.
        device: of the steps.
        until: stop after this step, for tests; None for all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    learner = Learner(seed, _some_patches(bank)).to(device)
    optimizer, settings = _optimizer(learner, schedule), {"seed": seed, **asdict(schedule)}
    first, spent = _resume(folder / "checkpoint.pt", learner, optimizer, settings)
    last = schedule.steps if until is None else min(until, schedule.steps)
    began = time.monotonic() - spent[0], time.process_time() - spent[1]
    with (folder / "log.jsonl").open("a") as log:
        for step, crops in _prepared(bank, schedule, seed, range(first, last)):
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step)
            terms = _step(learner, optimizer, crops, stream("words", seed, step), vv=step % 3 == 1)
            done, seconds = step + 1, [time.monotonic() - began[0], time.process_time() - began[1]]
            if done % 20 == 0 or done == last:
                line = {"step": done, "wall_s": round(seconds[0], 1), "cpu_s": round(seconds[1], 1)}
                log.write(json.dumps(line | {name: round(term.item(), 4) for name, term in terms.items()}) + "\n")
                log.flush()
            if done % schedule.save_every == 0 or done == last:
                _save(folder / "checkpoint.pt", learner, optimizer, done, seconds, settings)
                print(f"step {done} of {schedule.steps}, {seconds[0] / 60:.0f} min", flush=True)
    path = folder / "embedded.safetensors"
    save_file(learner.export(), path)
    return path


def _optimizer(learner: Learner, schedule: Schedule) -> torch.optim.Optimizer:
    """AdamW that decays matrices alone."""
    learnt = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learnt if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def _step(
    learner: Learner, optimizer: torch.optim.Optimizer, crops: Crops | None, words: np.random.Generator, *, vv: bool
) -> dict[str, Tensor]:
    """One step on crops, or of the text tower alone; returns the terms of the loss."""
    clip, device = learner.clip, learner.table.device
    if crops is None:
        terms = paraphrases(clip, learner.lexicon, learner.table, words)
    else:
        mean, std = (value.to(device) for value in NORMALISATION)
        images = (torch.from_numpy(crops.images).to(device) - mean) / std
        terms = losses(clip, learner.lexicon, learner.table, crops, images, words, vv=vv)
    optimizer.zero_grad(set_to_none=True)
    torch.stack([WEIGHTS[name] * term for name, term in terms.items()]).sum().backward()
    nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        clip.logit_scale.clamp_(0.0, math.log(100.0))
    return {name: term.detach() for name, term in terms.items()}


def _prepared(bank: Bank, schedule: Schedule, seed: int, steps: range) -> Iterator[tuple[int, Crops | None]]:
    """The crops of each step, prepared in a thread while the steps before run."""

    def sample(step: int) -> Crops | None:
        scope = schedule.scope(step)
        if scope is None:
            return None
        pairs = schedule.whole_batch if scope == "whole" else schedule.part_batch
        return sample_crops(bank, pairs, scope, seed, step, schedule.stress_at(step))

    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(sample, step) for step in steps[:_AHEAD]]
        for at, step in enumerate(steps):
            crops = waiting.pop(0).result()
            if at + _AHEAD < len(steps):
                waiting.append(pool.submit(sample, steps[at + _AHEAD]))
            yield step, crops


def _some_patches(bank: Bank) -> Tensor:
    """Patches (n, 192) of normalised part crops."""
    crops = sample_crops(bank, 128, "part", 0, 0)
    images = (torch.from_numpy(crops.images) - NORMALISATION[0]) / NORMALISATION[1]
    return nn.functional.unfold(images, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)


def _resume(path: Path, learner: Learner, optimizer: Any, settings: dict[str, Any]) -> tuple[int, list[float]]:
    """Load a checkpoint; returns the next step and the wall and processor seconds spent.

    Raises:
        ValueError: the checkpoint was made with other settings.
    """
    if not path.exists():
        return 0, [0.0, 0.0]
    kept = torch.load(path, weights_only=True)
    made = kept["settings"]
    if differing := [key for key in made | settings if made.get(key) != settings.get(key)]:
        came, asked = (", ".join(f"{key}={its.get(key)}" for key in differing) for its in (made, settings))
        raise ValueError(f"{path} was made with {came}; asked for {asked}. Take another folder.")
    learner.load_state_dict(kept["learner"])
    optimizer.load_state_dict(kept["optimizer"])
    _log.info("going on after step %d", kept["step"])
    return kept["step"], kept["seconds"]


def _save(
    path: Path, learner: Learner, optimizer: Any, step: int, seconds: list[float], settings: dict[str, Any]
) -> None:
    fresh = path.with_suffix(".new")
    state = {
        "learner": learner.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds,
        "settings": settings,
    }  # fmt: skip
    torch.save(state, fresh)
    fresh.replace(path)
