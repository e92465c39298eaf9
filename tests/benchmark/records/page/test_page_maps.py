"""A thumbnail's map is what the test saw, in the place where the image shows it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from benchmark.records.page.maps import COLOURS, OUTLINE, finishing, outlined, overlay


def finished(own, size, sigma, align_corners, shown):
    """The same steps by torch and scipy."""
    maps = torch.from_numpy(own)[None, None]
    if size:
        maps = F.interpolate(maps, size, mode="bilinear", align_corners=align_corners)
    smooth = torch.from_numpy(gaussian_filter(maps[0, 0].numpy(), sigma) if sigma else maps[0, 0].numpy())
    return F.interpolate(smooth[None, None], shown, mode="bilinear", antialias=True)[0, 0].numpy()


@pytest.mark.parametrize(
    ("size", "sigma", "align_corners", "shown"),
    [
        ((60, 90), 0.0, False, (60, 90)),
        ((60, 90), 0.0, True, (60, 90)),
        ((60, 90), 3.0, False, (32, 48)),
        ((61, 91), 8.0, True, (17, 25)),
        (None, 1.5, False, (40, 60)),
        (None, 0.0, False, (3, 5)),
    ],
)
def test_a_map_is_enlarged_smoothed_and_shrunk_as_torch_and_scipy_do(size, sigma, align_corners, shown):
    own = np.random.default_rng(0).normal(size=(7, 11))
    rows, columns = (
        finishing(shown[axis], own.shape[axis], size[axis] if size else None, sigma, align_corners) for axis in (0, 1)
    )
    expected = finished(own, size, sigma, align_corners, shown)
    np.testing.assert_allclose(rows @ own @ columns.T, expected, atol=1e-6)


def test_the_hottest_place_is_the_most_yellow_one_and_cold_ones_leave_the_image():
    pixels = np.full((4, 6, 3), 100, np.uint8)
    shares = np.zeros((4, 6))
    shares[1, 5] = 1.0
    drawn = np.array(overlay(pixels, shares)).astype(float)
    assert np.unravel_index(drawn.sum(axis=-1).argmax(), (4, 6)) == (1, 5)
    np.testing.assert_allclose(drawn[1, 5], 0.15 * 100 + 0.85 * COLOURS[-1], atol=1)
    np.testing.assert_allclose(drawn[0, 0], 0.90 * 100 + 0.10 * COLOURS[0], atol=1)


def test_the_truth_is_outlined_and_not_covered():
    marked = np.zeros((40, 60), bool)
    marked[12:20, 30:40] = True  # rows 6..9 and columns 15..19 of the image
    drawn = np.array(outlined(np.full((20, 30, 3), 100, np.uint8), marked))
    border = (drawn == OUTLINE).all(axis=-1)
    expected = np.zeros((20, 30), bool)
    expected[5:11, 14:21] = True
    expected[6:10, 15:20] = False
    np.testing.assert_array_equal(border, expected)


def test_a_scratch_thinner_than_a_pixel_is_outlined():
    marked = np.zeros((512, 512), bool)
    marked[:, 301] = True
    assert (np.array(outlined(np.zeros((64, 64, 3), np.uint8), marked)) == OUTLINE).all(axis=-1).any()
