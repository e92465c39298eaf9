"""AUPRO weighs each region that it is given once, in one piece or in several."""

import numpy as np
import pytest
import torch
from PIL import Image
from pixel_oracle import EXACT, KINDS, fill, labelled, oracle, plain_aupro, random_maps, values
from scipy import ndimage

from datamodules.components.reading import read_regions
from datamodules.components.regions import label_regions


def grouped(masks, seed):
    """Ids that join the connected regions of an image at random, some high, with gaps."""
    rng = np.random.default_rng(seed)
    numbers = rng.choice([1, 2, 7, 300, 70_000, 2_000_000], 1 + int(labelled(masks).max()))
    return np.where(masks, numbers[labelled(masks).numpy()], 0).astype(np.int32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_regions_in_pieces_are_equal_to_the_oracle(kind, seed):
    maps, masks = random_maps(seed)
    maps, ids = KINDS[kind](maps), grouped(masks, seed)
    assert len(np.unique(ids)) < len(np.unique(labelled(masks)))
    np.testing.assert_allclose(values(fill(maps, ids)), oracle(maps.astype(float), ids), rtol=0, atol=EXACT)


def test_only_aupro_sees_the_regions_and_no_number_matters():
    maps, masks = random_maps(3)
    connected, joined = values(fill(maps, masks)), values(fill(maps, grouped(masks, 0)))
    assert connected[:3] == joined[:3]
    assert abs(connected[3] - joined[3]) > 1e-3
    ids = labelled(masks).numpy()
    assert values(fill(maps, np.where(ids > 0, 5_000 - ids, 0).astype(np.int32))) == connected


@pytest.mark.parametrize("kind", KINDS)
def test_our_own_labels_give_the_bits_that_scipy_s_give(kind):
    maps, masks = random_maps(4)
    maps = KINDS[kind](maps)
    assert values(fill(maps, np.stack([label_regions(mask) for mask in masks]))) == values(fill(maps, masks))


@pytest.mark.slow
def test_a_scratch_in_pieces_weighs_as_one_defect(tmp_path):
    """A scratch that is missed beside a block that is found: half of the defects, but nearly all of the pieces."""
    mask = np.zeros((1024, 1024), np.uint8)
    for x in range(100, 700):
        mask[(x + 600) // 3 : (x + 600) // 3 + 2, x] = 255
    mask[600:800, 300:500] = 255
    Image.fromarray(mask).save(tmp_path / "a.png")
    native, resized = (read_regions(tmp_path / "a.png", 256, rule) for rule in ("native", "resized"))
    assert (native.found, native.vanished) == (2, ())
    assert resized.found > 5
    scores = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((256, 256)), 2).astype(np.float32)
    scores[150:200, 75:125] += 9  # the block is found, the scratch is not
    maps = scores[None]
    by_rule = {}
    for rule, regions in (("native", native), ("resized", resized)):
        (*_, by_rule[rule]) = values(fill(maps, regions.ids[None].numpy()))
        expected = plain_aupro(maps.astype(float), regions.ids[None].numpy())
        assert by_rule[rule] == pytest.approx(expected, abs=EXACT)
    assert by_rule["native"] > 0.5 > by_rule["resized"]


def test_a_vanished_region_counts_nowhere():
    maps, masks = random_maps(5)
    ids = labelled(masks).numpy()
    without = np.where(ids == 2, 0, ids)
    gaps = fill(maps, without)
    assert 2 not in without
    assert values(gaps)[3] == pytest.approx(plain_aupro(maps.astype(float), without), abs=EXACT)
    assert values(fill(maps, torch.as_tensor(without)))[3] == values(fill(maps, without != 0))[3]
