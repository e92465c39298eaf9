"""Rows of a leaderboard from the long table: which values a mean may take, and what must be said beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmark.metrics.names import METRICS
from benchmark.request.cell import digest

#: What the cells of a row share. `setup` hashes all settings; `code` and `weights` are what carried them out.
SETUP = (
    "method", "dataset", "variant", "protocol", "shots", "backbone", "note", "setup", "limit", "code", "weights",
    "superseded",
)  # fmt: skip
ROW = (*SETUP, "kind")
CHANCE = {"image_AUROC": 0.5, "pixel_AUROC": 0.5}
FACTS = ("comparison", "n_seeds", "categories", "status", "below_chance")


def rows(long: pd.DataFrame, categories: Mapping[str, Mapping[str, Sequence[str]]]) -> pd.DataFrame:
    """Mean over categories for each seed, then over seeds, with what must be said of it.

    Only seeds that measured the same categories are averaged, the most categories first.

    Args:
        long: the long table with a column `kind`.
        categories: of each data set by kind; none where they are found on disk.

    Returns:
        A line for each row: its keys, `FACTS`, and for each metric its mean, `_std` over seeds and `_n`, the number of
        values that the mean takes.
    """
    keys = list(ROW)
    measured = long[long["metric"] != ""]
    _assert_one_cell(measured)
    counted = measured.merge(_counted_seeds(measured), on=[*keys, "seed"])
    macro = counted.groupby([*keys, "seed", "metric"], sort=False)["value"].mean().reset_index()
    table = over_seeds(macro, keys)
    sizes = counted.groupby([*keys, "metric"], sort=False)["value"].count().unstack("metric")
    for name in METRICS:
        table[f"{name}_n"] = sizes[name].to_numpy() if name in sizes else 0
    parts = dict(list(counted.groupby(keys, sort=False)))
    facts = []
    for key, group in long.groupby(keys, sort=False):
        its: dict[str, Any] = dict(zip(keys, key, strict=True))
        facts.append(its | _facts(group, parts.get(key), categories[its["dataset"]][its["kind"]]))
    found = pd.DataFrame(facts, columns=[*keys, *FACTS]).merge(table, how="left", on=keys)
    for name in METRICS:
        found[f"{name}_n"] = found[f"{name}_n"].fillna(0).astype(int)
    low = {name: found[name] < chance for name, chance in CHANCE.items()}
    found["below_chance"] = [", ".join(name for name in CHANCE if low[name][row]) for row in found.index]
    return found


def category_table(long: pd.DataFrame) -> pd.DataFrame:
    """Mean and deviation over seeds of each setup and category."""
    return over_seeds(long[long["metric"] != ""], [*SETUP, "category"])


def over_seeds(values: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """A column for the mean and one for the deviation (n - 1) of each metric, over all values with equal keys."""
    groups = values.groupby([*keys, "metric"], sort=False)["value"]
    means, deviations = groups.mean().unstack("metric"), groups.std(ddof=1).unstack("metric")
    columns = {}
    for name in (*METRICS, *(extra for extra in means.columns if extra not in METRICS)):
        columns[name], columns[f"{name}_std"] = means.get(name), deviations.get(name)
    return pd.DataFrame(columns, index=means.index, dtype=float).reset_index()


def _assert_one_cell(measured: pd.DataFrame) -> None:
    """Each category and seed of a row comes from one cell, and each category from one comparison per seed."""
    cells = measured.groupby([*ROW, "seed", "category"], sort=False)["cell"].nunique()
    assert (cells <= 1).all(), f"a row would average over several cells: {cells[cells > 1].index.tolist()[:3]}"


def _counted_seeds(measured: pd.DataFrame) -> pd.DataFrame:
    """The seeds of each row that measured the same categories."""
    sets: dict[tuple[Any, ...], dict[frozenset[str], list[Any]]] = {}
    for key, group in measured.groupby([*ROW, "seed"], sort=False):
        row = tuple(key)
        sets.setdefault(row[:-1], {}).setdefault(frozenset(group["category"]), []).append(row[-1])
    kept = []
    for row, its in sets.items():
        most = max(its, key=lambda names: (len(names), len(its[names]), sorted(names)))
        kept += [(*row, seed) for seed in its[most]]
    return pd.DataFrame(kept, columns=[*ROW, "seed"]).astype(measured[[*ROW, "seed"]].dtypes.to_dict())


def _facts(group: pd.DataFrame, counted: pd.DataFrame | None, expected: Sequence[str]) -> dict[str, Any]:
    measured = group[group["metric"] != ""]
    categories = set(measured["category"])
    named = set(group["category"]) - {"all"}  # a failed cell of all categories names none
    wanted = len(expected or named) * group["seed"].nunique()
    ids = sorted(set(counted["comparison_id"])) if counted is not None else []
    return {
        "comparison": digest(ids)[:8] if ids else "",
        "n_seeds": counted["seed"].nunique() if counted is not None else 0,
        "categories": len(categories),
        "status": "; ".join(_status(group, measured, counted, wanted)) or "ok",
    }


def _status(group: pd.DataFrame, measured: pd.DataFrame, counted: pd.DataFrame | None, wanted: int) -> list[str]:
    """Everything that makes a row unfit for a leaderboard, in words."""
    words = [word for word in group["superseded"].unique() if word]
    if group["limit"].astype(bool).any():
        words.append("limited")
    present = len(measured[["category", "seed"]].drop_duplicates())
    failed = int((group["metric"] == "").sum())
    if present < wanted or failed:
        words.append(f"partial: {present} of {wanted} category runs" + (f", {failed} failed" if failed else ""))
    if counted is None:
        return words
    if left_out := sorted(set(measured["seed"]) - set(counted["seed"])):
        words.append(f"left out of the mean, for fewer categories: seed {', '.join(map(str, left_out))}")
    if counted["value"].isna().all():
        return [*words, "nothing is defined"]
    words += _undefined(counted)
    cells = measured.drop_duplicates("cell")
    if leaked := int(cells["leaked"].sum()):
        words.append(f"leak: {leaked} of {int(cells['tested'].sum())} test images were seen before the test")
    return words


def _undefined(counted: pd.DataFrame) -> list[str]:
    """Metrics that some categories leave undefined: their mean is one of the others."""
    shares: dict[str, list[str]] = {}
    for metric, its in counted.groupby("metric", sort=False):
        missing = its.loc[its["value"].isna(), "category"].nunique()
        if missing and its["value"].notna().any():
            shares.setdefault(f"undefined in {missing} of {its['category'].nunique()}", []).append(str(metric))
    return [f"{share}: {', '.join(metrics)}" for share, metrics in shares.items()]
