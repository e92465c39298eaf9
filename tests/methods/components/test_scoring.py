"""Scores and maps against formulas written out with the math module and numpy."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from methods.components.scoring import fuse, log_harmonic_mean, log_text_probability, to_grid, to_map


def _unit(*shape):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape))), dim=-1)


def test_text_probability_is_the_logistic_of_the_difference():
    features, text = _unit(2, 5, 8), _unit(2, 8)
    got = log_text_probability(features, text, 0.07).exp()
    assert got.shape == (2, 5)
    for b in range(2):
        for n in range(5):
            normal, anomalous = (
                sum(x * y for x, y in zip(features[b, n].tolist(), t, strict=True)) for t in text.tolist()
            )
            assert got[b, n].item() == pytest.approx(1 / (1 + math.exp((normal - anomalous) / 0.07)), abs=1e-5)
    assert log_text_probability(features[0, 0], text, 0.07).exp().item() == pytest.approx(got[0, 0].item(), abs=1e-6)


def test_text_probability_rises_toward_the_anomalous_row():
    text = torch.eye(2)
    assert log_text_probability(text[1], text, 0.5).exp() > 0.5 > log_text_probability(text[0], text, 0.5).exp()


def test_text_probability_with_a_pair_for_each_image():
    features, text = _unit(3, 5, 8), _unit(3, 2, 8)
    got = log_text_probability(features, text, 0.1).exp()
    expected = torch.stack([log_text_probability(f, t, 0.1).exp() for f, t in zip(features, text, strict=True)])
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


def test_map_with_aligned_corners_meets_the_corner_patches():
    """Against a plain interpolation between patches whose outermost centres lie on the outermost pixels."""
    scores = torch.rand(2, 6, generator=torch.Generator().manual_seed(0))
    got = to_map(scores, (2, 3), (7, 12), align_corners=True)
    rows, columns = np.linspace(0, 1, 7), np.linspace(0, 2, 12)
    for its, found in zip(scores.view(2, 2, 3).numpy(), got.numpy(), strict=True):
        across = np.stack([np.interp(columns, range(3), row) for row in its])  # (2, 12)
        expected = np.stack([np.interp(rows, range(2), column) for column in across.T], axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_harmonic_mean():
    a, b, c = torch.tensor([0.2, 1.0, 3.0]), torch.tensor([0.6, 1.0, 0.5]), torch.tensor(0.4)
    expected = [2 * x * y / (x + y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert log_harmonic_mean(a.log(), b.log()).exp().tolist() == pytest.approx(expected)
    assert (2 * fuse(a.log(), b.log())).tolist() == pytest.approx(expected)
    three = [3 / (1 / x + 1 / y + 1 / 0.4) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert log_harmonic_mean(a.log(), b.log(), c.log()).exp().tolist() == pytest.approx(three)


def test_harmonic_mean_of_zero_is_zero():
    zero, other = torch.tensor([0.0, 0.0]).log(), torch.tensor([0.0, 5.0]).log()
    assert log_harmonic_mean(zero, other).exp().tolist() == fuse(zero, other).tolist() == [0, 0]


@pytest.mark.parametrize("join", [fuse, lambda *logs: log_harmonic_mean(*logs).exp()])
def test_fusion_keeps_order_and_value_over_40_decades(join):
    """Against exact decimals; float32 rounds below 1e-38, where order must hold, not value."""
    decades = np.linspace(-40, 0, 4001)
    fused = join(torch.from_numpy(decades * math.log(10)).float(), torch.tensor(0.3).log())
    assert (fused.diff() > 0).all()
    factor = 1 if join is fuse else 2
    with localcontext() as context:
        context.prec = 60
        exact = [factor / (1 / Decimal(10) ** Decimal(d) + 1 / Decimal("0.3")) for d in decades]
    for value, right, decade in zip(fused.tolist(), exact, decades, strict=True):
        assert value == pytest.approx(float(right), rel=2e-5 if decade > -37.5 else 0.01, abs=0)


def test_fusion_at_clips_temperature_keeps_what_a_floor_destroys():
    """Normal pixels at 1e-12, anomalous ones at 5e-7: a floor of 1e-6 gave an AUROC of 0.493."""
    generator = torch.Generator().manual_seed(0)
    normal, anomalous = 1e-12 * (1 + torch.rand(500, generator=generator)), torch.full((500,), 5e-7)
    distances = 0.05 + 0.01 * torch.rand(1000, generator=generator)
    fused = fuse(torch.cat([normal, anomalous]).log(), distances.log())
    assert fused[:500].max() < fused[500:].min()


def test_log_probability_where_the_probability_is_zero():
    text = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    got = log_text_probability(torch.tensor([[1.0, 0.0], [0.6, 0.8]]), text, 0.005)
    assert got.tolist() == pytest.approx([-200, 0], abs=1e-4)
