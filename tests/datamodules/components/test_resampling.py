"""A fit by steps resamples the same whatever number of workers reads, however long it is, whatever came before."""

import hashlib

import pytest
import torch
from twins import write_mvtec_ad

from datamodules.components.fit_data import FitData
from datamodules.components.resampling import unchanged
from datamodules.components.sample import DataError
from datamodules.mvtec_ad import MVTecAD


def shade(item, seed):
    """Shows the seed in the image."""
    return item._replace(image=item.image * (seed % 1000) / 1000, simulated=str(seed))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_mvtec_ad(tmp_path_factory.mktemp("resampling"))


def open_set(root, **settings):
    defaults = {"image_size": 16, "shots": 2, "batch_size": 3}
    return MVTecAD(root, ("bottle", "metal_nut"), **defaults | settings)


def read(root, steps=4, augment=shade, **settings):
    return list(open_set(root, **settings).fit_loader(FitData("shots", steps=steps, augment=augment)))


def assert_equal(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one[3:] == other[3:]
        assert all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


def test_samples_are_those_of_the_hash(root):
    data = open_set(root, seed=5)
    shots = [data.relative(sample.image) for category in data.chosen for sample in data.sample_shots(category)]
    batches = read(root, seed=5)
    assert [len(batch.label) for batch in batches] == [3] * 4
    found = [(path, int(seed)) for batch in batches for path, seed in zip(batch.path, batch.simulated, strict=True)]
    digests = [hashlib.sha256(f"5/{index}".encode()).digest() for index in range(12)]
    expected = [(shots[int.from_bytes(d[:8], "big") % 4], int.from_bytes(d[8:16], "big") // 2) for d in digests]
    assert found == expected


def test_every_shot_is_sampled_about_as_often(root):
    """Of 400 samples from four, 100 each within four standard deviations."""
    paths = [path for batch in read(root, steps=100, batch_size=4, augment=unchanged) for path in batch.path]
    counts = [paths.count(path) for path in set(paths)]
    assert len(counts) == 4
    assert all(65 < count < 135 for count in counts)


def test_no_seed_comes_twice(root):
    seeds = [int(seed) for batch in read(root, steps=20) for seed in batch.simulated]
    assert len(set(seeds)) == 60
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_workers_change_nothing(root):
    assert_equal(read(root), read(root, num_workers=1))


def test_a_second_pass_and_a_longer_one_begin_alike(root):
    loader = open_set(root).fit_loader(FitData("shots", steps=2, augment=shade))
    first = list(loader)
    assert_equal(first, list(loader))
    assert_equal(first, read(root, steps=5)[:2])


def test_another_seed_samples_others(root):
    first, second = ([batch.simulated for batch in read(root, seed=seed)] for seed in (0, 1))
    assert first != second


def test_unchanged_items_are_the_shots(root):
    data = open_set(root)
    shots = {category: data.shot_images(category) for category in data.chosen}
    for batch in data.fit_loader(FitData("shots", steps=2, augment=unchanged)):
        assert set(batch.simulated) == {""}
        assert not batch.mask.any()
        for image, category in zip(batch.image, batch.category, strict=True):
            assert any(torch.equal(image, shot) for shot in shots[category])


def test_no_shots_are_refused(root):
    with pytest.raises(DataError, match="nothing to train on: shots is 0"):
        open_set(root, shots=0).fit_loader(FitData("shots", steps=2, augment=shade))
