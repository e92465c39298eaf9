"""Maps of both classes, and smoothing against scipy."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.testing import assert_close

from methods.components.clip.depth import blocks_at, in_proportion
from methods.components.maps import class_maps, class_probabilities, gaussian_smooth


@pytest.mark.parametrize("shape", [(40, 40), (33, 70), (5, 3), (1, 1)])
@pytest.mark.parametrize("sigma", [0.1, 1.235, 4.0, 10.0])
def test_smooths_like_scipy(shape, sigma):
    """Also where the Gaussian reaches over the map several times."""
    maps = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    got = gaussian_smooth(torch.from_numpy(maps), sigma)
    expected = np.stack([gaussian_filter(each, sigma=sigma) for each in maps])
    assert got.dtype == torch.float32
    assert_close(got, torch.from_numpy(expected), atol=2e-6, rtol=0)


def test_no_deviation_no_smoothing():
    maps = torch.rand(2, 4, 6)
    assert torch.equal(gaussian_smooth(maps, 0), maps)


def test_probabilities_of_both_classes_keep_their_precision():
    features, text = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    normal, anomalous = class_probabilities(features, text, 0.05)[0, 0]
    assert normal == 1
    assert_close(anomalous.item(), float(np.exp(-40.0)), rtol=1e-4, atol=0)


def test_each_image_has_its_own_texts():
    features = torch.nn.functional.normalize(torch.randn(2, 3, 4), dim=-1)
    text = torch.nn.functional.normalize(torch.randn(2, 2, 4), dim=-1)
    together = class_probabilities(features, text, 0.07)
    assert_close(together[1], class_probabilities(features[1:], text[1], 0.07)[0])


def test_maps_lie_in_raster_order():
    probabilities = torch.arange(12.0).view(1, 6, 2)  # class 0 even, class 1 odd
    got = class_maps(probabilities, (2, 3), (2, 3))
    assert got[0, 1].tolist() == [[1, 3, 5], [7, 9, 11]]
    assert class_maps(probabilities, (2, 3), (4, 6))[0, 1, 0].tolist() == [1, 1.5, 2.5, 3.5, 4.5, 5]
    aligned = class_maps(probabilities, (2, 3), (2, 5), align_corners=True)
    assert aligned[0, 1].tolist() == [[1, 2, 3, 4, 5], [7, 8, 9, 10, 11]]


def test_blocks_of_the_papers_tower_and_of_shallower_ones():
    assert blocks_at((0.25, 0.5, 0.75, 1.0), 24) == (6, 12, 18, 24)
    assert blocks_at((0.25, 0.5, 0.75, 1.0), 2) == (1, 2)
    assert [in_proportion(5, 24, n) for n in (24, 12, 8)] == [5, 2, 1]
    assert [in_proportion(9, 12, n) for n in (12, 6, 4)] == [9, 4, 3]
    for wrong in ((), (0.0,), (1.5,)):
        with pytest.raises(ValueError, match="fractions of the depth, above 0 and at most 1"):
            blocks_at(wrong, 24)
