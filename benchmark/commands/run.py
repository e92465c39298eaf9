"""`bench run`: checks everything, runs what is missing, shows progress, prints the leaderboard."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from benchmark.commands.report import print_ablations, print_leaderboard, print_page, print_uncertainty
from benchmark.execution.states import State, absent_data, cell_states
from benchmark.records import claims, uncertainty
from benchmark.records.leaderboard import write_tables
from benchmark.records.store import DIED, Record, Store, alone, check_writable, sweep_up, write_atomic
from benchmark.request import costs, registry
from benchmark.request.cell import Cell
from benchmark.request.compose import Request, plan
from benchmark.request.plan import Plan
from benchmark.request.sharing import Shard
from benchmark.request.variants import trials
from datamodules.components.sample import DataError

OK, FAILED = 0, 1
AGAIN = {
    "never": ("missing", "stale"),
    "failed": ("missing", "stale", "failed"),
    "always": ("missing", "stale", "failed", "done"),
}


def dry_run(request: Request, folder: Path, *, quiet: bool) -> None:
    """Print every cell with its state, and what those that are not done would take; if `quiet`, how many there are.

    Data may be absent.
    """
    planned = plan(request, data_needed=False)
    states = cell_states(planned.cells, Store(folder), absent := absent_data(planned.cells))
    for line in () if quiet else _dry_lines(planned, states, absent):
        print(line)
    print(f"{len(planned.cells)} cells: {_count(states.values())}; results folder {folder}")


def _dry_lines(planned: Plan, states: Mapping[str, State], absent: Mapping[str, str]) -> Iterator[str]:
    for cell in planned.cells:
        name, why = states[cell.id]
        state = f"{name} ({why})" if why else name
        words = [f"{state:<8} {cell.id}", *([cell.method_label] if cell.method_label != cell.method else [])]
        words += ["(data absent)"] if cell.dataset in absent else []
        yield "  ".join(words)
    yield from (f"note: {note}" for note in (*planned.notes, *registry.left_out(), *absent.values()))
    yield from costs.lines([cell for cell in planned.cells if states[cell.id].name != "done"])


class Way(NamedTuple):
    """How a request is carried out: what of it runs, under which words, and who is told."""

    argv: Sequence[str]
    overwrite: str
    fail_fast: bool
    shard: Shard | None
    console: Console  # told how far it is
    tables: Console  # told the leaderboard and where the files are


class Ended(NamedTuple):
    """What became of a request."""

    code: int  # 0 if all requested cells, of a shard its own, are there, else 1; 130 if it was interrupted
    cells: Sequence[Cell]  # those requested
    store: Store


def run(request: Request, folder: Path, way: Way) -> Ended:
    """Run what `way.overwrite` allows, rebuild the tables and tell them.

    Raises:
        NotKept: a record cannot be written.
        UserError: the request or the data are wrong; nothing has run.
    """
    console, tables, shard, argv = way.console, way.tables, way.shard, way.argv
    planned = plan(request, data_needed=True)
    for note in (*planned.notes, *registry.left_out()):
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    check_writable(folder)
    cells = [cell for cell in planned.cells if shard is None or shard.holds(cell)]
    with alone(folder, shard=str(shard) if shard else ""):
        store = _open(folder, console, whole=shard is None)
        _record_fallen(store, cells, request.sweep, argv, console)
        todo = _choose(cells, store, way.overwrite, console)
        _write_request(folder, request, planned, argv)
        if todo:
            from benchmark.commands import progress  # noqa: PLC0415  (a CLIP and Lightning, which a finished folder spares)
            from benchmark.execution.sweep import Sweep  # noqa: PLC0415

            settings = request.settings
            sweep = Sweep(request.sweep, argv, store, settings.executor, settings.ray, way.fail_fast)
            code, made = progress.run(todo, sweep, console)
        else:
            code, made = OK, write_tables(folder, store.all_current())
        current = Store(folder) if shard else store
        if shard:
            made = write_tables(folder, current.all_current())
        print_leaderboard(made.wide, folder, tables)
        print_page(current, made, tables)
        if todo or not all((folder / name).exists() for name in uncertainty.FILES):
            print_uncertainty(folder, made, tables)
        print_ablations(store, tables)
    return Ended(code if code != OK or _all_there(cells, store) else FAILED, cells, store)


def _open(folder: Path, console: Console, *, whole: bool) -> Store:
    """What the results folder holds; says which records count for nothing. Others write there unless it is `whole`."""
    if whole:
        sweep_up(folder)
    store = Store(folder, mend=True)
    if store.outdated:
        console.print(f"note: {store.outdated} records of an older version of the suite stand in no table")
    for path in store.set_aside:
        console.print(f"note: a corrupt record was set aside as {path}; its cell runs again", soft_wrap=True)
    return store


def _record_fallen(store: Store, cells: Sequence[Cell], sweep: str, argv: Sequence[str], console: Console) -> None:
    """Record the attempts whose process has ended without a record as failed, so that their cells run with care."""
    known = {cell.id: cell for cell in cells}
    for path in claims.claims_of(store.folder):
        cell = known.get(path.parent.name)
        if cell is None or claims.holder(path):
            continue
        claim = claims.read(path)
        began = datetime.fromtimestamp(claim.started if claim else path.stat().st_mtime, UTC).isoformat()
        told = {
            "type": DIED,
            "message": f"{claim or 'its process'} has ended without a record: killed, out of memory, or crashed.",
            "traceback": "",
        }
        store.save(Record(cell.id, claims.number_of(path), "failed", sweep, [*argv], cell, began, error=told))
        claims.release(path)
        console.print(f"note: {cell.id}: {told['message']}", markup=False, highlight=False, soft_wrap=True)


def _choose(cells: Sequence[Cell], store: Store, overwrite: str, console: Console) -> list[Cell]:
    """The cells that are to run; says how many, and checks what they need."""
    absent = absent_data(cells)
    states = cell_states(cells, store, absent)
    todo = [cell for cell in cells if states[cell.id].name in AGAIN[overwrite]]
    if lacking := [(cell, name) for cell in todo for name in cell.datasets if name in absent]:
        cell, name = lacking[0]
        why = f"{cell.method} is fitted on an auxiliary data set, {name}. " if name != cell.dataset else ""
        how = ". protocol.auxiliary=NAME chooses another one; procedural_auxiliary needs no download." if why else ""
        raise DataError(f"{why}{absent[name]}{how}")
    if todo:
        from benchmark.commands import progress  # noqa: PLC0415  (a CLIP and Lightning, which a finished folder spares)

        progress.check_before(todo, console)
    words = f"{len(cells)} cells: {_count(states.values())}; {len(todo)} to run; results in {store.folder}"
    console.print(words, highlight=False, soft_wrap=True)
    unseen = {name for cell in cells if states[cell.id].name == "done" for name in cell.datasets if name in absent}
    for name in sorted(unseen):
        console.print(f"note: {name} is absent, so recorded cells were not compared with its files", soft_wrap=True)
    for why, count in Counter(its.why for its in states.values() if its.why).items():
        console.print(f"note: {count} stale ({why})", markup=False, highlight=False, soft_wrap=True)
    return todo


def _all_there(cells: Sequence[Cell], store: Store) -> bool:
    records = [store.current(cell.id) for cell in cells]
    return all(record is not None and record.status == "ok" for record in records)


def _write_request(folder: Path, request: Request, planned: Plan, argv: Sequence[str]) -> None:
    content = {
        "argv": list(argv),
        "cells": [cell.id for cell in planned.cells],
        "settings": request.settings.values,
        "origins": request.settings.origins,
    }
    if compared := trials(planned.cells):
        content["trials"] = compared
    write_atomic(folder / "sweeps" / f"{request.sweep}.json", json.dumps(content, indent=1) + "\n")


def _count(states: Iterable[State]) -> str:
    counts = Counter(its.name for its in states)
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
