"""What a reader sees of a leaderboard: a table for each backbone, from which every format is rendered.

What all rows share stands once, in the caption. Within a comparison the best mean is bold and the second underlined.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from benchmark.metrics.table import metric_names, metrics
from benchmark.records import paired, rows

KEYS = ("dataset", "kind", "protocol", "shots", "method")  # first columns
BELOW = " ▼"  # beside a value below chance
NOTHING = "–"
ALONE = ("method",)  # columns that stay where all rows agree
FIRST, SECOND = 1, 2  # places within a comparison
#: Metrics by what a reader misses most, for where there is no room for all.
BY_INTEREST = (
    "image_AUROC", "pixel_AUPRO", "pixel_AUROC", "image_AP", "pixel_AP", "image_F1Max", "pixel_F1Max",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of a displayed table."""

    name: str  # in files
    numeric: bool = False

    @property
    def heading(self) -> str:
        """The name, of a metric in words."""
        return self.name.replace("_", " ") if self.name in metric_names(published=True) else self.name


@dataclass(frozen=True)
class Display:
    """A table as words, and what stands around it."""

    title: str
    notes: Sequence[str]  # sentences: what all rows share, and a warning
    columns: Sequence[Column]
    lines: Sequence[Sequence[str]]  # a word for each column
    places: Sequence[Sequence[int]]  # of each word within its comparison: FIRST, SECOND or 0
    groups: Sequence[Any]  # of each line: those of one comparison are equal
    legend: Sequence[str] = ()  # sentences: what marks mean

    def only(self, kept: Sequence[int]) -> "Display":
        """The same table with some columns."""
        return replace(
            self,
            columns=[self.columns[i] for i in kept],
            lines=[[line[i] for i in kept] for line in self.lines],
            places=[[places[i] for i in kept] for places in self.places],
        )


def displays(
    wide: pd.DataFrame, *, chosen: Sequence[str] | None = None, costs: pd.DataFrame | None = None
) -> list[Display]:
    """The leaderboard, a table for each backbone.

    Args:
        wide: of `leaderboard.wide_table`.
        chosen: metrics; None takes all that some row has.
        costs: of `cost.cost_table`, whose columns then stand behind the metrics.
    """
    wide = _told_once(wide)
    return [_display(its, chosen, costs) for _, its in wide.groupby(["backbone", "note"], sort=False)]


def category_displays(
    categories: pd.DataFrame, wide: pd.DataFrame, *, chosen: Sequence[str] | None = None
) -> list[Display]:
    """For each comparison and metric a table of categories, a column for each method, as papers print them.

    Args:
        categories: of `rows.category_table`.
        wide: the leaderboard, which says what compares.
        chosen: metrics; None takes the AUROCs and AUPRO that some row has.
    """
    found = []
    whole = wide[wide["kind"] == "all"]
    for key, its in whole.groupby(paired.GROUP, sort=False):
        told = dict(zip(paired.GROUP, key, strict=True))
        setups = {row["setup"]: row["method"] for row in its.to_dict("records")}
        parts = categories[categories["setup"].isin(setups)]
        for metric in chosen or ("image_AUROC", "pixel_AUROC", "pixel_AUPRO"):
            if parts[metric].notna().any():
                found.append(_by_category(told, metric, setups, parts, its))
    return found


def legend(table: pd.DataFrame) -> list[str]:
    """What marks of a displayed leaderboard mean, and what must be known of its metrics."""
    if table.empty:
        return []
    words = [f"{BELOW.strip()} below chance."] if table["below_chance"].astype(bool).any() else []
    words += paired.legend(table)
    notes = [line.note for line in metrics() if line.note and table[line.name].notna().any()]
    return [*words, *dict.fromkeys(notes)]


def percent(mean: Any, std: Any) -> str:
    """A mean and its standard deviation over seeds in percent; a dash where there is none."""
    if mean is None or pd.isna(mean):
        return NOTHING
    return f"{100 * mean:.1f}" + ("" if std is None or pd.isna(std) else f" ± {100 * std:.1f}")


