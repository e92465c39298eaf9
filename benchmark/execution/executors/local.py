"""In this process, one cell after another; whatever once took a process with it gets one of its own."""

from collections.abc import Generator
from concurrent.futures import wait

from benchmark.execution import stopping
from benchmark.execution.attempt import Job
from benchmark.execution.executors.worker import Worker
from benchmark.execution.ranks import run_job
from benchmark.execution.schedule import Schedule
from benchmark.records.store import Record
from benchmark.request.groups import ExecutorSettings

WAIT = 1.0  # seconds after which the driver looks whether it shall stop


class Local:
    """The default."""

    slots = 1

    def __init__(self, settings: ExecutorSettings) -> None:
        self.settings = settings

    def run(self, schedule: Schedule) -> Generator[tuple[Job, Record]]:
        while not stopping.asked() and (job := schedule.take()) is not None:
            yield self._alone(job) if job.fell else (job, run_job(job))

    def _alone(self, job: Job) -> tuple[Job, Record]:
        worker = Worker(threads=None, devices=None, timeout=self.settings.timeout)
        try:
            worker.start(job)
            while not wait([worker.future], WAIT).done:
                if stopping.asked():
                    return worker.interrupt()
            return worker.finish()
        finally:
            worker.close()
