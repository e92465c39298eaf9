"""`bench leaderboard`: the tables of a results folder, from its records alone."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmark.commands.status import left_out, open_store
from benchmark.commands.terminal import print_display
from benchmark.metrics.table import metric_names
from benchmark.records import ablation, uncertainty
from benchmark.records.ablation import write_ablations
from benchmark.records.cost import cost_table
from benchmark.records.display import displays
from benchmark.records.leaderboard import FILES, LeaderboardTables, everything, make_tables
from benchmark.records.page.write import write_page
from benchmark.records.store import Store, StoreError

WIDE = 300  # columns of text; a pipe or a log file has no width of its own


def rebuild(
    folder: Path, console: Console, show_all: bool = False, *, wide: bool = False, pictures: bool = True
) -> None:
    """Rewrite the tables and print the leaderboard, with `show_all` also the superseded records, in separate rows.

    With `pictures` the page shows images of the data sets, as far as they are on this machine.
    """
    store = open_store(folder)
    made = make_tables(store.all_current())
    made.write(folder)
    shown, costs = made.wide, made.costs if wide else None
    if show_all:
        shown = everything(store.all_records())
        costs = cost_table(store.all_current(), shown) if wide else None
    print_leaderboard(shown, folder, console, costs)
    print_page(store, made, console, anew=True, pictures=pictures)
    print_uncertainty(folder, made, console)
    print_ablations(store, console)
    for line in left_out(store):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_leaderboard(table: pd.DataFrame, folder: Path, console: Console, costs: pd.DataFrame | None = None) -> None:
    """Print the leaderboard, a table per backbone, and the paths of the files; with `costs` all columns and these."""
    for shown in displays(table, costs=costs):
        print_display(shown, console, wide=costs is not None)
    print_paths(folder, FILES, console)


def print_paths(folder: Path, names: Iterable[str], console: Console) -> None:
    """Print where files were written, a line each; a quiet command prints these alone."""
    for name in names:
        print(folder / name, file=console.file)


def print_uncertainty(folder: Path, made: LeaderboardTables, console: Console) -> None:
    """Write how far the means of the leaderboard may be trusted; print the ranks over data sets and the files."""
    for sentence in uncertainty.write_uncertainty(folder, made):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    print_paths(folder, uncertainty.FILES, console)


def print_page(
    store: Store, made: LeaderboardTables, console: Console, *, anew: bool = False, pictures: bool = True
) -> None:
    """Write the page of the leaderboard where it tells of older records, or `anew`, and print its path."""
    try:
        print(write_page(store, made, anew=anew, pictures=pictures), file=console.file)
    except StoreError as error:  # the records and the tables are there
        console.print(f"note: {error}", markup=False, highlight=False, soft_wrap=True)


def print_ablations(store: Store, console: Console) -> None:
    """Write and print the comparisons of variants, a table each, if any were asked for in this folder."""
    tables = write_ablations(store)
    for table in tables:
        grid = Table(title=table.title, caption="\n".join(table.notes), title_justify="left", caption_justify="left")
        for name in table.head:
            grid.add_column(_title(name), overflow="fold")
        for row in table.rows:
            grid.add_row(*row)
        console.print(grid, width=None if console.is_terminal else WIDE)
    print_paths(store.folder, ablation.FILES if tables else (), console)


def _title(name: str) -> str:
    """A heading; the name of a metric may be broken where it has an underscore."""
    return name.replace("_", " ") if name in metric_names() else name
