"""Scores and maps against formulas written out with the math module and numpy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from methods.components.scoring import harmonic_mean, text_probability, to_grid, to_map


def _unit(*shape):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape))), dim=-1)


def test_text_probability_is_the_logistic_of_the_difference():
    features, text = _unit(2, 5, 8), _unit(2, 8)
    got = text_probability(features, text, 0.07)
    assert got.shape == (2, 5)
    for b in range(2):
        for n in range(5):
            normal, anomalous = (
                sum(x * y for x, y in zip(features[b, n].tolist(), t, strict=True)) for t in text.tolist()
            )
            assert got[b, n].item() == pytest.approx(1 / (1 + math.exp((normal - anomalous) / 0.07)), abs=1e-5)
    assert text_probability(features[0, 0], text, 0.07).item() == pytest.approx(got[0, 0].item(), abs=1e-6)


def test_text_probability_rises_toward_the_anomalous_row():
    text = torch.eye(2)
    assert text_probability(text[1], text, 0.5) > 0.5 > text_probability(text[0], text, 0.5)


def test_text_probability_with_a_pair_for_each_image():
    features, text = _unit(3, 5, 8), _unit(3, 2, 8)
    got = text_probability(features, text, 0.1)
    expected = torch.stack([text_probability(f, t, 0.1) for f, t in zip(features, text, strict=True)])
    torch.testing.assert_close(got, expected)


def test_grid_is_in_raster_order():
    assert to_grid(torch.arange(6), (2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]


def _bilinear(grid, height, width):
    """Half-pixel centres, edges repeated."""
    out = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * grid.shape[0] / height - 0.5, 0), grid.shape[0] - 1)
            x = min(max((j + 0.5) * grid.shape[1] / width - 0.5, 0), grid.shape[1] - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, grid.shape[0] - 1), min(x0 + 1, grid.shape[1] - 1)
            top = grid[y0, x0] * (1 - x + x0) + grid[y0, x1] * (x - x0)
            bottom = grid[y1, x0] * (1 - x + x0) + grid[y1, x1] * (x - x0)
            out[i, j] = top * (1 - y + y0) + bottom * (y - y0)
    return out


def test_map_is_bilinear_without_aligned_corners():
    scores = torch.rand(2, 6, generator=torch.Generator().manual_seed(0))
    got = to_map(scores, (2, 3), (7, 12))
    assert got.shape == (2, 7, 12)
    for row in range(2):
        np.testing.assert_allclose(got[row], _bilinear(scores[row].view(2, 3).numpy(), 7, 12), atol=1e-6)


def test_harmonic_mean():
    a, b, c = torch.tensor([0.2, 1.0, 3.0]), torch.tensor([0.6, 1.0, 0.5]), torch.tensor(0.4)
    expected = [2 * x * y / (x + y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert harmonic_mean(a, b).tolist() == pytest.approx(expected)
    three = [3 / (1 / x + 1 / y + 1 / 0.4) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert harmonic_mean(a, b, c).tolist() == pytest.approx(three)


def test_harmonic_mean_of_zero_is_nearly_zero_with_a_finite_gradient():
    zero = torch.tensor([0.0, 0.0], requires_grad=True)
    got = harmonic_mean(zero, torch.tensor([0.0, 5.0]))
    assert got.max().item() <= 2e-6
    got.sum().backward()
    assert zero.grad.isfinite().all()
