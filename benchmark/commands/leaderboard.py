"""`bench leaderboard --format`: the tables of a results folder for a paper or another program."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmark.commands.columns import plain
from benchmark.commands.status import left_out, open_store
from benchmark.metrics.table import metric_names
from benchmark.records import formats, superseding
from benchmark.records.cost import COLUMNS, cost_table
from benchmark.records.display import category_displays, displays
from benchmark.records.leaderboard import INNER, csv_text, long_table, wide_table
from benchmark.records.rows import category_table
from benchmark.records.store import Store
from benchmark.request.registry import unknown

FORMS = ("md", "csv", "json", "latex", "text")


def print_format(folder: Path, form: str, metrics: Sequence[str] | None, *, by_category: bool, wide: bool) -> None:
    """Print the leaderboard alone, in a format for other programs; nothing is written.

    Args:
        folder: a results folder.
        form: "md", "csv", "json", "latex" or "text".
        metrics: those shown; None shows all, by category the AUROCs and AUPRO.
        by_category: a table of categories for each comparison and metric.
        wide: costs too.
    """
    store = open_store(folder)
    for line in left_out(store):
        print(plain(line), file=sys.stderr)
    if form in ("csv", "json"):
        chosen = data(store, metrics, by_category=by_category, wide=wide)
        print(csv_text(chosen) if form == "csv" else _json(chosen), end="")
        return
    records = list(superseding.standing(store.all_current()))
    long = long_table(records)
    table, categories = wide_table(long), category_table(long)
    if by_category:
        shown = category_displays(categories, table, chosen=metrics)
    else:
        shown = displays(table, chosen=metrics, costs=cost_table(records, table) if wide else None)
    render = {"md": formats.markdown, "latex": formats.latex, "text": formats.plain}[form]
    print("\n".join(map(render, shown)), end="")


def read_form(form: str, metrics: str | None) -> tuple[str, Sequence[str] | None]:
    """A format and metrics by their words; ConfigError names what is allowed."""
    if form not in FORMS:
        raise unknown("format", form, FORMS)
    chosen = [name.strip() for name in metrics.split(",")] if metrics else None
    known = metric_names(published=True)
    if wrong := [name for name in chosen or () if name not in known]:
        raise unknown("metric", wrong[0], known)
    return form, chosen


def data(store: Store, metrics: Sequence[str] | None, *, by_category: bool, wide: bool) -> pd.DataFrame:
    """The rows for other programs, values as fractions; arguments as of `print_format`."""
    records = list(superseding.standing(store.all_current()))
    long = long_table(records)
    table = category_table(long) if by_category else wide_table(long)
    costs = cost_table(records, table) if wide and not by_category else None
    every = {f"{name}{end}": name for name in metric_names(published=True) for end in ("", "_std", "_n")}
    unwanted = [name for name in table if metrics and name in every and every[str(name)] not in metrics]
    chosen = table.drop(columns=[*INNER, *unwanted])
    if costs is not None:
        chosen = chosen.merge(costs[["setup", *COLUMNS]], on="setup", how="left")
    return chosen


def _json(table: pd.DataFrame) -> str:
    """The rows as objects, each number as it is, null for what is undefined or not known."""
    rows = [{key: None if pd.isna(value) else value for key, value in row.items()} for row in table.to_dict("records")]
    return json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
