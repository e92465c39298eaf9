"""A thread of the driver: keeps the claims of running jobs fresh, says how far they are, and writes it to a log."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, NamedTuple

from benchmark.execution.attempt import Job
from benchmark.execution.watch import FILE
from benchmark.records import claims

LOOK = 1.0  # seconds between two looks at what is running
LOG = 30.0  # seconds between two lines of the log


class Running(NamedTuple):
    """A job under way, and what it says of itself: see `benchmark.execution.watch.Pulse`."""

    job: Job
    since: float  # seconds that it runs
    told: Mapping[str, Any]

    def __str__(self) -> str:
        cell, told = self.job.cell, self.told
        words = f"{cell.method_label} {cell.dataset}/{cell.part} k={cell.shots} seed={cell.seed}"
        if self.job.fit_alone:
            words = f"fit of {cell.method_label} on {cell.settings.protocol.auxiliary} seed={cell.seed}"
        if told:
            loss = f", loss {told['loss']:.4g}" if told.get("loss") is not None else ""
            words += f": {told['phase']} {told['batch']}/{told['batches'] or '?'}{loss}"
        return f"{words} ({self.since:.0f} s)"


Show = Callable[[Sequence[Running]], None]


class Heart:
    """Beats for the jobs that were added and not yet removed."""

    def __init__(self, show: Show, log: Path) -> None:
        self._show, self._log = show, log
        self._jobs: dict[Path, tuple[Job, float]] = {}
        self._lock, self._end = Lock(), Event()
        self._thread = Thread(target=self._live, name="heart", daemon=True)

    def __enter__(self) -> "Heart":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._end.set()
        self._thread.join(timeout=5)

    def add(self, job: Job) -> None:
        """Begin to beat for a job."""
        with self._lock:
            self._jobs[job.logs] = (job, time.monotonic())

    def remove(self, job: Job) -> None:
        """It has ended."""
        with self._lock:
            self._jobs.pop(job.logs, None)

    def _live(self) -> None:
        beat = log = time.monotonic()
        while not self._end.wait(LOOK):
            now = time.monotonic()
            with self._lock:
                jobs = list(self._jobs.values())
            running = [Running(job, now - since, _told(job)) for job, since in jobs]
            self._show(running)
            if now - beat >= claims.BEAT:
                beat = now
                for job, _ in jobs:
                    claims.beat(claims.path_of(job.logs))
            if now - log >= LOG:
                log = now
                self._write(running)

    def _write(self, running: Sequence[Running]) -> None:
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        with suppress(OSError), self._log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(f"{stamp} {its}\n" for its in running)


def _told(job: Job) -> Mapping[str, Any]:
    try:
        told = json.loads((job.logs / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, Mapping) else {}
