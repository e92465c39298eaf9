"""Runs the cells of a request under a progress bar, a line for each that ends."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lightning.pytorch.utilities.seed import isolate_rng
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmark.commands.columns import plain
from benchmark.commands.status import reason
from benchmark.commands.terminal import loud
from benchmark.execution.build import open_backbone
from benchmark.execution.heart import Running
from benchmark.execution.loggers.choice import prepare
from benchmark.execution.loggers.leaderboard import log_leaderboard
from benchmark.execution.sweep import Interrupted, Sweep, run_sweep, verify_data
from benchmark.records.leaderboard import LeaderboardTables, describe_leaks, write_tables
from benchmark.records.page.write import write_page
from benchmark.records.store import NotKept, Record, Store, StoreError
from benchmark.request import registry
from benchmark.request.cell import Cell
from methods.components.base import Method

OK, FAILED, INTERRUPTED = 0, 1, 130
SHOWN = 3  # running cells in the live line


def check_before(todo: Sequence[Cell], console: Console) -> None:
    """Look at methods, data and backbone, so that what is wrong with them is said before anything runs."""
    for name in dict.fromkeys(cell.method for cell in todo):
        registry.load(registry.method(name), Method)
    for note in verify_data(todo):
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    open_backbone(todo[0])


def run(todo: Sequence[Cell], sweep: Sweep, console: Console) -> tuple[int, LeaderboardTables]:
    """Run cells; the exit code and the tables, whose leaderboard W&B gets too where it is asked for."""
    placed = _placed(todo, sweep.store.folder, console)
    with isolate_rng(include_cuda=False):  # of whoever calls; to ask CUDA would make a context on every GPU
        code, made = _run(sweep, placed, console)
    logger = placed[0].where.logger
    if logger.name == "wandb" and code != INTERRUPTED:
        with suppress(StoreError):  # the caller says why there is no page
            write_page(sweep.store, made)
        _note(log_leaderboard(logger, sweep.store.folder, sweep.name), console)
    return code, made


def _placed(todo: Sequence[Cell], folder: Path, console: Console) -> list[Cell]:
    """The cells with the results folder and the W&B mode decided once for all."""
    logger, problem = prepare(todo[0].where.logger, folder)
    _note(problem, console)
    return [replace(cell, where=replace(cell.where, logger=logger, results=str(folder))) for cell in todo]


def _note(words: str, console: Console) -> None:
    if words:
        console.print(f"note: {words}", markup=False, highlight=False, soft_wrap=True)


def _run(sweep: Sweep, todo: Sequence[Cell], console: Console) -> tuple[int, LeaderboardTables]:
    ended: dict[str, Record] = {}  # the last attempt at each cell
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
        live = progress.add_task("", total=None, visible=False)

        def report(cell: Cell, record: Record) -> None:
            ended[cell.id] = record
            counts = Counter(its.status for its in ended.values())
            words = f"done {counts['ok']} failed {counts['failed']} left {len(todo) - len(ended)}"
            progress.update(task, completed=len(ended), description=words)
            progress.console.print(_line(cell, record), highlight=False, soft_wrap=True)
            for remark in record.remarks:
                progress.console.print(f"note: {plain(remark)}", markup=False, highlight=False, soft_wrap=True)

        def show(running: Sequence[Running]) -> None:
            more = f" and {len(running) - SHOWN} more" if len(running) > SHOWN else ""
            words = "; ".join(escape(str(its)) for its in running[:SHOWN]) + more
            progress.update(live, description=words, visible=bool(running))

        try:
            made = run_sweep(sweep, todo, report, show)
        except Interrupted:
            loud(console).print("interrupted; the same command goes on from here")
            return INTERRUPTED, write_tables(sweep.store.folder, sweep.store.all_current())
        except StoreError as error:
            raise NotKept(f"{error} Make room, then run the same command: it goes on from here.") from error
    failures = [record for record in ended.values() if record.status == "failed"]
    for line in _failures(failures, sweep.store):
        loud(console).print(line, markup=False, highlight=False, soft_wrap=True)
    return (FAILED if failures else OK), made


def _failures(failures: Sequence[Record], store: Store) -> list[str]:
    """What failed and where to read more, a line each."""
    lines = [f"  {its.cell_id}: {reason(its)}  {store.path(its)}" for its in failures]
    return [f"{len(failures)} cells failed:", *lines] if failures else []


def _line(cell: Cell, record: Record) -> str:
    where = f"{plain(cell.method_label)} {cell.dataset}/{cell.part} {cell.protocol} k={cell.shots} seed={cell.seed}"
    if record.status != "ok":
        return f"[red]{record.status}[/red] {escape(where)}: {escape(reason(record))}"
    seconds = f"{sum(record.seconds.values()):.1f} s"
    if leaked := describe_leaks(record.leaks):
        return f"[yellow]leak[/yellow]   {escape(where)}: {escape(leaked)}  {seconds}"
    return f"ok     {escape(where)}  {seconds}"
