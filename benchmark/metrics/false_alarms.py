"""What scores of normal images alone say of another image: its place among them, and a threshold for false alarms.

A new normal image is as likely to have any place among k normal ones as any other, if all come from one source: its
score exceeds the r-th lowest of theirs with probability 1 - r / (k + 1) at most (conformal prediction; Vovk et al.,
2005). So k images resolve no rate below 1 / (k + 1). Scores that leave one out are each of a fit on k - 1 images, so
for them this holds nearly, not exactly (Barber et al., 2021, on the jackknife+).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Threshold(NamedTuple):
    """A score above which an image is called anomalous."""

    value: float
    promised: float  # share of normal images that exceed it
    asked: float

    @property
    def resolved(self) -> bool:
        """Whether the normal images are enough for the rate that was asked for."""
        return self.promised <= self.asked


def percentile(score: float, normal: Sequence[float]) -> float:
    """Percent of the scores of normal images that lie below `score`; equal ones count half."""
    scores = np.asarray(normal)
    return float(100 * ((scores < score).mean() + (scores == score).mean() / 2))


def threshold(normal: Sequence[float], false_alarm: float) -> Threshold:
    """The lowest of the normal scores that is exceeded by at most a share of `false_alarm` of normal images.

    Where there are too few for that, their highest score, and the rate that it promises.

    Raises:
        ValueError: there are no scores, or the rate is not between 0 and 1.
    """
    if not len(normal) or not 0 < false_alarm < 1:
        raise ValueError(f"a threshold needs scores and a rate in (0, 1); got {len(normal)} and {false_alarm}.")
    count = len(normal)
    place = min(count, math.ceil((1 - false_alarm) * (count + 1) - 1e-9))
    return Threshold(sorted(normal)[place - 1], (count + 1 - place) / (count + 1), false_alarm)
