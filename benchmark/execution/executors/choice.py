"""Which executor runs a sweep. A new one is a file beside this and two lines here."""

from collections.abc import Generator
from typing import Protocol

from benchmark.execution.attempt import Job
from benchmark.execution.executors.local import Local
from benchmark.execution.executors.pool import Pool
from benchmark.execution.schedule import Schedule
from benchmark.records.store import Record
from benchmark.request.groups import ExecutorSettings, RaySettings, TrainerSettings


class Executor(Protocol):
    """Runs the jobs of a schedule."""

    slots: int  # jobs that run at once

    def run(self, schedule: Schedule) -> Generator[tuple[Job, Record]]:
        """Take jobs and yield the record of each that has ended, until none is left or the sweep was asked to stop.

        A job whose process has died, or that took too long, yields a failed record too, whose error is of the type
        `DIED` or "TimeoutError". Closing the iterator ends what is under way.
        """


def open_executor(settings: ExecutorSettings, ray: RaySettings, trainer: TrainerSettings) -> Executor:
    """The executor that the settings name, for cells of these devices; ConfigError if it cannot work here."""
    if settings.name == "ray":
        from benchmark.execution.executors.cluster import Cluster  # noqa: PLC0415  (an optional package)

        return Cluster(settings, ray, trainer)
    return Pool(settings, trainer) if settings.name == "pool" else Local(settings)
