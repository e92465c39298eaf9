"""The local executor: one cell after another in this process; a cell that raises is recorded and the sweep goes on."""

import gc
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pandas as pd
import torch

from benchmark.execution.content import SMALLEST, Contents
from benchmark.execution.data import DataSpec, auxiliary, open_data, target
from benchmark.execution.fitting import quiet
from benchmark.execution.loggers import cell_loggers, log_metrics
from benchmark.execution.provenance import provenance
from benchmark.execution.run_cell import run_cell
from benchmark.records.leaderboard import write_tables
from benchmark.records.store import Record, Store, StoreError
from benchmark.request.cell import Cell, differences
from benchmark.request.knowledge import knowledge
from datamodules.components.sample import DataError

EVERY = 30.0  # seconds between two rewritings of the tables, at least
SHARE = 0.01  # of the time that rewriting them may take


class Interrupted(Exception):
    """The user stopped the sweep; what had finished is on disk."""


@dataclass(frozen=True)
class Sweep:
    """What the executor needs besides cells."""

    name: str
    argv: Sequence[str]
    store: Store
    fail_fast: bool = False


def verify_data(cells: Sequence[Cell]) -> None:
    """Look at all files of all cells before anything runs; DataError names the first wrong one."""
    largest: dict[tuple[str, tuple[str, ...]], Cell] = {}
    for cell in cells:
        key = (cell.dataset, cell.seen)
        if key not in largest or cell.shots > largest[key].shots:
            largest[key] = cell
    for cell in largest.values():
        open_data(target(cell, cell.seen), SMALLEST).verify()
    for spec in {spec.dataset: spec for spec in map(auxiliary, cells) if spec}.values():
        _verify_auxiliary(spec)


def _verify_auxiliary(spec: DataSpec) -> None:
    data = open_data(spec, SMALLEST)
    data.verify()
    if not any(s.anomalous for c in data.chosen if data.masks_known(c) for s in data.tests(c)):
        raise DataError(f"{spec.dataset} cannot be an auxiliary data set: it has no anomalous image with a mask.")


def run_sweep(sweep: Sweep, cells: Sequence[Cell], report: Callable[[Cell, Record], None]) -> pd.DataFrame:
    """Run `cells`, keep a record of each attempt, and rewrite the tables now and then; return the leaderboard.

    Raises:
        StoreError: a record cannot be written; the sweep stops, since it could keep nothing more.
        Interrupted: SIGINT or SIGTERM; the cell under way is recorded as interrupted.
    """
    quiet()
    tables = Tables(sweep.store)
    try:
        for cell in cells:
            record = attempt(sweep, cell)
            sweep.store.save(record)
            tables.touch()
            report(cell, record)
            if record.status == "interrupted":
                raise Interrupted
            if record.status == "failed" and sweep.fail_fast:
                break
    finally:
        table = tables.write()
    return table


class Tables:
    """The tables of a results folder while it grows: rewritten so seldom that it takes no part of a sweep's time."""

    def __init__(self, store: Store) -> None:
        self.store, self.due = store, time.monotonic() + EVERY

    def touch(self) -> None:
        """Rewrite the tables if that is due."""
        if time.monotonic() >= self.due:
            self.write()

    def write(self) -> pd.DataFrame:
        """Rewrite the tables and return the leaderboard."""
        start = time.monotonic()
        table = write_tables(self.store.folder, self.store.all_current())
        now = time.monotonic()
        self.due = now + max(EVERY, (now - start) / SHARE)
        return table


def attempt(sweep: Sweep, cell: Cell) -> Record:
    """Run one cell; whatever it raises becomes its record."""
    number, folder = sweep.store.attempt_folder(cell.id)
    record = Record(
        cell_id=cell.id,
        attempt=number,
        status="ok",
        sweep=sweep.name,
        argv=list(sweep.argv),
        cell=cell,
        started=datetime.now(UTC).isoformat(),
        provenance=provenance() | {"device": _device_name()},
    )
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        record = replace(record, content=Contents({}).of(cell), knows=knowledge(cell))
        with cell_loggers(cell, number, folder, sweep.store.folder, sweep.name) as loggers:
            measured = run_cell(cell, loggers)
            log_metrics(loggers, measured.metrics)
        if changed := differences(record.content, Contents({}).of(cell)):
            raise DataError(f"files changed while the cell ran ({'; '.join(changed)}); run it again.")
        return replace(record, **measured._asdict())
    except StoreError:
        raise
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning turns SIGINT and SIGTERM into SystemExit
        return replace(record, status="interrupted", error=_describe(error))
    except Exception as error:  # noqa: BLE001  whatever a method raises belongs in its record, not over the sweep
        return replace(record, status="failed", error=_describe(error))
    finally:
        for signal_number, handler in handlers.items():
            signal.signal(signal_number, handler)
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()


def _describe(error: BaseException) -> dict[str, str]:
    return {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"
