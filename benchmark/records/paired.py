"""Paired comparison of rows with the best of their comparison.

A pair is one draw, a category with its test images and shots, that two rows have measured; equal `comparison_id`s tell
it, and the seeds of a fit on one draw are averaged. Draws of one category share its test images, so where there are
`MANY` categories their means over draws are the pairs. The test is Wilcoxon's signed-rank test, corrected by Holm for
the number of rows that are compared with the best.
"""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from benchmark.records.rows import SETUP

COMPARED = ("image_AUROC", "pixel_AUPRO")  # metrics by which rows are compared with the best
ALPHA = 0.05
MANY = 6  # categories from which they are the pairs; fewer can tell no two rows apart, see `needed`
FEW = "too few pairs"
TIED = " ≈"  # beside a rendered value that is not distinguishable from the best
GROUP = ["backbone", "note", "dataset", "variant", "protocol", "shots", "limit", "comparison"]
DECIMALS = 12  # by which equal differences may be rounded apart
Draw = tuple[str, str]  # category and comparison id
Values = dict[Draw, float]
COLUMNS = (
    *SETUP, "metric", "best", "unit", "pairs", "needed", "difference", "low", "high", "p", "p_holm",
    "not_distinguishable",
)  # fmt: skip
LEGEND = (
    f"{TIED.strip()} not distinguishable from the best of its comparison: Wilcoxon's signed-rank test at 5 %, Holm, "
    f"over categories, or draws of shots where there are fewer than {MANY}."
)


