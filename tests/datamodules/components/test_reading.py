"""Pixels and masks, against torch's own resize and hand-made pictures."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch.nn.functional import interpolate

from datamodules.components.reading import check_image, read_image, read_mask, read_regions
from datamodules.components.sample import DataError


def save(path, pixels, **options):
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)
    return path


@pytest.mark.parametrize("size", [7, 16, 40])
def test_image_against_torch(tmp_path, size):
    """Within Pillow's two roundings, 0.5 * 1.25 + 0.5 steps (1.25: sum of absolute weights); nothing overshoots."""
    pixels = np.random.default_rng(0).integers(64, 192, (30, 22, 3), dtype=np.uint8)
    read = read_image(save(tmp_path / "a.png", pixels), size)
    raw = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    expected = interpolate(raw, (size, size), mode="bicubic", antialias=True)[0] / 255
    assert read.shape == (3, size, size)
    assert read.dtype == torch.float32
    assert (read - expected).abs().max() < 1.15 / 255


def test_equal_size_is_exact(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    read = read_image(save(tmp_path / "a.png", pixels), 8)
    assert torch.equal(read, torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_modes_become_rgb(tmp_path, mode):
    picture = Image.new("RGB", (6, 4), (255, 255, 255)).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    picture.save(path)
    assert torch.equal(read_image(path, 5), torch.ones(3, 5, 5))


def test_exif_orientation_is_not_applied(tmp_path):
    pixels = np.zeros((16, 16, 3))
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees when shown
    read = read_image(save(tmp_path / "a.jpg", pixels, exif=exif, quality=100), 16)
    assert read[:, :, :7].min() > 0.9
    assert read[:, :, 9:].max() < 0.1


@pytest.mark.parametrize("value", [1, 2, 127, 128, 255])
def test_masks_are_true_above_zero(tmp_path, value):
    pixels = np.zeros((6, 6))
    pixels[1, 2:4] = value
    mask = read_mask(save(tmp_path / "a.png", pixels), 12)
    assert mask.dtype == torch.bool
    expected = torch.zeros(12, 12, dtype=torch.bool)
    expected[2:4, 4:8] = True  # the corners hold 0.75 x 0.75, the pixels around 0.25
    assert torch.equal(mask, expected)


def test_mask_channels_are_not_mixed(tmp_path):
    pixels = np.zeros((4, 4, 3))
    pixels[0, 0, 2] = 1  # to grey: 0.114, rounded to 0
    assert read_mask(save(tmp_path / "a.png", pixels), 4).nonzero().tolist() == [[0, 0]]


@pytest.mark.parametrize("size", [5, 8, 13, 40])
@pytest.mark.parametrize("shape", [(8, 11), (31, 20)])
def test_mask_against_torch(tmp_path, size, shape):
    """What an antialiased bilinear resize holds above one half; within Pillow's two roundings of it anything goes."""
    marked = ndimage.gaussian_filter(np.random.default_rng(size).standard_normal(shape), 1) > 0
    raw = torch.from_numpy(marked)[None, None].double()
    share = interpolate(raw, (size, size), mode="bilinear", antialias=True)[0, 0]
    certain = (share - 0.5).abs() > 1 / 255
    mask = read_mask(save(tmp_path / "a.png", marked * 255), size)
    assert torch.equal(mask[certain], (share > 0.5)[certain])
    assert certain.float().mean() > 0.9
    assert mask.any()
    assert not mask.all()


def test_a_thin_scratch_vanishes_from_a_fit_alone(tmp_path):
    """A quarter of a pixel wide it is below one half everywhere, and under the middles of a column."""
    pixels = np.zeros((32, 32))
    pixels[:, 10] = 255
    path = save(tmp_path / "a.png", pixels)
    assert not read_mask(path, 8).any()
    assert read_regions(path, 8, "resized").ids.sum(dim=0).tolist() == [0, 0, 8, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("read", [read_image, read_mask], ids=["image", "mask"])
def test_a_file_that_breaks_while_read_is_named(tmp_path, read):
    path = save(tmp_path / "broken.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3)))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"broken\.png cannot be read as an image"):
        read(path, 8)


def test_check_sees_width_and_height(tmp_path):
    size = check_image(save(tmp_path / "a.png", np.zeros((4, 6))))
    assert (size.width, size.height) == (6, 4)


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif", "webp"])
def test_check_passes_sound_files(tmp_path, ending):
    assert check_image(save(tmp_path / f"a.{ending}", np.full((9, 5, 3), 80))) == (5, 9)


def test_check_decodes_a_jpeg_with_appended_data(tmp_path):
    path = save(tmp_path / "a.jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3)))
    path.write_bytes(path.read_bytes() + b"motion photo" * 200)
    assert check_image(path) == (64, 64)


@pytest.mark.parametrize(("ending", "keep"), [("png", -12), ("png", 2000), ("jpg", 2000), ("jpg", -400)])
def test_check_finds_truncated_files(tmp_path, ending, keep):
    path = save(tmp_path / f"a.{ending}", np.random.default_rng(0).integers(0, 256, (64, 64, 3)))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=rf"a\.{ending} .*truncated"):
        check_image(path)


@pytest.mark.parametrize(("data", "reason"), [(b"", "cannot identify"), (b"text" * 50, "cannot identify")])
def test_check_finds_what_is_no_image(tmp_path, data, reason):
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"a.png cannot be read as an image: {reason}"):
        check_image(path)


@pytest.mark.parametrize(("kind", "ending"), [(np.uint16, "png"), (np.int32, "tif"), (np.float32, "tif")])
@pytest.mark.parametrize("look", [check_image, lambda path: read_image(path, 4), lambda path: read_mask(path, 4)])
def test_wide_values_are_refused(tmp_path, kind, ending, look):
    path = tmp_path / f"deep.{ending}"
    Image.fromarray(np.full((6, 6), 4000, kind)).save(path)
    with pytest.raises(DataError, match=rf"deep\.{ending} has Pillow mode .* Convert it to 8 bit"):
        look(path)
