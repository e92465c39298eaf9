"""Runs the cells of a request under a progress bar, a line for each that ends."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmark.commands.report import reason
from benchmark.execution.build import open_backbone
from benchmark.execution.local import Interrupted, Sweep, run_sweep, verify_data
from benchmark.execution.loggers import log_leaderboard, resolve_wandb_mode
from benchmark.records.leaderboard import describe_leaks, write_tables
from benchmark.records.store import Record, Store, StoreError
from benchmark.request.cell import Cell

OK, FAILED, INTERRUPTED = 0, 1, 130


def check_before(todo: Sequence[Cell]) -> None:
    """Look at data and backbone, so that what is wrong with them is said before anything runs."""
    verify_data(todo)
    open_backbone(todo[0])


def run(
    todo: Sequence[Cell], name: str, store: Store, argv: Sequence[str], console: Console, *, fail_fast: bool
) -> tuple[int, pd.DataFrame]:
    """Run cells; the exit code and the leaderboard, which W&B gets too where it is asked for."""
    placed = _placed(todo, store.folder)
    code, table = _run(Sweep(name, argv, store, fail_fast), placed, console)
    logger = placed[0].where.logger
    if logger.name == "wandb" and code != INTERRUPTED:
        log_leaderboard(table, logger, store.folder, name)
    return code, table


def _placed(todo: Sequence[Cell], folder: Path) -> list[Cell]:
    """The cells with the results folder and the W&B mode decided once for all."""
    logger = resolve_wandb_mode(todo[0].where.logger)
    return [replace(cell, where=replace(cell.where, logger=logger, results=str(folder))) for cell in todo]


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