def student(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The 95 % interval of the mean of independent values; (None, None) for fewer than two."""
    if len(values) < 2:
        return None, None
    half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def signed_rank(differences: NDArray[np.float64]) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test, exact also with ties; differences of zero are left out.

    `scipy.stats` would be another half a second of a command that runs nothing, and is not exact where ranks are tied.

    Args:
        differences: (n,) of the pairs.
    """
    kept = np.round(differences, DECIMALS)
    kept = kept[kept != 0]
    twice = (2 * pd.Series(np.abs(kept)).rank()).to_numpy(dtype=int)  # mid-ranks are whole or half numbers
    chances = np.zeros(twice.sum() + 1)  # of each sum of the ranks of positive differences
    chances[0] = 1.0
    for rank in twice:
        chances[rank:] += chances[:-rank].copy()  # a rank is positive or is not
        chances /= 2
    positive = int(twice[kept > 0].sum())
    return min(1.0, 2 * min(float(chances[: positive + 1].sum()), float(chances[positive:].sum())))


def holm(values: Sequence[float]) -> list[float]:
    """P-values of a family of tests, corrected for their number by Holm's step-down procedure."""
    order = np.argsort(values, kind="stable")
    grown = np.maximum.accumulate((len(values) - np.arange(len(values))) * np.asarray(values, dtype=float)[order])
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(grown, 1.0)
    return [float(value) for value in corrected]


def needed(tests: int) -> int:
    """How many pairs a family of so many tests needs, so that one that always wins can be told from the other."""
    return math.ceil(math.log2(tests / ALPHA)) + 1  # the smallest p-value of n pairs is 2 / 2^n


def compare_with_best(wide: pd.DataFrame, long: pd.DataFrame) -> pd.DataFrame:
    """A line of `COLUMNS` for each row and metric that a best row of its comparison stands beside.

    Rows of kind "all" are compared; those that are superseded or a leak are not. `difference` is row minus best, a
    fraction, with its Student interval over the pairs; `p` is missing where the pairs are fewer than `needed`.
    """
    lines: list[dict[str, Any]] = []
    chosen = wide[(wide["kind"] == "all") & (wide["superseded"] == "") & ~wide["status"].str.contains("leak")]
    groups = [its for _, its in chosen.groupby(GROUP, sort=False) if len(its) > 1]
    if groups:
        draws = _draws(long)
        lines = [line for its in groups for metric in COMPARED for line in _family(its, metric, draws)]
    return pd.DataFrame(lines, columns=list(COLUMNS))


def mark(wide: pd.DataFrame, long: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard with `not_distinguishable`, metrics by which a row equals the best, and `compared_over`."""
    compared = compare_with_best(wide, long)
    tied = compared[compared["not_distinguishable"].eq(True)]
    names = tied.groupby(list(SETUP), sort=False)["metric"].agg(", ".join).to_dict()
    units = {
        tuple(line[key] for key in SETUP): _unit(line) for line in compared.iloc[::-1].to_dict("records")
    }  # of the first metric
    keys = [tuple(row) for row in wide[list(SETUP)].itertuples(index=False)]
    whole = wide["kind"] == "all"
    return wide.assign(
        not_distinguishable=[names.get(key, "") if its else "" for key, its in zip(keys, whole, strict=True)],
        compared_over=[units.get(key, "") if its else "" for key, its in zip(keys, whole, strict=True)],
    )


def legend(table: pd.DataFrame) -> list[str]:
    """What the marks of rendered rows mean, and in how many comparisons the pairs are too few for any."""
    words = [LEGEND] if table["not_distinguishable"].astype(bool).any() else []
    few = table[table["compared_over"].str.startswith(FEW)].drop_duplicates(GROUP)
    if few.empty:
        return words
    tested = table[table["compared_over"] != ""].drop_duplicates(GROUP)
    example = few["compared_over"].iloc[0]
    return [
        *words,
        f"Rows were not tested against the best in {len(few)} of {len(tested)} comparisons, for {example}"
        + (" and the like." if few["compared_over"].nunique() > 1 else "."),
    ]


def _unit(line: dict[Any, Any]) -> str:
    pairs = f"{line['pairs']} {line['unit']}"
    return pairs if line["pairs"] >= line["needed"] else f"{FEW}: {pairs}, at least {line['needed']} are needed"


def _draws(long: pd.DataFrame) -> dict[tuple[Any, ...], Values]:
    """By setup and metric, the value of each category and draw: the mean over the seeds that share the draw."""
    chosen = long[long["metric"].isin(COMPARED) & long["value"].notna()]
    found: dict[tuple[Any, ...], dict[Draw, list[float]]] = {}
    columns = [chosen[name] for name in (*SETUP, "metric", "category", "comparison_id", "value")]
    for *key, category, draw, value in zip(*columns, strict=True):
        found.setdefault(tuple(key), {}).setdefault((category, draw), []).append(value)
    return {key: {draw: fmean(values) for draw, values in its.items()} for key, its in found.items()}


def _family(rows: pd.DataFrame, metric: str, draws: dict[tuple[Any, ...], Values]) -> list[dict[str, Any]]:
    """The lines of the rows of one comparison, the best with them; none unless two rows have the metric."""
    rows = rows[rows[metric].notna()]
    if len(rows) < 2:
        return []
    setups = [tuple(row) for row in rows[list(SETUP)].itertuples(index=False)]
    first = int(rows[metric].to_numpy().argmax())
    best, best_label = draws[(*setups[first], metric)], rows["method"].iloc[first]
    least = needed(len(rows) - 1)
    lines = []
    for setup in setups:
        unit, differences = pair(draws[(*setup, metric)], best)
        low, high = student([] if setup == setups[first] else differences)
        lines.append({
            **dict(zip(SETUP, setup, strict=True)), "metric": metric, "best": best_label, "unit": unit,
            "pairs": len(differences), "needed": least, "difference": fmean(differences), "low": low,
            "high": high, "p": None, "p_holm": None, "not_distinguishable": None,
            "tested": signed_rank(np.array(differences)) if len(differences) >= least else None,
        })  # fmt: skip
    _decide([line for index, line in enumerate(lines) if index != first], lines[first])
    return lines


def _decide(others: list[dict[str, Any]], best: dict[str, Any]) -> None:
    """Correct the p-values of a family and say which rows equal the best; it joins them."""
    tested = [line for line in others if line["tested"] is not None]
    for line, corrected in zip(tested, holm([line["tested"] for line in tested]), strict=True):
        line |= {"p": line["tested"], "p_holm": corrected, "not_distinguishable": corrected >= ALPHA}
    best["not_distinguishable"] = any(line["not_distinguishable"] for line in tested) if tested else None


def pair(one: Values, other: Values) -> tuple[str, list[float]]:
    """What the pairs of two rows are, in a word, and `one` minus `other` of each.

    Args:
        one: values by category and draw.
        other: the same of another row; a draw that only one has makes no pair.
    """
    differences: dict[str, list[float]] = {}
    for (category, draw), value in one.items():
        if (category, draw) in other:
            differences.setdefault(category, []).append(value - other[category, draw])
    several = any(len(its) > 1 for its in differences.values())
    if several and len(differences) < MANY:
        return "draws", [value for its in differences.values() for value in its]
    return "categories", [fmean(its) for its in differences.values()]
