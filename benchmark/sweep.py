"""The local executor: one cell after another in this process; a cell that raises is recorded and the sweep goes on."""

import gc
import logging
import signal
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pandas as pd
import torch

from benchmark.cell import Cell
from benchmark.fitting import auxiliary_cell
from benchmark.leaderboard import write_tables
from benchmark.loggers import cell_loggers, log_metrics
from benchmark.measure import run_cell
from benchmark.opening import open_data
from benchmark.provenance import provenance
from benchmark.store import Record, Store, StoreError
from datamodules.components.base import AnomalyDataModule
from datamodules.components.sample import DataError

SMALLEST = 8  # image side used where only files are looked at


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
        open_data(replace(cell, categories=cell.seen), SMALLEST).verify()
    for cell in {cell.settings["protocol"]["auxiliary"]: cell for cell in cells}.values():
        if cell.settings["protocol"]["auxiliary"]:
            _verify_auxiliary(auxiliary_cell(cell))


def _verify_auxiliary(cell: Cell) -> None:
    data = open_data(cell, SMALLEST)
    data.verify()
    if not any(s.anomalous for c in data.chosen if data.masks_known(c) for s in data.tests(c)):
        raise DataError(f"{cell.dataset} cannot be an auxiliary data set: it has no anomalous image with a mask.")


def fingerprints(cells: Sequence[Cell]) -> dict[tuple[str, str], str]:
    """Fingerprint of each (data set, category) as it lies on disk now."""
    found: dict[tuple[str, str], str] = {}
    opened: dict[tuple[str, tuple[str, ...]], AnomalyDataModule] = {}
    for cell in cells:
        for category in cell.seen:
            if (cell.dataset, category) not in found:
                key = (cell.dataset, cell.seen)
                opened[key] = opened.get(key) or open_data(replace(cell, categories=cell.seen), SMALLEST)
                found[cell.dataset, category] = opened[key].fingerprint(category)
    return found


def state(cell: Cell, store: Store, now: dict[tuple[str, str], str]) -> str:
    """done, failed, missing, or stale when the files changed since the record was made."""
    record = store.current(cell.id)
    if record is None:
        return "missing"
    if record.status != "ok":
        return "failed"
    known = record.data.get("fingerprints", {})
    changed = any(
        now.get((cell.dataset, category), known.get(category)) != known.get(category) for category in cell.seen
    )
    return "stale" if changed else "done"


def run_sweep(sweep: Sweep, cells: Sequence[Cell], report: Callable[[Cell, Record], None]) -> pd.DataFrame:
    """Run `cells`, keep a record of each attempt, and rewrite the tables after each; return the leaderboard.

    Raises:
        StoreError: a record cannot be written; the sweep stops, since it could keep nothing more.
        Interrupted: SIGINT or SIGTERM; the cell under way is recorded as interrupted.
    """
    _quiet()
    table = write_tables(sweep.store.folder, sweep.store.all_current())
    for cell in cells:
        record = attempt(sweep, cell)
        sweep.store.save(record)
        table = write_tables(sweep.store.folder, sweep.store.all_current())
        report(cell, record)
        if record.status == "interrupted":
            raise Interrupted
        if record.status == "failed" and sweep.fail_fast:
            break
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
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        provenance=provenance() | {"device": _device_name()},
    )
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with cell_loggers(cell, number, folder, sweep.store.folder, sweep.name) as loggers:
            measured = run_cell(cell, loggers)
            log_metrics(loggers, measured.metrics)
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


def _quiet() -> None:
    """Silence what Lightning says for every cell anew; errors still show."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
