"""A cell on several devices: torchrun starts a process for each, which all fit alike and share the test images.

Batches are dealt whole, and what a rank predicts reaches all, so that every number is that of one process. A fit is
faster by nothing: a loss is no mean over images, so a batch that is divided has another one.
"""

import os
import pickle
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from benchmark.execution import stopping
from benchmark.execution.attempt import Job, attempt, begin_record, failed
from benchmark.execution.executors.lifetime import end_with_parent
from benchmark.execution.executors.remote import RANKS
from benchmark.records.store import Record

LOOK = 0.2  # seconds between two looks at the processes
LOG = "ranks.log"
PATIENCE = timedelta(days=7)  # of a rank that waits for the fit of the first


def run_job(job: Job) -> Record:
    """Run one cell, in this process unless it wants several."""
    return attempt_on_ranks(job) if job.cell.where.trainer.devices > 1 else attempt(job)


def attempt_on_ranks(job: Job) -> Record:
    """Run one cell on `trainer.devices` processes of this machine."""
    job.logs.mkdir(parents=True, exist_ok=True)
    asked, answer = job.logs / "job.pickle", job.logs / "record.pickle"
    asked.write_bytes(pickle.dumps(job))
    answer.unlink(missing_ok=True)
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={job.cell.where.trainer.devices}"]
    command = [sys.executable, *start, "-m", __name__, str(asked)]
    environment = {name: value for name, value in os.environ.items() if name not in RANKS}
    with (job.logs / LOG).open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, preexec_fn=end_with_parent)
        while process.poll() is None:
            time.sleep(LOOK)
            if stopping.asked():
                process.terminate()
                process.wait()
    asked.unlink()
    if not answer.is_file():
        error = RuntimeError(f"torchrun ended with exit code {process.returncode}; see {job.logs / LOG}.")
        return failed(begin_record(job), error, "interrupted" if stopping.asked() else "failed")
    record: Record = pickle.loads(answer.read_bytes())
    answer.unlink()
    return record


def main(file: Path) -> None:
    """What each process does."""
    end_with_parent()
    rank = int(os.environ["LOCAL_RANK"])
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if seen is None or "," in seen:
        os.environ["CUDA_VISIBLE_DEVICES"] = seen.split(",")[rank] if seen else str(rank)
    job: Job = pickle.loads(file.read_bytes())
    if rank:
        where = job.cell.where
        silent = replace(where, logger=replace(where.logger, name="csv"))
        job = replace(job, logs=job.logs / f"rank-{rank}", cell=replace(job.cell, where=silent))
    dist.init_process_group("gloo", timeout=PATIENCE)
    with stopping.stoppable():
        record = attempt(job)
    if not rank:
        (job.logs / "record.pickle").write_bytes(pickle.dumps(record))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
