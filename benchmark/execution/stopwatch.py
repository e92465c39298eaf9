"""How fast a method judges images that lie on its device."""

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.components.sample import UnlabelledBatch


class Stopwatch(Callback):
    """Times each batch of a test from the images to scores and raw maps; reading and resizing are not counted."""

    def __init__(self) -> None:
        self._since = 0.0
        self._batches: list[tuple[int, float]] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._batches = []

    def on_test_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: UnlabelledBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._since = _now(pl_module)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: UnlabelledBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._batches.append((len(batch.indices), _now(pl_module) - self._since))

    def read(self) -> dict[str, Any]:
        """Images per second after the first batch, which warms up; with it, and `warm` false, where it is alone."""
        warm = len(self._batches) > 1
        images, seconds = (sum(column) for column in zip(*self._batches[warm:], strict=True))
        return {"images_per_s": round(images / seconds, 2), "warm": warm}


def _now(module: LightningModule) -> float:
    if module.device.type == "cuda":
        torch.cuda.synchronize(module.device)
    return time.perf_counter()
