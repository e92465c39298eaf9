"""`bench run`: checks everything, runs what is missing, shows progress, prints the leaderboard."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmark.cell import Cell
from benchmark.content import Contents
from benchmark.leaderboard import describe_leaks, write_tables
from benchmark.loggers import log_leaderboard, resolve_wandb_mode
from benchmark.opening import data_root, open_backbone
from benchmark.plan import Plan
from benchmark.registry import dataset
from benchmark.reporting import print_ablations, print_leaderboard, reason
from benchmark.request import Request, plan
from benchmark.store import Record, Store, StoreError, check_writable, sweep_up, write_atomic
from benchmark.sweep import Interrupted, State, Sweep, run_sweep, state, verify_data
from benchmark.variants import trials
from datamodules.components.sample import DataError

OK, FAILED, INTERRUPTED = 0, 1, 130
AGAIN = {
    "never": ("missing", "stale"),
    "failed": ("missing", "stale", "failed"),
    "always": ("missing", "stale", "failed", "done"),
}


def dry_run(request: Request, folder: Path) -> None:
    """Print every cell with its state; data may be absent, and then that is said."""
    planned = plan(request, data_needed=False)
    states = cell_states(planned.cells, Store(folder), absent := absent_data(planned.cells))
    for cell in planned.cells:
        name, why = states[cell.id]
        state = f"{name} ({why})" if why else name
        words = [f"{state:<8} {cell.id}", *([cell.method_label] if cell.method_label != cell.method else [])]
        words += ["(data absent)"] if cell.dataset in absent else []
        print("  ".join(words))
    for note in (*planned.notes, *absent.values()):
        print(f"note: {note}")
    print(f"{len(planned.cells)} cells: {_count(states.values())}; results folder {folder}")


def run(request: Request, folder: Path, overwrite: str, fail_fast: bool, argv: Sequence[str]) -> int:
    """Run what `overwrite` allows; the exit code says whether all requested cells are there."""
    console = Console()
    planned = plan(request, data_needed=True)
    cells = planned.cells
    for note in planned.notes:
        console.print(f"note: {note}", soft_wrap=True)
    check_writable(folder)
    with alone(folder):
        store, todo = _look(cells, folder, overwrite, console)
        _write_request(folder, request, planned, argv)
        code, table = _run(Sweep(request.sweep, argv, store, fail_fast), _placed(todo, folder), console)
        logger = todo[0].where["logger"] if todo else {"name": "csv"}
        if logger["name"] == "wandb" and code != INTERRUPTED:
            log_leaderboard(table, resolve_wandb_mode(logger), folder, request.sweep)
        print_leaderboard(table, folder, console)
        print_ablations(store, console)
    if code == OK and any(
        record is None or record.status != "ok" for record in (store.current(cell.id) for cell in cells)
    ):
        return FAILED
    return code


def _look(cells: Sequence[Cell], folder: Path, overwrite: str, console: Console) -> tuple[Store, list[Cell]]:
    """What the results folder holds, and which cells are to run; says so, and checks what they need."""
    sweep_up(folder)
    store = Store(folder)
    if store.outdated:
        console.print(f"note: {store.outdated} records of an older version of the suite stand in no table")
    for path in store.set_aside:
        console.print(f"note: a corrupt record was set aside as {path}; its cell runs again", soft_wrap=True)
    states = cell_states(cells, store, absent := absent_data(cells))
    todo = [cell for cell in cells if states[cell.id].name in AGAIN[overwrite]]
    for cell in todo:
        for name in (cell.dataset, cell.settings["protocol"]["auxiliary"]):
            if name in absent:
                raise DataError(absent[name])
    if todo:
        _check_before(todo)
    words = f"{len(cells)} cells: {_count(states.values())}; {len(todo)} to run; results in {folder}"
    console.print(words, highlight=False, soft_wrap=True)
    for why, count in Counter(its.why for its in states.values() if its.why).items():
        console.print(f"note: {count} stale ({why})", markup=False, highlight=False, soft_wrap=True)
    return store, todo


def absent_data(cells: Sequence[Cell]) -> dict[str, str]:
    """The data sets, targets and auxiliary ones, that are not on disk, and where they were looked for."""
    roots = {cell.dataset: cell.where["root"] for cell in cells}
    roots |= {name: cell.where["auxiliary_root"] for cell in cells if (name := cell.settings["protocol"]["auxiliary"])}
    absent = {}
    for name, root in roots.items():
        try:
            data_root(dataset(name), root)
        except DataError as error:
            absent[name] = str(error)
    return absent


def cell_states(cells: Sequence[Cell], store: Store, absent: Mapping[str, str]) -> dict[str, State]:
    """State of each cell by id; data sets that are absent are not compared with what a record knows of them."""
    contents = Contents(absent)
    return {cell.id: state(cell, store, contents) for cell in cells}


def _check_before(todo: Sequence[Cell]) -> None:
    """Data and backbone, so that what is wrong with them is said before anything runs."""
    verify_data(todo)
    open_backbone(todo[0])


def _placed(todo: Sequence[Cell], folder: Path) -> list[Cell]:
    """The cells with the results folder and the W&B mode decided once for all."""
    logger = resolve_wandb_mode(todo[0].where["logger"]) if todo else {}
    return [replace(cell, where={**cell.where, "logger": logger, "results": str(folder)}) for cell in todo]


def _run(sweep: Sweep, todo: Sequence[Cell], console: Console) -> tuple[int, pd.DataFrame]:
    counts: Counter[str] = Counter()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        task = progress.add_task(f"done 0 failed 0 left {len(todo)}", total=len(todo))

        def report(cell: Cell, record: Record) -> None:
            counts[record.status] += 1
            left = len(todo) - sum(counts.values())
            progress.update(task, advance=1, description=f"done {counts['ok']} failed {counts['failed']} left {left}")
            progress.console.print(_line(cell, record), highlight=False, soft_wrap=True)
            for remark in record.remarks:
                progress.console.print(f"note: {remark}", markup=False, highlight=False, soft_wrap=True)

        try:
            table = run_sweep(sweep, todo, report)
        except Interrupted:
            console.print("interrupted; the same command goes on from here")
            return INTERRUPTED, write_tables(sweep.store.folder, sweep.store.all_current())
        except StoreError as error:
            console.print(
                f"[red]error:[/red] {error} Make room, then run the same command: it goes on from here.", soft_wrap=True
            )
            raise SystemExit(FAILED) from error
    return (FAILED if counts["failed"] else OK), table


def _line(cell: Cell, record: Record) -> str:
    where = f"{cell.method_label} {cell.dataset}/{cell.part} {cell.protocol} k={cell.shots} seed={cell.seed}"
    if record.status != "ok":
        return f"[red]{record.status}[/red] {where}: {reason(record)}"
    seconds = f"{sum(record.seconds.values()):.1f} s"
    if leaked := describe_leaks(record.leaks):
        return f"[yellow]leak[/yellow]   {where}: {leaked}  {seconds}"
    return f"ok     {where}  {seconds}"


def _write_request(folder: Path, request: Request, planned: Plan, argv: Sequence[str]) -> None:
    content = {
        "argv": list(argv),
        "cells": [cell.id for cell in planned.cells],
        "settings": request.settings.values,
        "origins": request.settings.origins,
    }
    if "variants" in request.settings.values:
        content["trials"] = trials(request.settings, planned.cells)
    write_atomic(folder / "sweeps" / f"{request.sweep}.json", json.dumps(content, indent=1) + "\n")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a results folder; StoreError if another process does."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise StoreError(
            f"another `bench run` is writing to {folder}; wait for it or choose another --results."
        ) from None


def _count(states: Iterable[State]) -> str:
    counts = Counter(its.name for its in states)
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
