import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.components.reading import read_image
from methods.components.synthesis.views import ANOMALOUS_AREA, VIEWS, cut_masks, cut_views, view_labels


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def put_together(tiles):
    """Four tiles (B, 4, ..., S, S) in raster order as one image (B, ..., 2S, 2S)."""
    rows = [torch.cat([tiles[:, left], tiles[:, left + 1]], dim=-1) for left in (0, 2)]
    return torch.cat(rows, dim=-2)


@pytest.mark.parametrize("side", [2, 14, 30])
def test_tiles_put_together_are_the_image_and_its_mask(side):
    images, masks = random(3, 3, side, side), random(3, side, side, seed=1) > 0.8
    views, cut = cut_views(images), cut_masks(masks)
    assert views.shape == (3, VIEWS, 3, side // 2, side // 2)
    assert cut.shape == (3, VIEWS, side // 2, side // 2)
    assert cut.dtype == torch.bool
    assert torch.equal(put_together(views[:, 1:]), images)
    assert torch.equal(put_together(cut[:, 1:]), masks)


def test_the_whole_view_is_the_image_as_it_is_read_at_that_size(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    whole = cut_views(read_image(tmp_path / "image.png", 32)[None])[0, 0]
    assert (whole - read_image(tmp_path / "image.png", 16)).abs().max() < 1.01 / 255  # Pillow rounds to 8 bits
    assert whole.min() >= 0
    assert whole.max() <= 1


def test_one_masked_pixel_marks_the_pixel_of_the_whole_view_above_it():
    masks = random(2, 20, 20) > 0.9
    whole = cut_masks(masks)[:, 0].numpy()
    for image, row, column in np.ndindex(2, 10, 10):
        block = masks[image, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert whole[image, row, column] == bool(block.any())


def test_a_view_is_anomalous_above_a_thousandth_of_its_area():
    masks = torch.zeros(1, VIEWS, 100, 100, dtype=torch.bool)
    masks[0, 1, 0, :10] = True
    masks[0, 2, 0, :11] = True
    masks[0, 4] = True
    assert ANOMALOUS_AREA == 0.001
    assert view_labels(masks).tolist() == [[False, False, True, False, True]]


@pytest.mark.parametrize("shape", [(15, 15), (16, 14)])
def test_only_squares_of_an_even_side_are_cut(shape):
    with pytest.raises(ValueError, match=rf"even side; got {shape[0]} x {shape[1]} pixels"):
        cut_views(random(1, 3, *shape))
    with pytest.raises(ValueError, match=rf"even side; got {shape[0]} x {shape[1]} pixels"):
        cut_masks(random(1, *shape) > 0.5)
