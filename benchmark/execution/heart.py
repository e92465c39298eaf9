"""A thread of the driver: keeps the claims to running jobs fresh, says how far they are, and writes it to a log."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from typing import NamedTuple

from benchmark.execution.attempt import Job
from benchmark.records import claims

LOOK = 1.0  # seconds between two looks at what is running
LOG = 30.0  # seconds between two lines of the log


class Running(NamedTuple):
    """A job under way, and what it says of itself."""

    job: Job
    since: float  # seconds that it runs
    progress: str

    def __str__(self) -> str:
        cell = self.job.cell
        words = f"{cell.method_label} {cell.dataset}/{cell.part} k={cell.shots} seed={cell.seed}"
        if self.job.fit_alone:
            words = f"fit of {cell.method_label} on {cell.settings.protocol.auxiliary} seed={cell.seed}"
        return f"{words}{self.progress} ({self.since:.0f} s)"


Show = Callable[[Sequence[Running]], None]


class Heart:
    """Claims jobs and beats for them until they are removed."""

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

    def add(self, job: Job) -> bool:
        """Claim a job and begin to beat for it; False if another process has claimed it."""
        if not claims.take(claims.path_of(job.logs)):
            return False
        with self._lock:
            self._jobs[job.logs] = (job, time.monotonic())
        return True

    def remove(self, job: Job) -> None:
        """It has ended, and what there is to keep of it is on disk."""
        with self._lock:
            self._jobs.pop(job.logs, None)
        claims.release(claims.path_of(job.logs))

    @contextmanager
    def giving_back(self) -> Iterator[None]:
        """Give back what is still claimed at the end, where the sweep could keep no record of it."""
        try:
            yield
        finally:
            for job, _ in list(self._jobs.values()):
                self.remove(job)

    def _live(self) -> None:
        beat = log = time.monotonic()
        while not self._end.wait(LOOK):
            now = time.monotonic()
            with self._lock:
                jobs = list(self._jobs.values())
            running = [Running(job, now - since, claims.progress(claims.path_of(job.logs))) for job, since in jobs]
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
