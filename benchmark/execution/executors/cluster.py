"""Processes of Ray, on this machine or a cluster. The driver alone keeps records, counts attempts and tries again."""

import os
import pickle
import socket
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from benchmark.execution import stopping
from benchmark.execution.attempt import Job, begin_record, failed
from benchmark.execution.executors import remote
from benchmark.execution.executors.worker import died
from benchmark.execution.schedule import Schedule
from benchmark.records.store import Record
from benchmark.request.cell import Cell
from benchmark.request.groups import ExecutorSettings, RaySettings, TrainerSettings
from benchmark.request.registry import ConfigError

WAIT = 1.0  # seconds after which the driver looks for jobs that took too long
LOOK = 5.0  # seconds after which it looks for nodes that came or went
PATIENCE = 10.0  # seconds in which the head of a cluster must answer
MIB = 2**20


@dataclass
class _Task:
    """A job under way."""

    job: Job
    actor: Any  # None where the process ends with the job
    since: float
    late: bool = False  # ended by us


class Cluster:
    """One task of Ray, or one call of an actor, per job; never more than fit, so that none waits unseen."""

    def __init__(self, settings: ExecutorSettings, ray_settings: RaySettings, trainer: TrainerSettings) -> None:
        """Start Ray or join a cluster.

        Raises:
            ConfigError: Ray is not installed, there is no such cluster, or no node has what a cell needs.
        """
        self.settings, self.warm = settings, ray_settings.warm
        self._ray = _connect(ray_settings)
        self._cores = settings.cores or trainer.devices
        self._gpus = self._gpus_of_a_cell(trainer)
        self._looked, self._capacity = 0.0, 0
        self._last: dict[Any, Cell] = {}  # by actor, the cell that it ran last
        self._idle: list[Any] = []
        self.slots = self.capacity()
        if not self.slots:
            nodes = [f"{its.get('CPU', 0):g} cores and {its.get('GPU', 0):g} GPUs" for its in self._nodes()]
            self._ray.shutdown()
            raise ConfigError(
                f"a cell needs {self._cores} cores and {self._gpus:g} GPUs of one node; the nodes have "
                f"{'; '.join(nodes) or 'nothing'}: change executor.cores or executor.gpus_per_cell."
            )

    def run(self, schedule: Schedule) -> Generator[tuple[Job, Record]]:
        running: dict[Any, _Task] = {}
        try:
            while not stopping.asked():
                while len(running) < self.capacity() and (task := self._begin(schedule, running)):
                    pass
                self._release(self.capacity() - len(running) if schedule.left else 0)
                if not running:
                    return
                done, _ = self._ray.wait([*running], num_returns=1, timeout=WAIT)
                for reference in done:
                    yield self._finish(reference, running.pop(reference))
                self._end_late(running)
            for reference, task in running.items():
                self._end(reference, task)
                error = stopping.Stopped("the sweep was asked to stop.")
                yield task.job, failed(begin_record(task.job), error, "interrupted")
        finally:
            for reference, task in running.items():
                self._end(reference, task)
            self._ray.shutdown()

    def capacity(self) -> int:
        """The jobs that run at once on the nodes that are alive."""
        if time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            fitting = [its.get("CPU", 0) // self._cores for its in self._nodes()]
            if self._gpus:
                shares = [_shares(its.get("GPU", 0), self._gpus) for its in self._nodes()]
                fitting = [min(pair) for pair in zip(fitting, shares, strict=True)]
            self._capacity = int(sum(fitting))
        return self._capacity

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _gpus_of_a_cell(self, trainer: TrainerSettings) -> float:
        there = any(its.get("GPU") for its in self._nodes())
        if trainer.accelerator not in ("auto", "gpu") or (trainer.accelerator == "auto" and not there):
            return 0
        gpus = max(self.settings.gpus_per_cell, trainer.devices if trainer.devices > 1 else 0)
        if gpus > 1 and gpus != int(gpus):
            self._ray.shutdown()
            raise ConfigError(f"executor.gpus_per_cell above 1 must be a whole number, got {gpus:g}.")
        return gpus

    def _begin(self, schedule: Schedule, running: dict[Any, _Task]) -> _Task | None:
        actor = self._idle[-1] if self._idle else None
        job = schedule.take(self._last.get(actor))
        if job is None:
            return None
        if not self._gpus:  # Ray hides no GPU from a task that asks for none
            trainer = replace(job.cell.where.trainer, accelerator="cpu")
            sent = replace(job, cell=replace(job.cell, where=replace(job.cell.where, trainer=trainer)))
        else:
            sent = job
        resources = {"num_cpus": self._cores, "num_gpus": self._gpus}
        if self.warm:
            actor = self._idle.pop() if self._idle else self._new_actor(resources)
            self._last[actor] = job.cell
            reference = actor.run.remote(pickle.dumps(sent), self._cores)
        else:
            task = self._ray.remote(max_calls=1)(remote.run)
            options = task.options(name=job.cell.id, max_retries=0, **resources)
            reference = options.remote(pickle.dumps(sent), self._cores)
        running[reference] = _Task(job, actor, time.monotonic())
        return running[reference]

    def _new_actor(self, resources: dict[str, float]) -> Any:
        return self._ray.remote(remote.Runner).options(max_restarts=0, max_task_retries=0, **resources).remote()

    def _finish(self, reference: Any, task: _Task) -> tuple[Job, Record]:
        job, errors = task.job, self._ray.exceptions
        if task.late:
            self._forget(task)
            error = TimeoutError(f"it ran longer than executor.timeout={self.settings.timeout:g} s and was ended.")
            return job, failed(begin_record(job), error)
        try:
            record: Record = replace(pickle.loads(self._ray.get(reference)), cell=job.cell)
        except errors.OutOfMemoryError:
            self._forget(task)
            return job, died(job, "was ended by Ray, since its node ran out of memory")
        except errors.RayTaskError as error:  # raised by the job itself, such as a StoreError
            raise error.cause from None
        except errors.RayError as error:
            self._forget(task)
            return job, died(job, f"was lost: {str(error).partition(chr(10))[0]}")
        if task.actor is not None:
            self._idle.append(task.actor)
        return job, record

    def _release(self, most: int) -> None:
        """End idle processes above a number: what they hold is what others, sent to a node that is gone, wait for."""
        while len(self._idle) > max(0, most):
            self._ray.kill(idle := self._idle.pop(0))
            self._last.pop(idle, None)

    def _forget(self, task: _Task) -> None:
        self._last.pop(task.actor, None)
        self._looked = 0.0  # its node may be gone

    def _end_late(self, running: dict[Any, _Task]) -> None:
        limit = self.settings.timeout
        for reference, task in running.items():
            if limit and not task.late and time.monotonic() - task.since > limit:
                task.late = True
                self._end(reference, task)

    def _end(self, reference: Any, task: _Task) -> None:
        if task.actor is None:
            self._ray.cancel(reference, force=True)
        else:
            self._ray.kill(task.actor)


def _connect(settings: RaySettings) -> Any:
    """The module ray, connected.

    Raises:
        ConfigError: it is not installed, or there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # noqa: PLC0415  (an optional package)
    except ImportError as error:
        raise ConfigError("executor=ray needs the package ray: pip install 'clip-ad-bench[ray]'.") from error
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    try:
        if settings.address is None:
            store = settings.object_store_mib * MIB
            ray.init(address="local", include_dashboard=False, object_store_memory=store, **quiet)
        else:
            _knock(settings.address)
            ray.init(address=settings.address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"ray.address={settings.address}: {str(error).partition(chr(10))[0]}") from error
    return ray


def _knock(address: str) -> None:
    """OSError or ValueError at once where nobody listens, since Ray tries again for hours; "auto" is Ray's to find."""
    if address == "auto":
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise ValueError('it must be "auto" or host:port.')
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise OSError(f"nobody answers there: {error}.") from error


def _shares(gpus: float, each: float) -> float:
    """How many cells the GPUs of a node serve: a share lies on one GPU, several are whole."""
    return gpus * (1 // each) if each <= 1 else gpus // each
