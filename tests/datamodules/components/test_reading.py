"""Pixels and masks, against torch's own resize and hand-made pictures."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch.nn.functional import interpolate

from datamodules.components.decoding import check_image, marks_anything, peculiarities, peculiarity
from datamodules.components.reading import read_image, read_mask, read_regions
from datamodules.components.sample import DataError, Sample


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


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    shown = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    turns = {2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1)}
    turns |= {6: lambda a: np.rot90(a), 7: lambda a: a.swapaxes(0, 1)[::-1, ::-1], 8: lambda a: np.rot90(a, 3)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", turns[orientation](shown), exif=exif)
    assert torch.equal(read_image(path, 8), read_image(save(tmp_path / "b.png", shown), 8))
    assert check_image(path) == (4, 6)
    assert peculiarity(path) == "EXIF orientation applied"
    assert read_mask(save(tmp_path / "m.png", turns[orientation](shown) > 200, exif=exif), 6).any()


def test_sixteen_bits_are_scaled_as_a_whole(tmp_path):
    values = np.array([[0, 257], [32768, 65535]], np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        read = read_image(tmp_path / name, 2) * 255
        assert read[0].round().tolist() == [[0, 1], [128, 255]]
        assert peculiarity(tmp_path / name) == "16-bit values divided by 257"
        assert read_mask(tmp_path / name, 2).tolist() == [[False, True], [True, True]]


def test_float_values_are_those_of_a_unit_interval(tmp_path):
    Image.fromarray(np.array([[0.0, 0.5], [1.0, 0.25]], np.float32)).save(tmp_path / "a.tif")
    assert (read_image(tmp_path / "a.tif", 2)[0] * 255).round().tolist() == [[0, 128], [255, 64]]
    for wrong in (-0.1, 1.5, float("nan")):
        Image.fromarray(np.array([[0.0, wrong]], np.float32)).save(tmp_path / "b.tif")
        with pytest.raises(DataError, match=r"b.tif holds values from .*: F must lie in \[0, 1\]"):
            read_image(tmp_path / "b.tif", 2)


@pytest.mark.parametrize("ending", [".gif", ".jfif", ".webp", ".bmp", ".tif"])
def test_formats_that_are_read(tmp_path, ending):
    pixels = np.full((5, 4, 3), 200, np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / f"a{ending}", **({"format": "JPEG"} if ending == ".jfif" else {}))
    assert (read_image(tmp_path / f"a{ending}", 3) - 200 / 255).abs().max() < 2 / 255
    frames = [picture, Image.new("RGB", (4, 5))]
    if ending in (".gif", ".webp", ".tif"):
        frames[0].save(tmp_path / f"b{ending}", save_all=True, append_images=frames[1:])
        assert peculiarity(tmp_path / f"b{ending}") == "first of several frames read"


def test_a_format_that_starts_another_program_is_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    for look in (check_image, lambda path: read_image(path, 4)):
        with pytest.raises(DataError, match=r"a.png cannot be read as an image.*Read are PNG, JPEG, BMP"):
            look(tmp_path / "a.png")


def test_marks_in_the_alpha_channel_count(tmp_path):
    alpha = np.zeros((4, 4), np.uint8)
    alpha[1, 2] = 255
    black = np.zeros((4, 4, 3), np.uint8)
    Image.fromarray(np.dstack([black, alpha])).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", 4).nonzero().tolist() == [[1, 2]]
    coloured = black.copy()
    coloured[0, 0] = 9
    Image.fromarray(np.dstack([coloured, alpha])).save(tmp_path / "b.png")
    assert read_mask(tmp_path / "b.png", 4).nonzero().tolist() == [[0, 0]]  # colours differ, so they mark
    Image.fromarray(np.dstack([black, np.full((4, 4), 255, np.uint8)])).save(tmp_path / "c.png")
    assert not marks_anything(tmp_path / "c.png")


def test_the_noise_of_a_lossy_mask_is_no_mark(tmp_path):
    marks = np.zeros((32, 32), np.uint8)
    marks[8:20, 8:20] = 255
    path = save(tmp_path / "a.jpg", marks, quality=60)
    assert (np.array(Image.open(path)) > 0).sum() - 144 > 0  # there is noise
    assert read_regions(path, 32, "native").found == 1
    assert read_mask(path, 32).sum() == pytest.approx(144, abs=12)


def test_what_was_done_to_images_is_counted(tmp_path):
    plain = save(tmp_path / "a.png", np.zeros((4, 4)))
    wide = tmp_path / "b.png"
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(wide)
    said = peculiarities([Sample(plain, "x"), Sample(wide, "x")])
    assert said == ["16-bit values divided by 257: 1 of 2 images (b.png, …)"]


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


@pytest.mark.parametrize(("kind", "value"), [(np.int32, 70000), (np.float32, 4000)])
@pytest.mark.parametrize("look", [check_image, lambda path: read_image(path, 4)])
def test_values_beyond_the_range_are_refused(tmp_path, kind, value, look):
    path = tmp_path / "deep.tif"
    Image.fromarray(np.full((6, 6), value, kind)).save(path)
    with pytest.raises(DataError, match=rf"deep\.tif holds values from {value:g} to {value:g}: . must lie in"):
        look(path)
