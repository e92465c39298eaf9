import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.components.sample import DataError
from methods.components.synthesis import pipeline as synthesis
from methods.components.synthesis import textures
from methods.components.synthesis.pipeline import Synthesis


@pytest.fixture
def folder(tmp_path):
    """Two plain pictures at two depths, and a file that is none."""
    (tmp_path / "b" / "deep").mkdir(parents=True)
    Image.new("RGB", (20, 10), (255, 0, 0)).save(tmp_path / "b" / "deep" / "red.PNG")
    Image.new("L", (10, 30), 0).save(tmp_path / "a.jpg")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_textures_of_a_folder_are_painted(folder, monkeypatch):
    monkeypatch.setattr(synthesis, "augment", lambda pixels, rng: pixels)
    assert [path.name for path in textures.find_textures(folder)] == ["a.jpg", "red.PNG"]
    synth, colours = Synthesis(kinds=("perlin",), textures=str(folder)), set()
    for seed in range(12):
        edit = synth.edit(torch.ones(3, 64, 64), seed)
        red, green, blue = edit.image[:, edit.mask]
        assert torch.equal(green, blue)
        assert green.max() <= 0.81
        colours.add(bool((red == 1).all()))
    assert colours == {True, False}


def test_without_a_folder_the_other_image_is_the_texture(monkeypatch):
    monkeypatch.setattr(synthesis, "augment", lambda pixels, rng: pixels)
    black, white = torch.zeros(3, 64, 64), torch.ones(3, 64, 64)
    synth = Synthesis(kinds=("perlin",))
    edit = synth.edit(white, 0, black)
    assert edit.image[:, edit.mask].max() <= 0.81
    assert torch.equal(synth.edit(white, 0).image, white)  # patches of white on white


def test_no_textures_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"textures must be a folder of images; .*absent is not a folder"):
        Synthesis(textures=str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"textures must be a folder of images \(\.png .*holds no image"):
        Synthesis(textures=str(tmp_path))


def test_a_damaged_texture_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png cannot be read as an image"):
        Synthesis(kinds=("perlin",), textures=str(tmp_path)).edit(torch.ones(3, 32, 32), 0)


def test_shuffled_patches_are_the_same_patches():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mixed = textures.shuffle(pixels, np.random.default_rng(1))

    def patches(picture):
        corners = [(row, column) for row in range(0, 32, 4) for column in range(0, 32, 4)]
        return [picture[row : row + 4, column : column + 4].tobytes() for row, column in corners]

    assert sorted(patches(mixed)) == sorted(patches(pixels))
    moved = sum(old != new for old, new in zip(patches(pixels), patches(mixed), strict=True))
    assert moved > 55
    assert textures.shuffle(pixels[:29, :29], np.random.default_rng(1)).shape == (29, 29, 3)


@pytest.mark.parametrize("change", textures._KINDS, ids=lambda change: change.__name__)
def test_every_change_keeps_the_form_and_changes(change):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    changed = change(pixels, np.random.default_rng(0))
    assert changed.shape == pixels.shape
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, pixels)


def test_three_different_changes_are_made(monkeypatch):
    made = []
    changes = tuple(lambda pixels, rng, number=number: made.append(number) or pixels for number in range(7))
    monkeypatch.setattr(textures, "_KINDS", changes)
    for seed in range(50):
        made.clear()
        textures.augment(np.zeros((8, 8, 3), np.uint8), np.random.default_rng(seed))
        assert len(made) == len({*made}) == 3


def test_jitter_changes_a_little():
    pixels = np.full((8, 8, 3), (200, 120, 60), np.uint8)
    for seed in range(40):
        changed = textures.jitter(pixels, np.random.default_rng(seed)).astype(int)
        assert np.abs(changed.max(axis=2) - 200).max() < 0.21 * 200  # hue and saturation keep the largest channel
