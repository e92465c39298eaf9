"""Metrics of resampled test sets: AUROC and AP from weighted histograms, so that a thousand resamples take seconds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BINS = 1024  # quantiles of a category's scores; a rank metric moves by less than 0.001
RESAMPLES = 1000


class Trial(NamedTuple):
    """What one method said of the test images of one category."""

    label: np.ndarray  # (n,) bool
    score: np.ndarray  # (n,)
    normal: np.ndarray  # (n, BINS) pixels per bin of the map's value, normal pixels
    anomalous: np.ndarray  # (n, BINS) the same of anomalous pixels


def trial(label: np.ndarray, score: np.ndarray, maps: np.ndarray, masks: np.ndarray) -> Trial:
    """Bin the maps (n, H, W) of one category by quantiles of all its pixels."""
    edges = np.unique(np.quantile(maps, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, maps, side="right")
    counts = [np.stack([np.bincount(b[m], minlength=BINS) for b, m in zip(bins, where, strict=True)])
              for where in (~masks, masks)]  # fmt: skip
    return Trial(label, score, counts[0].astype(float), counts[1].astype(float))


def some(found: Trial, rows: np.ndarray) -> Trial:
    """The trial on a part of the images."""
    return Trial(*(values[rows] for values in found))


def weights(found: Trial, rng: np.random.Generator | None, count: int = RESAMPLES) -> np.ndarray:
    """How often each resample holds each image, (count, n); normal and anomalous images are resampled apart."""
    counts = np.zeros((count, len(found.label)))
    for state in (False, True):
        rows = np.flatnonzero(found.label == state)
        counts[:, rows] = 1.0 if rng is None else rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), count)
    return counts


def auroc(normal: np.ndarray, anomalous: np.ndarray) -> np.ndarray:
    """From histograms (count, bins) in rising order of score: (count,)."""
    below = np.cumsum(normal, axis=1) - normal
    wins = (anomalous * (below + 0.5 * normal)).sum(axis=1)
    return np.asarray(wins / (anomalous.sum(axis=1) * normal.sum(axis=1)))


def average_precision(normal: np.ndarray, anomalous: np.ndarray) -> np.ndarray:
    """From histograms (count, bins) in rising order of score: (count,)."""
    hits, all_ = (np.cumsum(h[:, ::-1], axis=1) for h in (anomalous, anomalous + normal))
    return np.asarray((anomalous[:, ::-1] * hits / np.maximum(all_, 1e-12)).sum(axis=1) / anomalous.sum(axis=1))


def metrics(found: Trial, counts: np.ndarray) -> np.ndarray:
    """Image AUROC, pixel AUROC and pixel AP of every resample, (3, count)."""
    order = np.unique(found.score, return_inverse=True)[1]
    ranked = np.zeros((len(order), order.max() + 1))
    ranked[np.arange(len(order)), order] = 1.0
    image = [counts[:, found.label == state] @ ranked[found.label == state] for state in (False, True)]
    normal, anomalous = counts @ found.normal, counts @ found.anomalous
    return np.stack([auroc(*image), auroc(normal, anomalous), average_precision(normal, anomalous)])


def resampled(trials: Sequence[Sequence[Trial]], seed: int = 0) -> np.ndarray:
    """Means over categories of every resample, (3, 1 + RESAMPLES); the first column is the test set itself.

    Args:
        trials: of every category, its repetitions (samples of shots, seeds of a fit), whose mean is taken.
        seed: two methods that are resampled with one seed on one test set are paired.
    """
    means = []
    for index, repeats in enumerate(trials):
        rng = np.random.default_rng([seed, index])
        counts = np.concatenate([weights(repeats[0], None, 1), weights(repeats[0], rng)])
        means.append(np.mean([metrics(found, counts) for found in repeats], axis=0))
    return np.asarray(np.mean(means, axis=0))


def words(values: np.ndarray) -> str:
    """The first value and the 95 % interval of the others, percent."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{100 * values[0]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
