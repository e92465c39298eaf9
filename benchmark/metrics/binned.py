"""Pixel metrics of test sets that are too large to keep: counts in bins of leading bits, with a proven error.

The leading bits of a float32 are a monotone function of the score: a bin holds neighbours, and no range has to be
guessed beyond magnitudes from 2^-20 to 2^6. What is kept has one size whatever the test set's, and adds up over
batches and ranks to the same integers. Inside a bin the order is unknown; every one lies within the given interval.
"""

from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from scipy.special import digamma
from torch import Tensor
from torchmetrics import Metric

from benchmark.metrics.accumulate import check_batch, check_finite, gather
from benchmark.metrics.ranking import PixelRanking
from benchmark.metrics.table import FPR_LIMIT, MetricValue, Need, evaluate, metrics

MANTISSA = 15  # bits of a score that count: what has no more, such as bfloat16 and float16 maps, is exact
SHIFT = 23 - MANTISSA
#: Powers of two between which the magnitudes of scores are told apart; what is smaller counts as 0, what is larger as
#: the largest.
LEAST, MOST = -20, 6
FIRST = (LEAST + 127) << MANTISSA  # leading bits of the least magnitude
LAST = (MOST - LEAST) << MANTISSA  # bins of one sign
BINS = 2 * (LAST + 1) + 1
UNIT = 2**40  # shares of regions are kept in whole parts of this, so that sums depend on no order
EXACT_ALONE = "needs all scores, and these were counted in bins"


class BinnedPixelMetrics(Metric):
    """What `PixelMetrics` computes, from 39 MiB whatever the number of pixels, and how far it may be off."""

    is_differentiable = False
    full_state_update = False
    names: ClassVar = ("every", "anomalous", "shares", "regions")
    every: Tensor  # BINS   pixels
    anomalous: Tensor  # BINS   anomalous pixels
    shares: Tensor  # BINS   sum over anomalous pixels of UNIT / number of pixels of its region
    regions: Tensor  # ()

    def __init__(self, *, published: bool = False) -> None:
        super().__init__(dist_sync_fn=gather)
        self.published = published
        for name in self.names:
            shape = () if name == "regions" else (BINS,)
            self.add_state(name, default=torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, maps: Tensor, regions: Tensor) -> None:
        """Add a batch; arguments and errors are those of `PixelMetrics.update`."""
        check_batch("maps", maps, "regions", regions, torch.int32, dims=3)
        scores = maps.detach().to("cpu", torch.float32).numpy()  # B H W
        check_finite("maps", scores)
        for image, ids in zip(scores, regions.detach().cpu().numpy(), strict=True):
            self.every += torch.from_numpy(np.bincount(bins_of(image.ravel()), minlength=BINS))
            x, y, width, height = cv2.boundingRect((ids != 0).view(np.uint8))
            window = slice(y, y + height), slice(x, x + width)
            region, its = ids[window].ravel(), bins_of(image[window].ravel())
            places = region > 0
            if places.any():
                sizes = np.bincount(region)
                parts = np.rint(UNIT / sizes[region[places]])
                self.anomalous += torch.from_numpy(np.bincount(its[places], minlength=BINS))
                found = np.bincount(its[places], weights=parts, minlength=BINS)  # exact: whole numbers below 2^53
                self.shares += torch.from_numpy(found.astype(np.int64))
                self.regions += int((sizes[1:] > 0).sum())

    def compute(self) -> dict[str, MetricValue]:
        """Value or reason of each metric of pixel level; all scores of a bin count as equal."""
        positives, every = int(self.anomalous.sum()), int(self.every.sum())
        counts: dict[Need, int] = {"anomalous pixel": positives, "normal pixel": every - positives}
        found = evaluate(metrics("pixel"), counts, self._ranking)
        asked = metrics("pixel", published=self.published)
        return {line.name: found.get(line.name, MetricValue(None, EXACT_ALONE)) for line in asked}

    def half_widths(self) -> dict[str, float]:
        """How far each value may lie from the exact one; those that are undefined are left out."""
        ranking, widths = self._ranking(), {}
        for name, its in self.compute().items():
            if its.value is not None:
                low, high = BOUNDS[name](ranking)
                rounded = int(self.anomalous.sum()) / (2 * UNIT * int(self.regions))  # of the shares of regions
                widths[name] = max(high - its.value, its.value - low, 0.0) + rounded
        return widths

    def _ranking(self) -> PixelRanking:
        """The ranking in which all scores of a bin are tied."""
        every, anomalous, shares = self.every.numpy(), self.anomalous.numpy(), self.shares.numpy()
        normal = every - anomalous
        below = normal.cumsum() - normal
        there = np.flatnonzero(anomalous)
        overlap = shares[there] / UNIT / int(self.regions)
        return PixelRanking(anomalous[there], normal[there], below[there], int(normal.sum()), overlap, [], [])


def bins_of(scores: np.ndarray) -> np.ndarray:
    """The bins (n,) of float32 scores (n,), which sort as the scores do; -0.0 is 0.0."""
    bits = scores.view(np.int32)
    magnitude = np.clip(((bits & np.int32(2**31 - 1)) >> SHIFT) - (FIRST - 1), 0, LAST + 1)
    found: np.ndarray = np.where(bits < 0, -magnitude, magnitude) + np.int64(LAST + 1)
    return found


def _auroc(ranking: PixelRanking) -> tuple[float, float]:
    """Between all normal pixels of each bin above and all of them under its anomalous ones."""
    pairs = int(ranking.anomalous.sum()) * ranking.normals
    low = int(ranking.anomalous @ ranking.below) / pairs
    return low, int(ranking.anomalous @ (ranking.below + ranking.tied)) / pairs


def _average_precision(ranking: PixelRanking) -> tuple[float, float]:
    found = ranking.anomalous[::-1].cumsum()[::-1]  # at or above
    above = found - ranking.anomalous
    with_bin = ranking.normals - ranking.below  # normal ones at or above
    without = with_bin - ranking.tied
    worst = ranking.anomalous - with_bin * (digamma(found + with_bin + 1) - digamma(above + with_bin + 1))
    best = ranking.anomalous * (found / (found + without))
    return float(worst.sum() / found[0]), float(best.sum() / found[0])


def _f1_max(ranking: PixelRanking) -> tuple[float, float]:
    found = ranking.anomalous[::-1].cumsum()[::-1]
    with_bin = ranking.normals - ranking.below
    low = 2 * found / (found + with_bin + found[0])
    high = 2 * found / (found + with_bin - ranking.tied + found[0])
    return float(low.max()), float(high.max())


def _aupro(ranking: PixelRanking) -> tuple[float, float]:
    allowed = FPR_LIMIT * ranking.normals
    with_bin = ranking.normals - ranking.below
    low = np.maximum(allowed - with_bin, 0)
    high = np.maximum(allowed - (with_bin - ranking.tied), 0)
    return float((ranking.overlap * low).sum() / allowed), float((ranking.overlap * high).sum() / allowed)


#: Metric → the least and the greatest value of any order inside the bins.
BOUNDS: dict[str, Any] = {
    "pixel_AUROC": _auroc,
    "pixel_AP": _average_precision,
    "pixel_F1Max": _f1_max,
    "pixel_AUPRO": _aupro,
}