def word(value: Any) -> str:
    """A value that is no metric."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return NOTHING
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _display(table: pd.DataFrame, chosen: Sequence[str] | None, costs: pd.DataFrame | None) -> Display:
    names = [name for name in chosen or metric_names(published=True) if name in table and table[name].notna().any()]
    told = [fact.heading for fact in rows.FACTS if fact.heading]
    sources = {fact.heading: fact.name for fact in rows.FACTS}
    extra = [name for name in costs.columns if name not in rows.SETUP] if costs is not None else []
    columns = [*map(Column, (*KEYS, *told)), *(Column(name, numeric=True) for name in names)]
    columns += [*(Column(name, numeric=True) for name in extra), Column("status")]
    prices = {} if costs is None else {row["setup"]: row for row in costs.to_dict("records")}
    lines = [
        [
            *(str(row[key]) for key in KEYS),
            *(word(row[sources[heading]]) for heading in told),
            *(_marked(row, name) for name in names),
            *(word(prices.get(row["setup"], {}).get(name)) for name in extra),
            row["status"],
        ]
        for row in table.to_dict("records")
    ]
    groups = [tuple(group) for group in table[[*paired.GROUP, "kind"]].itertuples(index=False)]
    places = _places([[row.get(name) for name in names] for row in table.to_dict("records")], groups)
    before, behind = len(KEYS) + len(told), len(extra) + 1
    full = [[*[0] * before, *its, *[0] * behind] for its in places]
    title, notes = str(table["backbone"].iloc[0]), [table["note"].iloc[0]]
    return _hoisted(Display(title, notes, columns, lines, full, groups, legend(table)))


def _marked(row: Mapping[Any, Any], name: str) -> str:
    tied = paired.TIED * (name in row["not_distinguishable"].split(", "))
    return percent(row[name], row.get(f"{name}_std")) + BELOW * (name in row["below_chance"].split(", ")) + tied


def _places(values: Sequence[Sequence[Any]], groups: Sequence[Any]) -> list[list[int]]:
    """Of each value the place in its column within its group; of a group of one there is none."""
    places = [[0] * len(line) for line in values]
    for group in dict.fromkeys(groups):
        its = [row for row, other in enumerate(groups) if other == group]
        if len(its) < 2:
            continue
        for column in range(len(values[0])):
            printed = {row: round(values[row][column], 3) for row in its if not pd.isna(values[row][column])}
            best = sorted(set(printed.values()), reverse=True)
            for row, value in printed.items():
                places[row][column] = best.index(value) + 1 if value in best[:SECOND] else 0
    return places


def _hoisted(whole: Display) -> Display:
    """The table without the columns that say the same in every line, which its notes then say once."""
    shared = {
        i: whole.lines[0][i]
        for i, column in enumerate(whole.columns)
        if not column.numeric and column.name not in ALONE and len({line[i] for line in whole.lines}) == 1
    }
    told = ", ".join(f"{whole.columns[i].name} {value}" for i, value in shared.items() if value)
    notes = [f"In every row: {told}."] if told else []
    kept = [i for i in range(len(whole.columns)) if i not in shared]
    return replace(whole.only(kept), notes=[*notes, *filter(None, whole.notes)])


def _told_once(wide: pd.DataFrame) -> pd.DataFrame:
    """The rows without those of a kind that say what the row of all categories says: nothing else was measured."""
    values = [name for name in metric_names(published=True) if name in wide]
    setup = list(rows.SETUP)
    every = {
        tuple(row[name] for name in setup): _said(row, values) for row in wide[wide["kind"] == "all"].to_dict("records")
    }
    new = [
        row["kind"] == "all"
        or not (row["n_seeds"] and every.get(tuple(row[name] for name in setup)) != _said(row, values))
        for row in wide.to_dict("records")
    ]
    whole = wide["kind"] == "all"
    return wide[whole | ~pd.Series(new, index=wide.index)]


def _said(row: Mapping[Any, Any], values: Iterable[str]) -> tuple[str, ...]:
    return tuple(percent(row[name], row.get(f"{name}_std")) for name in values)


def _by_category(
    told: Mapping[str, Any], metric: str, setups: Mapping[str, str], parts: pd.DataFrame, its: pd.DataFrame
) -> Display:
    names = list(dict.fromkeys(parts["category"]))
    cells = {(row["category"], row["setup"]): row for row in parts.to_dict("records")}
    means = {row["setup"]: row for row in its.to_dict("records")}
    found = [[cells.get((name, setup), {}) for setup in setups] for name in names]
    found.append([means[setup] for setup in setups])
    lines = [
        [name, *(percent(cell.get(metric), cell.get(f"{metric}_std")) for cell in line)]
        for name, line in zip([*names, "mean"], found, strict=True)
    ]
    turned = [[line[i].get(metric) for line in found] for i in range(len(setups))]  # methods × categories
    places = _places(turned, ["one"] * len(setups))
    upright = [[0, *(places[i][row] for i in range(len(setups)))] for row in range(len(lines))]
    title = f"{metric.replace('_', ' ')}, {told['dataset']}, {told['protocol']}, {told['shots']} shots"
    notes = [f"{told['backbone']}; comparison {told['comparison']}."]
    columns = [Column("category"), *(Column(name, numeric=True) for name in setups.values())]
    return Display(title, notes, columns, lines, upright, [*range(len(lines))])
