"""What becomes of a shot in a fit: which kind, from which seed, and how evenly kinds take turns."""

from collections import Counter

import numpy as np
import pytest
import torch
from twins import write_mvtec_ad

from datamodules.components.reading import Item
from datamodules.mvtec_ad import MVTecAD
from methods.anople.method import AnoPLe
from methods.anople.simulation import Simulation, jitter_colours
from methods.components.synthesis.pipeline import Synthesis
from tests.methods.anople.test_method import SIZE, noise_images

SHOT = Item(noise_images(1, size=2 * SIZE)[0], torch.zeros(2 * SIZE, 2 * SIZE).bool(), False, "nut", "a.png")
CATEGORIES = ("bottle", "cable", "carpet")


def simulation(mixing="pairs", mix=("normal", "pixel", "latent")):
    return Simulation(synthesis=Synthesis(kinds=("perlin",)), mix=mix, mixing=mixing, jitter=0.1, patch=16)


@pytest.mark.parametrize("mixing", ["pairs", "kinds"])
def test_an_item_comes_from_seed_and_place_alone(mixing):
    simulate = simulation(mixing)
    items = [simulate(SHOT, 100 + place, place) for place in range(12)]
    assert {item.simulated for item in items} == {"normal", "pixel", "latent"}
    for place, item in enumerate(items):
        again = simulate(SHOT, 100 + place, place)
        assert torch.equal(again.image, item.image)
        assert torch.equal(again.mask, item.mask)
        assert item.label == (item.simulated != "normal") == bool(item.mask.any())
        assert 0 <= item.image.min() <= item.image.max() <= 1
        assert not torch.equal(simulate(SHOT, place, place).image, item.image)
    latent = next(item for item in items if item.simulated == "latent")
    tokens = latent.mask.unflatten(1, (-1, 16)).unflatten(0, (-1, 16))
    assert torch.equal(tokens.any(dim=1).any(dim=-1), tokens.all(dim=1).all(dim=-1))


@pytest.mark.parametrize(
    ("mixing", "mix", "wrong"),
    [
        ("kinds", ("real",), r"mix must name one or more of.*got \('real',\)"),
        ("kinds", (), "mix must name one or more of"),
        ("pairs", ("normal",), r"normal and another kind; got \('normal',\).*batch=kinds"),
        ("pairs", ("pixel", "latent"), r"normal and another kind; got \('pixel', 'latent'\)"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(mixing, mix, wrong):
    with pytest.raises(ValueError, match=wrong):
        simulation(mixing, mix)


def fit_batches(backbone, root, steps=24, workers=0, **settings):
    """The batches that a fit of three categories reads."""
    config = AnoPLe.Config(steps=steps, **settings)
    method = AnoPLe(backbone, {category: category for category in CATEGORIES}, config)
    data = MVTecAD(root, CATEGORIES, image_size=SIZE, shots=1, num_workers=workers)
    return list(data.fit_loader(method.fit_data))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_mvtec_ad(tmp_path_factory.mktemp("simulation"), CATEGORIES)


def spread(counts):
    return max(counts.values()) - min(counts.values())


def test_pairs_are_a_shot_and_its_variant(backbone, root):
    batches = fit_batches(backbone, root, batch_size=4)
    assert {len(batch.label) for batch in batches} == {8}
    for batch in batches:
        assert batch.path[::2] == batch.path[1::2]
        assert set(batch.simulated[::2]) == {"normal"}
        assert Counter(batch.simulated[1::2]) == {"pixel": 2, "latent": 2}
        assert batch.label.tolist() == [False, True] * 4
    joint = Counter((c, bool(label)) for batch in batches for c, label in zip(batch.category, batch.label, strict=True))
    assert set(joint.values()) == {4 * 24 // 3}  # the share of anomalies is one half in each category


@pytest.mark.parametrize("size", [3, 4, 8])
def test_kinds_and_categories_are_even_in_each_batch_and_over_the_fit(backbone, root, size):
    batches = fit_batches(backbone, root, steps=10, batch_size=size, batch="kinds")
    assert {len(batch.label) for batch in batches} == {size}
    for batch in batches:
        assert spread(Counter(batch.simulated)) <= 1
        assert spread(Counter(batch.category)) <= 1
    assert spread(Counter(kind for batch in batches for kind in batch.simulated)) <= 1
    assert spread(Counter(name for batch in batches for name in batch.category)) <= 1


def test_no_category_keeps_to_one_kind(backbone, root):
    """Three categories and three kinds both take turns, so a fixed order would tie them together."""
    batches = fit_batches(backbone, root, steps=30, batch_size=3, batch="kinds")
    joint = Counter(pair for batch in batches for pair in zip(batch.category, batch.simulated, strict=True))
    assert len(joint) == 9
    assert min(joint.values()) >= 3  # of 10


def test_a_worker_changes_no_pixel(backbone, root):
    alone, helped = (fit_batches(backbone, root, steps=2, batch_size=2, workers=workers) for workers in (0, 1))
    for one, other in zip(alone, helped, strict=True):
        assert one[3:] == other[3:]
        assert all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


def test_a_jittered_shot_is_the_same_whatever_threads_torch_has():
    """A worker has one: a mean over all pixels would otherwise be added up in another order."""
    images, threads = torch.rand(20, 3, 128, 128, generator=torch.Generator().manual_seed(0)), torch.get_num_threads()
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append([jitter_colours(image, np.random.default_rng(0), 0.1) for image in images])
    torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for others in found[1:] for one, other in zip(found[0], others, strict=True))
