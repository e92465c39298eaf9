import math

import numpy as np
import pytest

from methods.components.synthesis import perlin


def plain_noise(rng, shape, cells):
    """Perlin noise pixel by pixel, from its definition."""
    angles = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    noise = np.zeros(shape)
    for row, column in np.ndindex(*shape):
        y, x = (row + 0.5) * cells[0] / shape[0], (column + 0.5) * cells[1] / shape[1]
        top, left = int(y), int(x)
        dots = np.array(
            [
                [math.cos(a) * (x - left - i) + math.sin(a) * (y - top - j) for i, a in enumerate(pair)]
                for j, pair in enumerate(angles[top : top + 2, left : left + 2])
            ]
        )
        across, down = (6 * t**5 - 15 * t**4 + 10 * t**3 for t in (x - left, y - top))
        upper, lower = dots[:, 0] + across * (dots[:, 1] - dots[:, 0])
        noise[row, column] = math.sqrt(2) * (upper + down * (lower - upper))
    return noise


@pytest.mark.parametrize(("shape", "cells"), [((30, 45), (4, 7)), ((32, 32), (8, 1)), ((9, 20), (2, 2))])
def test_noise_is_perlins_at_any_side(shape, cells):
    noise = perlin.perlin_noise(np.random.default_rng(0), shape, cells)
    assert noise.dtype == np.float32
    np.testing.assert_allclose(noise, plain_noise(np.random.default_rng(0), shape, cells), atol=1e-5)


@pytest.mark.slow
def test_areas_and_empty_samples_are_those_measured_for_the_recipe():
    areas = np.array([perlin.perlin_mask(np.random.default_rng((0, i)), (480, 480), (0, 5)).mean() for i in range(400)])
    assert 0.03 < (areas == 0).mean() < 0.06
    assert 0.045 < np.median(areas) < 0.05
    assert np.quantile(areas, 0.9) < 0.08


@pytest.mark.parametrize("side", [8, 15, 37, 240, 250])
def test_no_side_and_no_grain_gives_an_empty_mask(side):
    for seed in range(12):
        mask = perlin.anomaly_mask(np.random.default_rng(seed), side, (0, 5) if seed % 2 else (5, 5))
        assert mask.shape == (side, side)
        assert mask.dtype == bool
        assert 0.001 < mask.mean() < 0.6


@pytest.mark.slow
def test_union_covers_more_than_one_mask_and_intersection_less(monkeypatch):
    def median(modes):
        monkeypatch.setattr(perlin, "MODES", modes)
        return np.median([perlin.anomaly_mask(np.random.default_rng(i), 96, (0, 5)).mean() for i in range(60)])

    every, single = median(("single", "union", "intersection")), median(("single",))
    assert 4 * median(("intersection",)) < single < median(("union",)) / 1.5
    assert 0.7 < every / single < 1.3


def test_a_token_is_anomalous_from_a_quarter_of_its_area_on(monkeypatch):
    mask = np.zeros((32, 48), bool)
    mask[:4, :16] = True  # 64 of the first token's 256 pixels
    mask[:3, 16:32] = True
    mask[3, 16:31] = True  # 63 of the second's
    sampled = iter([np.zeros_like(mask), mask])
    monkeypatch.setattr(perlin, "perlin_mask", lambda rng, shape, exponents: next(sampled))
    tokens = perlin.latent_mask(np.random.default_rng(0), (2, 3), (0, 5))
    assert tokens.tolist() == [[True, False, False], [False, False, False]]
    assert next(sampled, None) is None  # the empty mask was resampled


@pytest.mark.slow
def test_latent_masks_of_small_grids_hold_some_tokens_and_not_all():
    for grid in ((1, 2), (4, 4), (15, 15), (8, 3)):
        masks = [perlin.latent_mask(np.random.default_rng(seed), grid, (0, 5)) for seed in range(20)]
        assert all(mask.shape == grid and mask.any() for mask in masks)
        assert np.mean(masks) < 0.7


def test_a_side_too_small_for_two_cells_is_refused():
    with pytest.raises(ValueError, match="sides of 8 pixels or more; got 7 x 9"):
        perlin.perlin_mask(np.random.default_rng(0), (7, 9), (0, 5))
