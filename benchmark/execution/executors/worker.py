"""A process that runs jobs one by one and may die of them."""

import faulthandler
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from benchmark.execution import stopping
from benchmark.execution.attempt import Job, begin_record, failed
from benchmark.execution.executors.lifetime import end_with_parent
from benchmark.execution.ranks import run_job
from benchmark.records.store import DIED, Record
from benchmark.request.cell import Cell

STDERR = "stderr.log"


class Worker:
    """One process, begun with its first job and kept, with its CLIP, for the next; a dead one is replaced."""

    def __init__(self, *, threads: int | None, devices: str | None, timeout: float | None) -> None:
        """Begin nothing yet.

        Args:
            threads: of torch; None leaves its default.
            devices: what the process sees as CUDA_VISIBLE_DEVICES; None leaves it.
            timeout: seconds after which a job is ended.
        """
        self.timeout = timeout
        self.last: Cell | None = None  # of the job under way or, if there is none, of that before
        self._work: tuple[Job, ProcessFuture] | None = None
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPool(1, initializer=_prepare, initargs=(threads, devices), context=context)

    def start(self, job: Job) -> None:
        """Begin a job; the worker must be idle."""
        self.last = job.cell
        self._work = (job, self._pool.schedule(run_aside, args=[job], timeout=self.timeout))

    @property
    def busy(self) -> bool:
        """Whether a job was begun whose record was not taken."""
        return self._work is not None

    @property
    def future(self) -> ProcessFuture:
        """Of the job under way."""
        return self._under_way()[1]

    def finish(self) -> tuple[Job, Record]:
        """The job and what has become of it, once it has ended; the worker is idle again.

        Raises:
            StoreError: of the job.
        """
        job, future = self._under_way()
        self._work = None
        try:
            return job, future.result()
        except TimeoutError:
            error = TimeoutError(f"it ran longer than executor.timeout={self.timeout:g} s and was ended.")
            return job, failed(begin_record(job), error)
        except ProcessExpired as error:
            return job, died(job, cause(error.exitcode))

    def interrupt(self) -> tuple[Job, Record]:
        """End the job under way, and the process."""
        job, _ = self._under_way()
        self.close()
        return job, failed(begin_record(job), stopping.Stopped("the sweep was asked to stop."), "interrupted")

    def close(self) -> None:
        """End the process, also in the middle of a job."""
        self._work = None
        self._pool.stop()
        self._pool.join()

    def _under_way(self) -> tuple[Job, ProcessFuture]:
        if self._work is None:
            raise RuntimeError("the worker is idle.")
        return self._work


def died(job: Job, cause: str) -> Record:
    """The record of a job whose process has ended without one."""
    log = job.logs / STDERR
    said = log.read_text(encoding="utf-8", errors="backslashreplace") if log.is_file() else ""
    told = {"type": DIED, "message": f"the process that ran it {cause}.", "traceback": said}
    return replace(begin_record(job), status="failed", error=told)


def cause(code: int | None) -> str:
    """How a process has ended, by its exit code."""
    if code is None or code >= 0:
        return f"ended by itself with exit code {code}"
    name = signal.Signals(-code).name
    hint = ", perhaps by the kernel for want of memory" if -code == signal.SIGKILL else ""
    return f"was ended by {name}{hint}"


def _prepare(threads: int | None, devices: str | None) -> None:
    """Make a new process ours: it ends with the driver, and Ctrl-C is the driver's affair."""
    if devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    if threads:
        torch.set_num_threads(threads)
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def run_aside(job: Job) -> Record:
    """Run a job in a process whose stderr goes to the job's logs."""
    with _stderr_to(job.logs / STDERR):
        return run_job(job)


@contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """Write what this process and its libraries say to a file, with the Python stack if a signal ends it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(2)
    with path.open("wb") as file:
        os.dup2(file.fileno(), 2)
        faulthandler.enable(file)
        try:
            yield
        finally:
            faulthandler.disable()
            os.dup2(kept, 2)
            os.close(kept)
    if not path.stat().st_size:
        path.unlink()
