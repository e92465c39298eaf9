"""Rows of the leaderboard, from the long table: which values are averaged, and the facts beside each mean."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from benchmark.metrics.table import metric_names, metrics
from benchmark.records.store import Record
from benchmark.request.cell import digest
from benchmark.request.knowledge import KNOWN

#: What the cells of a row share. `setup` hashes all settings; `code` and `weights` are what carried them out.
SETUP = (
    "method", "dataset", "variant", "protocol", "shots", "backbone", "note", "setup", "limit", "code", "weights",
    "superseded",
)  # fmt: skip
ROW = (*SETUP, "kind")
NOT_RECORDED, NOTHING = "not recorded", "nothing"  # of what a method knows
NOT_MEASURED = "not measured"  # status of a metric that the suite did not have when the cell was measured


@dataclass(frozen=True)
class Row:
    """The lines of the long table that one row is made of."""

    lines: pd.DataFrame  # all, those of failed cells included
    counted: pd.DataFrame  # those that a mean may take; none where no cell succeeded
    expected: Sequence[str]  # categories of the row's kind; empty where they are found on disk

    @property
    def measured(self) -> pd.DataFrame:
        return self.lines[self.lines["metric"] != ""]

    @property
    def cells(self) -> pd.DataFrame:
        """One line of each cell that a mean takes."""
        return self.counted.drop_duplicates("cell")


class Fact(NamedTuple):
    """A column of the leaderboard that is neither what a row's cells share nor a metric."""

    name: str  # of the column in leaderboard.csv
    of_row: Callable[[Row], Any]
    of_record: Callable[[Record], Any] | None = None  # makes a column of this name in the long table, for `of_row`
    heading: str = ""  # of the column in rendered tables; empty leaves it out


def comparison(row: Row) -> str:
    """One id for those of all cells; empty if there is none."""
    ids = sorted(set(row.counted["comparison_id"]))
    return digest(ids)[:8] if ids else ""


def knows(row: Row) -> str:
    """What the method knew in some cell of the row, in the words and the order of `KNOWN`."""
    said = set(row.cells["knows"])
    if not said or NOT_RECORDED in said:
        return NOT_RECORDED if said else ""
    return ", ".join(word for word in KNOWN if any(word in words.split(", ") for words in said)) or NOTHING


FACTS = (
    Fact("comparison", comparison, heading="comparison"),
    Fact("knows", knows, lambda record: NOT_RECORDED if record.knows is None else ", ".join(record.knows), "knows"),
    Fact("n_seeds", lambda row: row.counted["seed"].nunique(), heading="seeds"),
    Fact("categories", lambda row: row.measured["category"].nunique()),
)


def row_table(long: pd.DataFrame, categories: Mapping[str, Mapping[str, Sequence[str]]]) -> pd.DataFrame:
    """Mean over categories for each seed, then over seeds, with the facts of each row.

    Only seeds that measured the same categories are averaged, the most categories first. A metric that some of their
    category runs have not measured has no mean.

    Args:
        long: the long table with a column `kind`.
        categories: of each data set by kind; none where they are found on disk.

    Returns:
        A line for each row: its keys, `FACTS`, `status`, `below_chance`, and for each metric its mean, `_std` over
        seeds and `_n`, the number of values that the mean takes.
    """
    keys = list(ROW)
    measured = long[long["metric"] != ""]
    _assert_one_cell(measured)
    counted = _complete(measured.merge(_counted_seeds(measured), on=[*keys, "seed"]), keys)
    macro = counted.groupby([*keys, "seed", "metric"], sort=False)["value"].mean().reset_index()
    table = over_seeds(macro, keys)
    sizes = counted.groupby([*keys, "metric"], sort=False)["value"].count().unstack("metric")
    for name in metric_names():
        table[f"{name}_n"] = sizes[name].to_numpy() if name in sizes else 0
    parts = dict(list(counted.groupby(keys, sort=False)))
    said = []
    for key, group in long.groupby(keys, sort=False):
        shared: dict[str, Any] = dict(zip(keys, key, strict=True))
        row = Row(group, parts.get(key, counted.iloc[:0]), categories[shared["dataset"]][shared["kind"]])
        facts = {fact.name: fact.of_row(row) for fact in FACTS}
        said.append(shared | facts | {"status": "; ".join(_status(row)) or "ok", "below_chance": ""})
    columns = [*keys, *(fact.name for fact in FACTS), "status", "below_chance"]
    found = pd.DataFrame(said, columns=columns).merge(table, how="left", on=keys)
    for name in metric_names():
        found[f"{name}_n"] = found[f"{name}_n"].fillna(0).astype(int)
    found["below_chance"] = _below_chance(found)
    return found


