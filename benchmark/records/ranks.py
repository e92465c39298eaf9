"""Ranks of methods over data sets: Friedman's test, and Nemenyi's critical difference of mean ranks.

Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006. A data set is one unit, its value
the leaderboard's mean; only rows of one comparison are ranked on it, so that all have seen the same images and shots.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.records.paired import ALPHA, COMPARED

FEWEST_SETS, FEWEST_METHODS = 5, 3
SETTING = ["backbone", "note", "protocol", "shots"]
UNFIT = "leak|limited|partial|left out"  # in the status of a row that is not ranked
COLUMNS = (
    "backbone", "protocol", "shots", "metric", "method", "mean_rank", "datasets", "methods", "friedman_p",
    "critical_difference", "not_distinguishable", "names", "why_not",
)  # fmt: skip


@dataclass(frozen=True)
class Ranking:
    """Mean ranks in one backbone, protocol and number of shots, the best first; or why there are none."""

    setting: Mapping[str, str]  # of `SETTING`
    metric: str
    datasets: Sequence[str]
    methods: Sequence[str] = ()
    ranks: Sequence[float] = ()
    friedman_p: float = 1.0
    critical_difference: float = 0.0
    left_out: Sequence[str] = ()  # methods that have not measured all of these data sets
    why_not: str = ""

    @property
    def title(self) -> str:
        """What was ranked, in words."""
        shots = f" with shots {self.setting['shots']}" if self.setting["shots"] != "0" else ""
        return f"{self.metric}, {self.setting['protocol']}{shots}, {self.setting['backbone']}"

    def alike(self) -> list[tuple[int, int]]:
        """The longest runs (first, last) of two methods or more whose ranks differ by no more than is critical."""
        ends = [
            max(j for j in range(len(self.ranks)) if self.ranks[j] - rank <= self.critical_difference)
            for rank in self.ranks
        ]
        runs = [(first, last) for first, last in enumerate(ends) if last > first]
        return [run for run in runs if not any(o != run and o[0] <= run[0] and run[1] <= o[1] for o in runs)]


def rankings(wide: pd.DataFrame) -> Iterator[Ranking]:
    """A ranking for each backbone, protocol, number of shots and metric in the leaderboard with anything to rank."""
    rows = wide[(wide["kind"] == "all") & (wide["superseded"] == "") & ~wide["status"].str.contains(UNFIT)]
    for key, its in rows.groupby(SETTING, sort=False):
        setting = dict(zip(SETTING, map(str, key), strict=True))
        for metric in COMPARED:
            values = _values(its[its[metric].notna()], metric)
            if values.shape[1] > 1:
                yield _ranking(setting, metric, values)


def _values(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Data sets × methods; of a data set, the values of the comparison that most methods share."""
    columns = {}
    for (dataset, variant), its in rows.groupby(["dataset", "variant"], sort=True):
        largest = max((part for _, part in its.groupby("comparison", sort=False)), key=len)
        columns[f"{dataset} ({variant})"] = largest.drop_duplicates("method").set_index("method")[metric]
    return pd.DataFrame(columns).T


def _ranking(setting: Mapping[str, str], metric: str, values: pd.DataFrame) -> Ranking:
    methods = list(values.columns)
    whole = values.dropna()
    while len(whole) < FEWEST_SETS and len(methods) > FEWEST_METHODS:  # those that measured the fewest go first
        methods.remove(min(methods, key=lambda name: values[name].count()))
        whole = values[methods].dropna()
    datasets, left_out = list(whole.index), [name for name in values.columns if name not in methods]
    if len(datasets) < FEWEST_SETS or len(methods) < FEWEST_METHODS:
        shared = f"{len(methods)} methods share {len(datasets)} data set{'' if len(datasets) == 1 else 's'}"
        why = f"{shared}; at least {FEWEST_METHODS} must share at least {FEWEST_SETS}"
        return Ranking(setting, metric, datasets, left_out=left_out, why_not=why)
    ranks = whole[methods].round(12).rank(axis=1, ascending=False)  # (data sets, methods); ties share the mean rank
    means = ranks.mean().sort_values(kind="stable")
    return Ranking(
        setting, metric, datasets, [*map(str, means.index)], [*map(float, means)], friedman(ranks.to_numpy()),
        critical_difference(len(methods), len(datasets)), left_out,
    )  # fmt: skip


def friedman(ranks: NDArray[np.float64]) -> float:
    """The p-value of Friedman's test that all methods are equal, chi-squared.

    Args:
        ranks: (data sets, methods).
    """
    from scipy.stats import friedmanchisquare  # noqa: PLC0415  (half a second, for many data sets alone)

    if (ranks == ranks[:, :1]).all():  # every rank is tied, for which there is no statistic
        return 1.0
    return float(friedmanchisquare(*ranks.T).pvalue)


def critical_difference(methods: int, datasets: int) -> float:
    """By how much two mean ranks must differ at 5 % after Nemenyi: q / √2 · √(k (k + 1) / 6 N)."""
    from scipy.stats import studentized_range  # noqa: PLC0415  (half a second, for many data sets alone)

    q = float(studentized_range.ppf(1 - ALPHA, methods, math.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * datasets))


def table(found: Sequence[Ranking]) -> pd.DataFrame:
    """A line of `COLUMNS` for each ranked method, and one for each ranking that could not be made."""
    lines = []
    for its in found:
        setting = {key: its.setting[key] for key in SETTING if key != "note"}
        shared = setting | {"metric": its.metric, "datasets": len(its.datasets), "names": ", ".join(its.datasets)}
        if its.why_not:
            lines.append(shared | {"why_not": its.why_not})
        for place, (method, rank) in enumerate(zip(its.methods, its.ranks, strict=True)):
            others = {other for run in its.alike() if run[0] <= place <= run[1] for other in range(run[0], run[1] + 1)}
            lines.append(shared | {
                "method": method, "mean_rank": rank, "methods": len(its.methods), "friedman_p": its.friedman_p,
                "critical_difference": its.critical_difference,
                "not_distinguishable": ", ".join(its.methods[other] for other in sorted(others - {place})),
            })  # fmt: skip
    return pd.DataFrame(lines, columns=list(COLUMNS))


def sentences(found: Sequence[Ranking]) -> list[str]:
    """The rankings in words; of those that could not be made, the nearest to it."""
    words = []
    for its in (its for its in found if not its.why_not):
        said = ", ".join(f"{method} {rank:.2f}" for method, rank in zip(its.methods, its.ranks, strict=True))
        left = f"; left out, for fewer data sets: {', '.join(its.left_out)}" if its.left_out else ""
        words.append(
            f"Mean ranks over {len(its.datasets)} data sets, {its.title}: {said} (critical difference "
            f"{its.critical_difference:.2f}, Friedman p = {its.friedman_p:.2g}){left}."
        )
    if not words and found:
        nearest = max(found, key=lambda its: len(its.datasets))
        words.append(f"No ranks over data sets: {nearest.why_not} ({nearest.title}).")
    return words
