"""One attempt at a cell: whatever comes of it is a record. The same function serves every executor."""

import gc
import traceback
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmark.execution import stopping
from benchmark.execution.content import Contents
from benchmark.execution.fitting import quiet
from benchmark.execution.loggers.choice import cell_loggers, finish, problems
from benchmark.execution.provenance import provenance
from benchmark.execution.run_cell import fit_ahead, run_cell
from benchmark.execution.watch import Pulse, Watch
from benchmark.records.claims import PROGRESS
from benchmark.records.predictions import path_of, read
from benchmark.records.store import Record, StoreError
from benchmark.request.cell import Cell, differences
from benchmark.request.knowledge import knowledge
from datamodules.components.sample import DataError


@dataclass(frozen=True)
class Job:
    """What an executor runs, in this process or in another: plain data."""

    cell: Cell
    number: int  # of the attempt
    logs: Path  # folder of the attempt
    results: Path  # the results folder
    sweep: str
    argv: tuple[str, ...]
    fit_alone: bool = False  # make the fit that the cell shares with others, and measure nothing
    fell: bool = False  # the attempt before took its process with it


def attempt(job: Job) -> Record:
    """Run one cell; whatever it raises becomes its record.

    Raises:
        StoreError: what it makes cannot be kept.
    """
    quiet()
    cell, record = job.cell, begin_record(job)
    try:
        if job.fit_alone:
            return replace(record, data={"auxiliary": fit_ahead(cell, Watch((), Pulse(job.logs / PROGRESS)))})
        record = replace(record, content=Contents({}).of(cell), knows=knowledge(cell))
        with cell_loggers(record, job.logs, job.results) as loggers:
            measured = run_cell(cell, Watch(loggers, Pulse(job.logs / PROGRESS)))
            if changed := differences(record.content, Contents({}).of(cell)):
                raise DataError(f"files changed while the cell ran ({'; '.join(changed)}); run it again.")
            record = replace(record, **measured._asdict())
            finish(loggers, record, read(path_of(job.results, record)))
        return replace(record, remarks=[*record.remarks, *problems(loggers)])
    except StoreError:
        raise
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001  it belongs in a record, not over a sweep
        return failed(record, error, "interrupted" if stopping.asked() else "failed")
    finally:
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()


def begin_record(job: Job) -> Record:
    """The record of an attempt of which nothing is known but that it has begun."""
    return Record(
        cell_id=job.cell.id,
        attempt=job.number,
        status="ok",
        sweep=job.sweep,
        argv=list(job.argv),
        cell=job.cell,
        started=datetime.now(UTC).isoformat(),
        provenance=provenance() | {"device": _device_name()},
    )


def failed(record: Record, error: BaseException, status: str = "failed") -> Record:
    """The record of an attempt that has ended with an error."""
    told = {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    return replace(record, status=status, error=told)


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"
