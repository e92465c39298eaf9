"""A fit by steps resamples the same whatever number of workers reads, however long it is, whatever came before."""

import hashlib
from collections import Counter

import pytest
import torch
from twins import write_mvtec_ad

from datamodules.components.fit_data import FitData
from datamodules.components.resampling import deal, unchanged
from datamodules.components.sample import DataError
from datamodules.mvtec_ad import MVTecAD


def shade(item, seed, place):
    """Shows the seed in the image."""
    return item._replace(image=item.image * (seed % 1000) / 1000, simulated=str(seed))


def place_of(item, seed, place):
    return item._replace(simulated=str(place))


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


def test_a_place_shows_the_image_that_was_dealt_with_the_seed_of_its_hash(root):
    data = open_set(root, seed=5)
    shots = [data.relative(sample.image) for category in data.chosen for sample in data.sample_shots(category)]
    batches = read(root, seed=5)
    assert [len(batch.label) for batch in batches] == [3] * 4
    found = [(path, int(seed)) for batch in batches for path, seed in zip(batch.path, batch.simulated, strict=True)]
    dealt = deal(["bottle", "bottle", "metal_nut", "metal_nut"], 4, 3, 5)
    digests = [hashlib.sha256(f"5/{place}".encode()).digest() for place in range(12)]
    assert found == [(shots[i], int.from_bytes(d[:8], "big") // 2) for i, d in zip(dealt, digests, strict=True)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 13])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "images", [{"a": 1}, {"a": 4}, {"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 3, "c": 2, "d": 1, "e": 2}]
)
def test_categories_and_their_images_are_dealt_evenly(images, size, seed):
    """In each batch, after each batch, and image by image."""
    categories = [name for name, count in images.items() for _ in range(count)]
    dealt = deal(categories, 25, size, seed)
    assert len(dealt) == 25 * size
    for batch in range(25):
        for shown in (dealt[batch * size : (batch + 1) * size], dealt[: (batch + 1) * size]):
            counts = Counter(categories[image] for image in shown)
            assert max(counts.values()) - min(counts[name] for name in images) <= 1
    for name in images:
        counts = Counter(image for image in dealt if categories[image] == name)
        assert max(counts.values()) - min(counts[i] for i, own in enumerate(categories) if own == name) <= 1


def test_what_is_dealt_is_mixed():
    """Each category stands at each place of a batch about as often: what takes turns by place meets all categories."""
    dealt = deal(["a", "b", "c", "d"], 400, 4, 0)
    counts = Counter((image, place % 4) for place, image in enumerate(dealt))
    assert len(counts) == 16
    assert all(65 < count < 135 for count in counts.values())  # of 100, within four standard deviations
    assert deal(["a", "b", "c", "d"], 400, 4, 1) != dealt


def test_a_repeated_image_comes_twice_in_a_row_with_two_seeds(root):
    plain, loader = read(root), open_set(root).fit_loader(FitData("shots", steps=4, augment=shade, repeats=2))
    batches = list(loader)
    assert [batch.path for batch in batches] == [[p for p in batch.path for _ in range(2)] for batch in plain]
    seeds = [seed for batch in batches for seed in batch.simulated]
    assert len(set(seeds)) == len(seeds) == 24


def test_the_place_counts_all_items_of_a_fit(root):
    batches = read(root, augment=place_of)
    assert [batch.simulated for batch in batches] == [[str(3 * step + i) for i in range(3)] for step in range(4)]


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
