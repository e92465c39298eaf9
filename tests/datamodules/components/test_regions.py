"""Regions of masks, against scipy's labelling and hand-made scratches."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from datamodules.components.reading import read_regions
from datamodules.components.regions import label_regions
from datamodules.components.sample import DataError

RULES = ("resized", "native")
SIZES = (1, 2, 7, 16, 33, 64, 100, 256)


def save(path, marked):
    Image.fromarray(np.asarray(marked, np.uint8) * 255).save(path)
    return path


def by_rows(mask):
    """Labels by scipy, numbered by a walk over all pixels."""
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    numbers = {0: 0}
    return np.vectorize(lambda label: numbers.setdefault(label, len(numbers)), otypes=[int])(labels)


def under_middles(values, size):
    rows, columns = (np.floor((np.arange(size) + 0.5) * side / size).astype(int) for side in values.shape)
    return values[np.ix_(rows, columns)]


def scratch(angle, side=1024, width=2):
    """A band of pixels across the middle, (side, side) bool."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    sine, cosine = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    return (abs(x * sine - y * cosine) <= width / 2) & (abs(x * cosine + y * sine) < 0.4 * side)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 0.4, 0.6, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (31, 47), (48, 48)])
def test_labels_are_those_of_scipy_in_the_order_of_rows(share, shape):
    for seed in range(5):
        mask = np.random.default_rng(seed).random(shape) < share
        labels = label_regions(mask)
        assert labels.dtype == np.int32
        assert (labels == by_rows(mask)).all()
        assert (label_regions(mask.T) == by_rows(mask.T)).all()
        assert (label_regions(mask[::-1, ::2]) == by_rows(mask[::-1, ::2])).all()


def test_diagonal_neighbours_belong_together():
    assert label_regions(np.eye(5, dtype=bool)).max() == 1


def random_mask(shape, seed):
    return ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.2) > 0.15


@pytest.mark.parametrize("shape", [(64, 64), (90, 61), (33, 128)])
def test_both_rules_mark_the_nearest_pixels(tmp_path, shape):
    mask = random_mask(shape, 0)
    path = save(tmp_path / "a.png", mask)
    for size in SIZES:
        expected = np.array(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))
        for rule in RULES:
            regions = read_regions(path, size, rule)
            assert regions.ids.dtype == torch.int32
            assert regions.ids.shape == (size, size)
            assert ((regions.ids > 0).numpy() == expected).all()


@pytest.mark.parametrize("size", SIZES)
def test_each_rule_against_scipy(tmp_path, size):
    mask = random_mask((89, 61), 1)  # odd sides: no middle falls on the edge of two pixels
    own = by_rows(mask)
    path, small = save(tmp_path / "a.png", mask), under_middles(own, size)
    native, resized = (read_regions(path, size, rule) for rule in ("native", "resized"))
    gone = tuple(sorted(set(range(1, own.max() + 1)) - set(small.ravel().tolist())))
    assert (native.ids.numpy() == small).all()
    assert (native.found, native.vanished) == (own.max(), gone)
    assert (resized.ids.numpy() == by_rows(small > 0)).all()
    assert (resized.found, resized.vanished) == (by_rows(small > 0).max(), gone)


@pytest.mark.parametrize("rule", RULES)
def test_colours_and_small_values_are_marks_too(tmp_path, rule):
    pixels = np.zeros((6, 6, 3), np.uint8)
    pixels[0, 0, 2], pixels[5, 5, 0] = 1, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_regions(tmp_path / "a.png", 6, rule).ids.nonzero().tolist() == [[0, 0], [5, 5]]


def test_no_number_is_too_great(tmp_path):
    mask = np.zeros((600, 600), bool)
    mask[::2, ::2] = True  # 90,000 regions of one pixel
    path = save(tmp_path / "a.png", mask)
    whole, small = read_regions(path, 600, "native"), read_regions(path, 173, "native")
    assert sorted(whole.ids[whole.ids > 0].tolist()) == list(range(1, 90_001))
    assert (small.ids.numpy() == under_middles(by_rows(mask), 173)).all()
    assert len(small.vanished) == 90_000 - len(small.ids.unique()) + 1


@pytest.mark.parametrize("angle", [3, 10, 22, 35, 50, 67, 80])
def test_a_scratch_in_pieces_is_one_region_at_its_own_size(tmp_path, angle):
    path = save(tmp_path / "a.png", scratch(angle))
    resized, native = read_regions(path, 256, "resized"), read_regions(path, 256, "native")
    assert resized.found > 10
    assert resized.ids.max() == resized.found
    assert (native.found, native.vanished) == (1, ())
    assert native.ids.unique().tolist() == [0, 1]


def test_neighbours_that_touch_once_resized_stay_two(tmp_path):
    mask = np.zeros((64, 64), bool)
    mask[8:40, 8:24] = mask[8:40, 25:40] = True  # the column between is not under a middle at 16 px
    path = save(tmp_path / "a.png", mask)
    assert read_regions(path, 16, "resized").found == 1
    assert read_regions(path, 16, "native").ids.unique().tolist() == [0, 1, 2]


def test_what_vanishes_is_named(tmp_path):
    mask = np.zeros((64, 64), bool)
    mask[3, 3] = mask[20:40, 20:40] = mask[61, 0:3] = True
    native = read_regions(save(tmp_path / "a.png", mask), 8, "native")
    assert (native.found, native.vanished) == (3, (1, 3))
    assert native.ids.unique().tolist() == [0, 2]


@pytest.mark.parametrize(("rule", "found"), [("resized", 0), ("native", 2)])
def test_a_mask_that_vanishes_whole_is_not_an_empty_one(tmp_path, rule, found):
    mask = np.zeros((64, 64), bool)
    path = save(tmp_path / "a.png", mask)
    assert read_regions(path, 8, rule)[1:] == (0, ())
    mask[3, 3] = mask[9, 9] = True
    regions = read_regions(save(path, mask), 8, rule)
    assert not regions.ids.any()
    assert (regions.found, regions.vanished) == (found, (1, 2))


@pytest.mark.parametrize("rule", RULES)
def test_a_file_that_is_no_mask_is_named(tmp_path, rule):
    (tmp_path / "a.png").write_bytes(b"text" * 50)
    with pytest.raises(DataError, match=r"a\.png cannot be read as an image"):
        read_regions(tmp_path / "a.png", 8, rule)
