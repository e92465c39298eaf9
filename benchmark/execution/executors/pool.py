"""Processes of this machine, each with a CLIP that stays loaded; one that dies takes its job with it, not the sweep."""

import os
from collections.abc import Generator
from concurrent.futures import FIRST_COMPLETED, wait

import torch

from benchmark.execution import stopping
from benchmark.execution.attempt import Job
from benchmark.execution.build import resolve_device
from benchmark.execution.executors.worker import Worker
from benchmark.execution.schedule import Schedule
from benchmark.records.store import Record
from benchmark.request.groups import ExecutorSettings, TrainerSettings
from benchmark.request.registry import ConfigError

WAIT = 1.0  # seconds after which the driver looks whether it shall stop


class Pool:
    """A worker for each GPU or share of one; without GPUs, for each `executor.cores` cores."""

    def __init__(self, settings: ExecutorSettings, trainer: TrainerSettings) -> None:
        self.settings = settings
        self.places = places(settings, trainer)
        self.slots = len(self.places)

    def run(self, schedule: Schedule) -> Generator[tuple[Job, Record]]:
        threads = self.settings.cores or max(1, cores() // self.slots)
        workers = [Worker(threads=threads, devices=place, timeout=self.settings.timeout) for place in self.places]
        try:
            while not stopping.asked():
                for worker in workers:
                    if not worker.busy and (job := schedule.take(worker.last)) is not None:
                        worker.start(job)
                busy = [worker for worker in workers if worker.busy]
                if not busy:
                    return
                wait([worker.future for worker in busy], WAIT, FIRST_COMPLETED)
                yield from (worker.finish() for worker in busy if worker.future.done())
            yield from (worker.interrupt() for worker in workers if worker.busy)
        finally:
            for worker in workers:
                worker.close()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def places(settings: ExecutorSettings, trainer: TrainerSettings) -> list[str | None]:
    """What each worker sees as CUDA_VISIBLE_DEVICES, a worker each; None for one without a GPU.

    Raises:
        ConfigError: there are fewer GPUs than a cell needs, or fewer workers than asked for.
    """
    if resolve_device(trainer.accelerator).type != "cuda":
        return [None] * (settings.workers or max(1, cores() // ((settings.cores or 1) * trainer.devices)))
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = seen.split(",") if seen else [str(index) for index in range(torch.cuda.device_count())]
    wide = int(max(settings.gpus_per_cell, trainer.devices))  # 0 where cells share a GPU
    if wide > 1:
        found = [",".join(gpus[start : start + wide]) for start in range(0, len(gpus) - wide + 1, wide)]
    else:
        found = [gpu for gpu in gpus for _ in range(int(1 / settings.gpus_per_cell) if wide == 0 else 1)]
    if len(found) < (settings.workers or 1):
        raise ConfigError(
            f"executor.workers={settings.workers} with {max(settings.gpus_per_cell, trainer.devices):g} GPUs per cell "
            f"need more than the {len(gpus)} GPUs here, which serve {len(found)} cells at once."
        )
    return [*found[: settings.workers]]
