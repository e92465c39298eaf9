"""`bench status` and `bench leaderboard`: state and tables of a results folder, from its records alone."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmark.commands.terminal import plain, print_display
from benchmark.metrics.table import metric_names
from benchmark.records import ablation, claims, uncertainty
from benchmark.records.ablation import write_ablations
from benchmark.records.cost import cost_table
from benchmark.records.display import displays
from benchmark.records.leaderboard import FILES, everything, write_tables
from benchmark.records.page.write import write_page
from benchmark.records.store import Record, Store, StoreError, read_sweep
from benchmark.request import registry
from benchmark.request.cell import differences
from benchmark.request.inputs import code

WIDE = 300  # columns of text; a pipe or a log file has no width of its own


def open_store(folder: Path) -> Store:
    """The records of a results folder; StoreError if it holds none."""
    if not (folder / "cells").is_dir():
        raise StoreError(f"{folder} is not a results folder: it has no cells/. `bench run` makes one below results/.")
    return Store(folder)


def rebuild(folder: Path, show_all: bool = False, *, wide: bool = False, pictures: bool = True) -> None:
    """Rewrite the tables and print the leaderboard, with `show_all` also the superseded records, in separate rows.

    With `pictures` the page shows images of the data sets, as far as they are on this machine.
    """
    store, console = open_store(folder), Console()
    table = write_tables(folder, store.all_current())
    shown = everything(store.all_records()) if show_all else table
    if wide:
        costs = cost_table(store.all_current(), shown)
        for each in displays(shown, costs=costs):
            print_display(each, console, wide=True)
    else:
        print_leaderboard(shown, folder, console)
    print_page(store, table, console, anew=True, pictures=pictures)
    print_uncertainty(store, console)
    print_ablations(store, console)
    _print_set_aside(store)


def print_status(folder: Path) -> int:
    """Print each sweep's progress and failures; 0 if every requested cell is there, else 1."""
    store = open_store(folder)
    running = {path.parent.name: (path, claim) for path in claims.claims_of(folder) if (claim := claims.holder(path))}
    missing = 0
    for path in sorted((folder / "sweeps").glob("*.json")):
        sweep = read_sweep(path)
        if sweep is None:
            print(f"{path} is no sweep of this suite: left out")
            continue
        missing += _print_sweep(path.stem, sweep, store, running)
    _print_set_aside(store)
    return 1 if missing else 0


def _print_sweep(
    name: str, sweep: dict[str, Any], store: Store, running: Mapping[str, tuple[Path, claims.Claim]]
) -> int:
    """Print where a sweep stands; returns how many of its cells are not there."""
    records = {cell: store.current(cell) for cell in sweep["cells"]}
    done = [record for record in records.values() if record is not None and record.status == "ok"]
    at_work = {cell: running[cell] for cell in records if cell in running}
    failed = {cell: its for cell, its in records.items() if its and its.status != "ok" and cell not in at_work}
    absent = len(records) - len(done) - len(failed) - len(at_work)
    words = [f"{len(done)} done", f"{len(failed)} failed", f"{absent} missing of {len(records)}"]
    words += [f"{len(at_work)} running"] if at_work else []
    words += [f"{stale} done by other code"] if (stale := sum(map(_is_stale, done))) else []
    words += [f"about {hours:.1f} h left"] if at_work and (hours := _hours_left(done, absent, len(at_work))) else []
    print(f"{name}: {', '.join(words)}")
    for cell, (path, claim) in at_work.items():
        print(f"  running {cell}: {claim}{claims.progress(path)}")
    for cell, record in failed.items():
        print(f"  {record.status} {cell}: {reason(record)}")
    if len(done) < len(records):
        print(f"  go on with: {shlex.join(sweep['argv'])}")
    return len(records) - len(done)


def _is_stale(record: Record) -> bool:
    """Whether other code than today's has made a record; `bench run` looks at the data too."""
    names = [("method", record.cell.method), *(("dataset", name) for name in record.cell.datasets)]
    if any(registry.why_broken(kind, name) for kind, name in names):
        return True
    return bool(differences({"code": record.content.get("code", {})}, {"code": code(record.cell)}))


def _hours_left(done: Sequence[Record], absent: int, workers: int) -> float:
    """Hours for the cells that are missing if each takes what those that are done took on average; 0 if none is."""
    return fmean(sum(record.seconds.values()) for record in done) * absent / workers / 3600 if done else 0.0


def _print_set_aside(store: Store) -> None:
    for path in store.set_aside:
        print(f"corrupt record{' set aside' if path.name.endswith('.corrupt') else ''}: {path}")
    if store.outdated:
        print(f"{store.outdated} records of an older version of the suite are kept on disk and left out of all tables.")


def reason(record: Record) -> str:
    """Why an attempt failed, in one line of printable characters."""
    return plain(f"{record.error.get('type')}: {str(record.error.get('message', '')).partition(chr(10))[0]}")


def print_leaderboard(table: pd.DataFrame, folder: Path, console: Console) -> None:
    """Print the leaderboard, a table per backbone, and the paths of the files."""
    for shown in displays(table):
        print_display(shown, console)
    for name in FILES:
        console.print(str(folder / name), highlight=False, soft_wrap=True)


def print_uncertainty(store: Store, console: Console) -> None:
    """Write how far the means of the leaderboard may be trusted; print the ranks over data sets and the files."""
    for sentence in uncertainty.write_uncertainty(store):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    for name in uncertainty.FILES:
        console.print(str(store.folder / name), highlight=False, soft_wrap=True)


def print_page(
    store: Store, table: pd.DataFrame, console: Console, *, anew: bool = False, pictures: bool = True
) -> None:
    """Write the page of the leaderboard where it tells of older records, or `anew`, and print its path."""
    try:
        console.print(str(write_page(store, table, anew=anew, pictures=pictures)), highlight=False, soft_wrap=True)
    except StoreError as error:  # the records and the tables are there
        console.print(f"note: {error}", markup=False, highlight=False, soft_wrap=True)


def print_ablations(store: Store, console: Console) -> None:
    """Write and print the comparisons of variants, a table each, if any were asked for in this folder."""
    console = _wide(console)
    tables = write_ablations(store)
    for table in tables:
        grid = Table(title=table.title, caption="\n".join(table.notes), title_justify="left", caption_justify="left")
        for name in table.head:
            grid.add_column(_title(name), overflow="fold")
        for row in table.rows:
            grid.add_row(*row)
        console.print(grid)
    for name in ablation.FILES if tables else ():
        console.print(str(store.folder / name), highlight=False)


def _wide(console: Console) -> Console:
    return console if console.is_terminal else Console(file=console.file, width=WIDE)


def _title(name: str) -> str:
    """A heading; the name of a metric may be broken where it has an underscore."""
    return name.replace("_", " ") if name in metric_names() else name