def category_table(long: pd.DataFrame) -> pd.DataFrame:
    """Mean and deviation over seeds of each setup and category."""
    keys = [*SETUP, "category"]
    return over_seeds(_complete(long[long["metric"] != ""], keys), keys)


def over_seeds(values: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """A column for the mean and one for the deviation (n - 1) of each metric, over all values with equal keys."""
    groups = values.groupby([*keys, "metric"], sort=False)["value"]
    means, deviations = groups.mean().unstack("metric"), groups.std(ddof=1).unstack("metric")
    columns = {}
    for name in (*metric_names(), *(extra for extra in means.columns if extra not in metric_names())):
        columns[name], columns[f"{name}_std"] = means.get(name), deviations.get(name)
    return pd.DataFrame(columns, index=means.index, dtype=float).reset_index()


def _complete(measured: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The lines, without the values of a metric that some line with equal keys has not measured."""
    gaps = measured.loc[measured["status"] == NOT_MEASURED, [*keys, "metric"]].drop_duplicates()
    incomplete = measured[[*keys, "metric"]].merge(gaps, how="left", indicator=True)["_merge"] == "both"
    return measured.assign(value=measured["value"].mask(incomplete.to_numpy()))


def _below_chance(found: pd.DataFrame) -> list[str]:
    """The metrics of each row whose mean is below that of uninformative scores."""
    low = {line.name: found[line.name] < line.chance for line in metrics() if line.chance is not None}
    return [", ".join(name for name in low if low[name][row]) for row in found.index]


def _assert_one_cell(measured: pd.DataFrame) -> None:
    """Assert that each category and seed of a row comes from one cell."""
    cells = measured.groupby([*ROW, "seed", "category"], sort=False)["cell"].nunique()
    assert (cells <= 1).all(), f"a row would average over several cells: {cells[cells > 1].index.tolist()[:3]}"


def _counted_seeds(measured: pd.DataFrame) -> pd.DataFrame:
    """The seeds of each row that a mean may take: those that measured one set of categories, the largest."""
    sets: dict[tuple[Any, ...], dict[frozenset[str], list[Any]]] = {}
    for key, group in measured.groupby([*ROW, "seed"], sort=False):
        row = tuple(key)
        sets.setdefault(row[:-1], {}).setdefault(frozenset(group["category"]), []).append(row[-1])
    kept = []
    for row, its in sets.items():
        most = max(its, key=lambda names: (len(names), len(its[names]), sorted(names)))
        kept += [(*row, seed) for seed in its[most]]
    return pd.DataFrame(kept, columns=[*ROW, "seed"]).astype(measured[[*ROW, "seed"]].dtypes.to_dict())


def _status(row: Row) -> list[str]:
    """The reasons why a row does not belong on a leaderboard as it is, in words."""
    lines, measured, counted = row.lines, row.measured, row.counted
    words = [word for word in lines["superseded"].unique() if word]
    if lines["limit"].astype(bool).any():
        words.append("limited")
    named = set(lines["category"]) - {"all"}  # a failed cell of all categories names none
    wanted = len(row.expected or named) * lines["seed"].nunique()
    present = len(measured[["category", "seed"]].drop_duplicates())
    failed = int((lines["metric"] == "").sum())
    if present < wanted or failed:
        words.append(f"partial: {present} of {wanted} category runs" + (f", {failed} failed" if failed else ""))
    if counted.empty:
        return words
    if left_out := sorted(set(measured["seed"]) - set(counted["seed"])):
        words.append(f"left out of the mean, for fewer categories: seed {', '.join(map(str, left_out))}")
    words += _gaps(counted)
    if counted["value"].isna().all():
        return [*words, "nothing is defined"]
    cells = measured.drop_duplicates("cell")
    if leaked := int(cells["leaked"].sum()):
        words.append(f"leak: {leaked} of {int(cells['tested'].sum())} test images were seen before the test")
    return words


def _gaps(counted: pd.DataFrame) -> list[str]:
    """Metrics that some categories lack, in words; an undefined category is left out of the mean."""
    shares: dict[str, list[str]] = {}
    for metric, its in counted.groupby("metric", sort=False):
        categories = its["category"].nunique()
        absent = its.loc[its["status"] == NOT_MEASURED, "category"].nunique()
        undefined = its.loc[its["value"].isna(), "category"].nunique()
        if absent:
            where = "" if absent == categories else f" in {absent} of {categories}"
            shares.setdefault(f"{NOT_MEASURED}{where}", []).append(str(metric))
        elif undefined and its["value"].notna().any():
            shares.setdefault(f"undefined in {undefined} of {categories}", []).append(str(metric))
    return [f"{share}: {', '.join(names)}" for share, names in shares.items()]
