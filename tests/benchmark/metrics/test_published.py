"""PRO of the published code: its own recorded value, and its loop written out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pixel_oracle import labelled
from scipy import ndimage

from benchmark.metrics.accumulate import PixelMetrics
from benchmark.metrics.table import metric_names

PUBLISHED = "pixel_PRO@200steps"
FIXTURE = Path(__file__).parents[2] / "fixtures" / "faprompt.npz"


def published(maps, masks):
    metric = PixelMetrics(published=True)
    metric.update(torch.as_tensor(maps), labelled(masks))
    return metric.compute()[PUBLISHED]


def loop(maps, masks, steps=200):
    """Threshold by threshold."""
    labelled = [ndimage.label(mask, np.ones((3, 3))) for mask in masks]
    regions = [(i, labels == k) for i, (labels, count) in enumerate(labelled) for k in range(1, count + 1)]
    rates, overlaps = [], []
    for threshold in np.arange(maps.min(), maps.max(), (maps.max() - maps.min()) / steps):
        hit = maps > threshold
        rates.append(hit[~masks].mean())
        overlaps.append(np.mean([hit[i][region].mean() for i, region in regions]))
    rates, overlaps = np.array(rates), np.array(overlaps)
    kept = rates < 0.3
    rates, overlaps = rates[kept], overlaps[kept]
    rates = (rates - rates.min()) / (rates.max() - rates.min())
    return abs(np.trapezoid(overlaps, rates))


def test_the_value_that_the_official_code_gave():
    stored = np.load(FIXTURE)
    value = published(stored["metrics/map"], stored["metrics/mask"] > 0.5).value
    assert value == pytest.approx(float(stored["metrics/pixel_aupro"]), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("levels", [7, 10**6])
def test_equal_to_the_loop(seed, levels):
    rng = np.random.default_rng(seed)
    masks = ndimage.gaussian_filter(rng.standard_normal((4, 30, 30)), (0, 3, 3)) > 0.12
    maps = (rng.integers(0, levels, masks.shape) / levels + 0.4 * masks).astype(np.float32)
    assert published(maps, masks).value == pytest.approx(loop(maps, masks), abs=1e-9)


def test_it_depends_on_the_scale_of_scores_and_the_exact_one_does_not():
    rng = np.random.default_rng(0)
    masks = ndimage.gaussian_filter(rng.standard_normal((4, 30, 30)), (0, 3, 3)) > 0.12
    maps = (rng.random(masks.shape) + 0.4 * masks).astype(np.float32)
    assert abs(published(maps, masks).value - published(maps**6, masks).value) > 0.01


def test_undefined_values_say_why_and_nobody_gets_it_unasked():
    masks = np.zeros((1, 4, 4), bool)
    masks[0, 0, 0] = True
    assert published(np.ones((1, 4, 4), np.float32), masks) == (None, "all scores are equal")
    assert published(np.ones((1, 4, 4), np.float32), ~masks & False) == (None, "no anomalous pixel")
    metric = PixelMetrics()
    metric.update(torch.rand(1, 4, 4), labelled(masks))
    assert set(metric.compute()) == set(metric_names("pixel"))
