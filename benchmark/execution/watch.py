"""Who looks at a cell while it runs: loggers, who keeps predictions, and a callback that says how far it is."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from benchmark.execution import stopping
from benchmark.execution.evaluator import Kept
from datamodules.components.base import AnomalyDataModule
from methods.components.base import Method

EVERY = 1.0  # seconds between two reports


class Pulse(Callback):
    """Writes the phase, the step and the loss of a run to a file, once a second; stops it when the sweep shall stop."""

    def __init__(self, file: Path | None) -> None:
        """Report to `file`, or to nobody."""
        self.file = file
        self.due = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._is_due():
            loss = outputs["loss"] if isinstance(outputs, dict) and "loss" in outputs else outputs
            told = float(loss) if hasattr(loss, "item") else None
            self._tell("fit", trainer.global_step, trainer.estimated_stepping_batches, told)
        stopping.check()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._is_due():
            self._tell("test", batch_idx + 1, sum(trainer.num_test_batches), None)
        stopping.check()

    def _is_due(self) -> bool:
        """Whether the next report is due; a loss is read only then, since reading waits for a GPU."""
        return self.file is not None and time.monotonic() >= self.due

    def _tell(self, phase: str, done: int, total: float, loss: float | None) -> None:
        self.due = time.monotonic() + EVERY
        told = {"phase": phase, "batch": done, "batches": int(total) if total < float("inf") else None, "loss": loss}
        if self.file is not None:
            partial = self.file.with_name(f".tmp-{self.file.name}")
            with suppress(OSError):  # what nobody can read stops nothing
                self.file.parent.mkdir(parents=True, exist_ok=True)
                partial.write_text(json.dumps(told), encoding="utf-8")
                partial.replace(self.file)


@dataclass(frozen=True)
class Watch:
    """The loggers and callbacks of one attempt at a cell."""

    loggers: Sequence[Logger] = ()
    pulse: Pulse = field(default_factory=lambda: Pulse(None))
    keep: Callable[[Sequence[Kept], AnomalyDataModule], None] = lambda kept, data: None  # before they are measured
    raw_bytes: float = 0  # up to which maps reach `keep` as the method made them
    keep_fit: Callable[[Method], None] = lambda method: None  # between fit and test


#: Nobody looks.
NOBODY = Watch()
