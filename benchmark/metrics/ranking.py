"""Rankings of scores: the counts that every metric is computed from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ranking:
    """Counts at the T distinct anomalous scores, in ascending order; int64, exact up to 4e9 scores in all."""

    anomalous: np.ndarray  # T   anomalous ones at this score, at least 1
    tied: np.ndarray  # T        normal ones at this score
    below: np.ndarray  # T       normal ones under this score
    normals: int  # normal ones in all


@dataclass(frozen=True)
class PixelRanking(Ranking):
    """The ranking of all pixels of a test set, and what metrics of regions need besides."""

    overlap: np.ndarray  # T   growth of the mean overlap of regions at each anomalous score, float64, sums to 1
    scores: Sequence[np.ndarray]  # each (n,) float32: all pixels, in no order
    packed: Sequence[np.ndarray]  # each (P,) int64: the anomalous pixels, see `pack_anomalous`


def rank(scores: np.ndarray, labels: np.ndarray) -> Ranking:
    """Rank scores (N,) of any real dtype, unrounded, against bool labels (N,), True for anomalous."""
    values, anomalous = np.unique(scores[labels], return_counts=True)  # T
    normal = np.sort(scores[~labels])
    below = np.searchsorted(normal, values, side="left")
    tied = np.searchsorted(normal, values, side="right") - below
    return Ranking(anomalous.astype(np.int64), tied.astype(np.int64), below.astype(np.int64), len(normal))
