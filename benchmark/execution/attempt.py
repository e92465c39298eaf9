"""One attempt at a cell: whatever comes of it is a record. The same function serves every executor."""

import gc
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.distributed as dist
from lightning.pytorch.loggers import Logger

from benchmark.execution import kept_fit, stopping
from benchmark.execution.content import Contents
from benchmark.execution.evaluator import Kept
from benchmark.execution.fitting import quiet
from benchmark.execution.loggers.choice import cell_loggers, finish, problems
from benchmark.execution.predicted import predicted
from benchmark.execution.provenance import provenance
from benchmark.execution.run_cell import device_name, fit_ahead, run_cell
from benchmark.execution.watch import Pulse, Watch
from benchmark.records.claims import PROGRESS
from benchmark.records.predictions import Predicted, path_of, write
from benchmark.records.store import Record, StoreError, write_atomic
from benchmark.request import registry
from benchmark.request.cell import Cell, differences
from benchmark.request.knowledge import knowledge
from datamodules.components.base import AnomalyDataModule
from datamodules.components.sample import DataError
from methods.components.base import Method


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
        predictions: list[Predicted] = []
        fits: list[bytes] = []
        with cell_loggers(record, job.logs, job.results) as loggers:
            measured = run_cell(cell, _watch(job, loggers, predictions, fits))
            if changed := differences(record.content, Contents({}).of(cell)):
                raise DataError(f"files changed while the cell ran ({'; '.join(changed)}); run it again.")
            record = replace(record, **measured._asdict())
            if _is_first_rank():
                for found in predictions:
                    write(path_of(job.results, record), found)
                for fit in fits:
                    write_atomic(kept_fit.path_of(job.results, record), fit)
            finish(loggers, record, next(iter(predictions), None))
        return replace(record, remarks=[*record.remarks, *problems(loggers)])
    except StoreError:
        raise
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001  it belongs in a record, not over a sweep
        return failed(record, error, "interrupted" if stopping.asked() else "failed")
    finally:
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()


def _watch(job: Job, loggers: Sequence[Logger], predictions: list[Predicted], fits: list[bytes]) -> Watch:
    """Who looks at a cell: what is said of its test images is added to `predictions`, what it holds to `fits`."""
    pulse, wanted = Pulse(job.logs / PROGRESS), job.cell.where.predictions
    if not wanted.keep:
        return Watch(loggers, pulse)

    def keep(kept: Sequence[Kept], data: AnomalyDataModule) -> None:
        predictions.append(predicted(kept, data))

    def keep_fit(method: Method) -> None:
        if not job.cell.shots:
            return
        try:
            made = kept_fit.dump(method, job.cell.id, wanted.fit_max_mib * 2**20)
        except (TypeError, ValueError) as error:
            method.remarks.append(f"Its fit is not kept: {error}")
        else:
            fits.extend([made] if made is not None else [])

    return Watch(loggers, pulse, keep, wanted.max_mib * 2**20, keep_fit)


def _is_first_rank() -> bool:
    """Whether this process writes what all ranks of a cell hold alike."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def begin_record(job: Job) -> Record:
    """The record of an attempt of which nothing is known but that it has begun."""
    cell, device = job.cell, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Record(
        cell_id=cell.id,
        attempt=job.number,
        status="ok",
        sweep=job.sweep,
        argv=list(job.argv),
        cell=cell,
        started=datetime.now(UTC).isoformat(),
        provenance=provenance() | {"device": device_name(device)} | _plugins(cell),
    )


def _plugins(cell: Cell) -> dict[str, dict[str, str]]:
    """The packages of third parties that offer what a cell is made of: name and version, by method and data set."""
    names = [("method", cell.method), *(("dataset", name) for name in cell.datasets)]
    found = {f"{kind} {name}": registry.distribution(kind, name) for kind, name in names}
    found = {name: words for name, words in found.items() if words}
    return {"plugins": found} if found else {}


def failed(record: Record, error: BaseException, status: str = "failed") -> Record:
    """The record of an attempt that has ended with an error."""
    told = {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    return replace(record, status=status, error=told)
