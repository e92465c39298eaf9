"""Areas and maxima of the ROC, precision-recall and per-region-overlap curves, as closed sums over ranks.

No curve is built. Every curve moves only where an anomalous score lies, so it is enough to know, for each distinct
anomalous score, how many anomalous and normal scores share it and how many normal ones lie below. Only the order of
scores counts: any strictly increasing map of them leaves each value as it is, to the last bit.
"""

from typing import NamedTuple

import numpy as np

from benchmark.metrics.names import FPR_LIMIT


class Ranking(NamedTuple):
    """Counts at the T distinct anomalous scores, in ascending order; int64, exact up to 4e9 scores in all."""

    anomalous: np.ndarray  # T   anomalous ones at this score, at least 1
    tied: np.ndarray  # T        normal ones at this score
    below: np.ndarray  # T       normal ones under this score
    normals: int  # normal ones in all


def rank(scores: np.ndarray, labels: np.ndarray) -> Ranking:
    """Rank scores (N,) of any real dtype, unrounded, against bool labels (N,), True for anomalous."""
    values, anomalous = np.unique(scores[labels], return_counts=True)  # T
    normal = np.sort(scores[~labels])
    below = np.searchsorted(normal, values, side="left")
    tied = np.searchsorted(normal, values, side="right") - below
    return Ranking(anomalous.astype(np.int64), tied.astype(np.int64), below.astype(np.int64), len(normal))


def auroc(ranking: Ranking) -> float:
    """Chance that an anomalous score exceeds a normal one, a tie counting half (Hanley and McNeil, 1982).

    Needs at least one score of either kind, as `aupro` does; the others need an anomalous one.
    """
    halves = int(ranking.anomalous @ (2 * ranking.below + ranking.tied))
    return halves / (2 * int(ranking.anomalous.sum()) * ranking.normals)


def average_precision(ranking: Ranking) -> float:
    """Sum of precision times the step of recall, without interpolation, as scikit-learn defines it."""
    found, wrong = _at_or_above(ranking)
    return float((ranking.anomalous * (found / (found + wrong))).sum() / ranking.anomalous.sum())


def f1_max(ranking: Ranking) -> float:
    """Best F1 over all thresholds; it is always reached at an anomalous score."""
    found, wrong = _at_or_above(ranking)
    return float((2 * found / (found + wrong + ranking.anomalous.sum())).max())


def aupro(ranking: Ranking, overlap: np.ndarray, limit: float = FPR_LIMIT) -> float:
    """Area under the per-region overlap curve up to a false-positive rate, over that rate (IJCV 2021, section 5.2).

    The curve is linear between thresholds, so also through a tie that spans the limit. A pixel of a region of s
    pixels lifts the mean overlap of K regions by 1 / (K s); from there on it adds that much to the area.

    Args:
        ranking: of all pixels.
        overlap: (T,) by how much the mean overlap of the regions grows at each anomalous score; sums to 1.
        limit: in (0, 1].

    Raises:
        ValueError: if `limit` lies outside (0, 1].
    """
    if not 0 < limit <= 1:
        raise ValueError(f"limit must lie in (0, 1], got {limit}.")
    allowed = limit * ranking.normals  # false positives, as a real number
    end = ranking.normals - ranking.below  # T   false positives once this score is let in
    start = end - ranking.tied  # T
    whole = allowed - (start + end) / 2
    cut = np.maximum(allowed - start, 0) ** 2 / (2 * np.maximum(ranking.tied, 1))
    return float((overlap * np.where(end <= allowed, whole, cut)).sum() / allowed)


def _at_or_above(ranking: Ranking) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives with the threshold at each anomalous score."""
    return ranking.anomalous[::-1].cumsum()[::-1], ranking.normals - ranking.below
