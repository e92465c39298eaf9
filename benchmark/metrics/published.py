"""PRO as the code of FAPrompt, AnomalyCLIP and ADer computes it, so that published numbers compare like for like.

This PRO is no rank metric: it depends on the scale of the scores, and differs from the exact AUPRO by up to 0.01.
It is reported beside `pixel_AUPRO`, under its own name, where a protocol asks for it.
"""

import numpy as np

from benchmark.metrics.pixels import SIZE_BITS, unpack_scores
from benchmark.metrics.ranking import PixelRanking

STEPS = 200


def pro_at_equal_steps(ranking: PixelRanking, limit: float) -> float:
    """Area under PRO over FPR at thresholds in equal steps from the least to the greatest score.

    Only thresholds with an FPR below `limit`, 0.3 there, count; their FPR is stretched to [0, 1] before the trapezoids
    (mala-lab/FAPrompt, metrics.py, `cal_pro_score`).

    Returns:
        A value in [0, 1].

    Raises:
        ZeroDivisionError: where the published code divides by zero, with the reason.
    """
    scores, keys = ranking.scores, np.concatenate(ranking.packed)  # keys: P
    low, high = min(part.min() for part in scores), max(part.max() for part in scores)
    if low == high:
        raise ZeroDivisionError("all scores are equal")
    thresholds = np.arange(low, high, (high - low) / STEPS)  # S   200, or 201 by rounding
    sizes = (keys & np.int64(2 ** int(SIZE_BITS) - 1)).astype(np.float64)  # P
    above = _reached(unpack_scores(keys), thresholds, np.ones(len(keys)))  # S
    overlap = _reached(unpack_scores(keys), thresholds, 1 / sizes) / (1 / sizes).sum()  # S
    everything = sum(_reached(part, thresholds, np.ones(len(part))) for part in scores)  # S
    fpr = (everything - above) / ranking.normals  # S
    kept = fpr < limit
    span = np.ptp(fpr[kept]) if kept.any() else 0
    if not span:
        raise ZeroDivisionError(f"a single threshold has a false positive rate below {limit}")
    stretched = (fpr[kept] - fpr[kept].min()) / span
    return float(-np.trapezoid(overlap[kept], stretched))  # thresholds rise, so the rate falls


def _reached(values: np.ndarray, thresholds: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of the weights of all values strictly above each threshold, (S,)."""
    passed = np.searchsorted(thresholds, values, side="left")  # n   thresholds below each value
    sums = np.bincount(passed, weights, minlength=len(thresholds) + 1)
    reached: np.ndarray = sums[::-1].cumsum()[::-1][1:]
    return reached
