"""The probe sees another decoder, another filter, another labelling, and nothing else."""

import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules.components import decoding, reading
from datamodules.components import pixel_probe as probe
from datamodules.components.reading import read_regions
from datamodules.components.sample import DataError

resize, convert, label = Image.Image.resize, Image.Image.convert, cv2.connectedComponents
BICUBIC, BILINEAR, NEAREST = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.NEAREST
TURN = Image.Transpose.TRANSPOSE


def again() -> str:
    probe.pixel_probe.cache_clear()
    return probe.pixel_probe()


@pytest.fixture(autouse=True)
def usual():
    yield again()
    probe.pixel_probe.cache_clear()


def bilinear(image, size, resample):
    return resize(image, size, BILINEAR if resample == BICUBIC else resample)


def other_order(image, size, resample):
    """Rows before columns: Pillow rounds between the two passes."""
    if resample != BICUBIC:
        return resize(image, size, resample)
    return resize(image.transpose(TURN), size, resample).transpose(TURN)


def other_corner(image, size, resample):
    """The pixel under each corner instead of each middle, as OpenCV's nearest neighbour takes it."""
    if resample != NEAREST:
        return resize(image, size, resample)
    return Image.fromarray(cv2.resize(np.array(image), size, interpolation=cv2.INTER_NEAREST))


def box(image, size, resample):
    """Another filter for the masks of a fit."""
    return resize(image, size, Image.Resampling.BOX if resample == BILINEAR else resample)


@pytest.mark.parametrize("other", [bilinear, other_order, other_corner, box])
def test_another_resize_shows(monkeypatch, usual, other):
    monkeypatch.setattr(Image.Image, "resize", other)
    assert again() != usual


def jpeg_one_level_up(image, mode):
    pixels = np.array(convert(image, mode))
    if image.format == "JPEG":
        pixels[5, 5] ^= 1
    return Image.fromarray(pixels)


def transparent_is_black(image, mode):
    if image.format == "PNG" and "transparency" in image.info:
        image = convert(image, "RGBA")
        return Image.composite(convert(image, mode), Image.new(mode, image.size), image.getchannel("A"))
    return convert(image, mode)


def alpha_is_a_background(image, mode):
    return Image.alpha_composite(Image.new("RGBA", image.size), image) if image.mode == "RGBA" else convert(image, mode)


@pytest.mark.parametrize("other", [jpeg_one_level_up, transparent_is_black, alpha_is_a_background])
def test_another_decoder_shows(monkeypatch, usual, other):
    monkeypatch.setattr(Image.Image, "convert", lambda image, mode: convert(other(image, mode), "RGB"))
    assert again() != usual


def test_the_same_decoder_and_resize_by_another_way_do_not_show(monkeypatch, usual):
    monkeypatch.setattr(Image.Image, "convert", lambda image, mode: Image.fromarray(np.array(convert(image, mode))))
    monkeypatch.setattr(Image.Image, "resize", lambda image, size, kind: resize(image.copy(), size, kind))
    assert again() == usual


def test_other_regions_show(monkeypatch, usual):
    monkeypatch.setattr(cv2, "connectedComponents", lambda mask, connectivity: label(mask, connectivity=4))
    assert again() != usual


def test_another_numbering_of_the_same_regions_is_no_difference(monkeypatch, usual):
    def backwards(mask, connectivity):
        count, labels = label(mask, connectivity=connectivity)
        return count, np.where(labels > 0, count - labels, 0)

    monkeypatch.setattr(cv2, "connectedComponents", backwards)
    assert again() == usual


@pytest.mark.slow
def test_each_file_that_is_refused_shows(monkeypatch, usual):
    seen = {usual}
    opened = decoding.open_image
    for name in {*probe.IMAGES, *probe.MASKS} - {"sixteen_bit.png"}:

        def refuse(path, name=name):
            if path.name == name:
                raise DataError(f"{path} is refused.")
            return opened(path)

        monkeypatch.setattr(decoding, "open_image", refuse)
        seen.add(again())
    assert len(seen) == 1 + 8


def test_16_bit_is_part_of_it():
    assert reading.read_image(probe.FOLDER / "sixteen_bit.png", 37).unique().numel() > 10


def test_place_threads_and_repetition_do_not_show(monkeypatch, tmp_path, usual):
    shutil.copytree(probe.FOLDER, tmp_path / "elsewhere")
    monkeypatch.setattr(probe, "FOLDER", tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1 if threads > 1 else 4)
    assert again() == usual
    cv2.setNumThreads(threads)
    assert probe.pixel_probe() is probe.pixel_probe()


def test_a_missing_file_is_no_refusal(monkeypatch, tmp_path):
    shutil.copytree(probe.FOLDER, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "rgba.png").unlink()
    monkeypatch.setattr(probe, "FOLDER", tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        again()


def test_the_mask_breaks_merges_and_vanishes():
    native, resized = (read_regions(probe.FOLDER / "mask.png", 97, rule) for rule in ("native", "resized"))
    assert native.vanished
    assert resized.found > native.found


def test_the_files_are_few_and_small():
    files = {path.name: path.stat().st_size for path in probe.FOLDER.iterdir()}
    assert files.keys() == {*probe.IMAGES, *probe.MASKS}
    assert sum(files.values()) < 40_000
