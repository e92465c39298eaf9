"""The three banks of a memory against loops over single features."""

import pytest
import torch
import torch.nn.functional as F

from methods.components.memory import ShotMemory
from methods.nearest_patch import NearestPatch
from methods.promptad import PromptAD
from methods.winclip import WinCLIP

BANKS = ("per_class", "pooled", "retrieved")
KINDS = ((5, 6), (3, 4))  # N, D
CATEGORIES = ("nut", "pcb", "tile")
SHOTS = 2


def random_features(*shape, seed):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def fill(bank):
    """A memory of two shots of each category, and what went into it: category to (kinds, class features)."""
    memory, seen = ShotMemory(bank), {}
    for number, category in enumerate(CATEGORIES):
        kinds = [random_features(SHOTS, *kind, seed=10 * number + i) for i, kind in enumerate(KINDS)]
        seen[category] = kinds, random_features(SHOTS, 7, seed=10 * number + 9)
        memory.remember(category, *seen[category])
    return memory, seen


def compared(bank, seen, category, image):
    """The shots (category, index) whose features an image is compared with."""
    shots = [(key, index) for key in seen for index in range(SHOTS)]
    if bank == "per_class":
        return [shot for shot in shots if shot[0] == category]
    if bank == "pooled":
        return shots
    return sorted(shots, key=lambda shot: -float(seen[shot[0]][1][shot[1]] @ image))[:SHOTS]


@pytest.mark.parametrize("bank", BANKS)
def test_is_the_loop_over_the_shots_of_the_bank(bank):
    memory, seen = fill(bank)
    assert len(memory) == len(CATEGORIES)
    categories = ["pcb", "nut", "pcb", "tile"]
    features = [random_features(4, *kind, seed=100 + i) for i, kind in enumerate(KINDS)]
    images = random_features(4, 7, seed=200)
    found = memory.distances(features, categories, images)
    for kind, distances in enumerate(found):
        assert distances.shape == features[kind].shape[:-1]
        for row, category in enumerate(categories):
            shots = compared(bank, seen, category, images[row])
            for i, feature in enumerate(features[kind][row]):
                expected = min(1 - float(feature @ other) for c, k in shots for other in seen[c][0][kind][k])
                assert float(distances[row, i]) == pytest.approx(expected, abs=1e-6)


def test_retrieval_mixes_categories_and_follows_each_image():
    """Else the loop above could agree by accident."""
    _, seen = fill("retrieved")
    chosen = [tuple(compared("retrieved", seen, None, image)) for image in random_features(4, 7, seed=200)]
    assert len(set(chosen)) > 1
    assert any(len({category for category, _ in shots}) > 1 for shots in chosen)


@pytest.mark.parametrize("bank", ["pooled", "retrieved"])
def test_the_category_is_not_asked_for(bank):
    memory, _ = fill(bank)
    features, images = [random_features(2, *kind, seed=3) for kind in KINDS], random_features(2, 7, seed=4)
    named = memory.distances(features, ["nut", "nut"], images)
    torch.testing.assert_close(named, memory.distances(features, ["tile", "unheard of"], images), rtol=0, atol=0)


@pytest.mark.parametrize("bank", BANKS)
def test_one_category_is_the_same_in_every_bank(bank):
    kinds, shots = [random_features(SHOTS, *kind, seed=1) for kind in KINDS], random_features(SHOTS, 7, seed=2)
    plain, other = ShotMemory(), ShotMemory(bank)
    plain.remember("nut", kinds)
    other.remember("nut", kinds, shots)
    features = [random_features(3, *kind, seed=3) for kind in KINDS]
    expected, found = (m.distances(features, ["nut"] * 3, random_features(3, 7, seed=4)) for m in (plain, other))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bank", BANKS)
def test_what_is_seen_later_counts(bank):
    """Also once a first batch has been compared, and when a category is seen anew."""
    memory, seen = fill(bank)
    features, images = [random_features(1, *kind, seed=3) for kind in KINDS], random_features(1, 7, seed=4)
    before = memory.distances(features, ["nut"], images)
    memory.remember("nut", [kind.expand(SHOTS, *kind.shape[1:]) for kind in features], images.expand(SHOTS, -1))
    after = memory.distances(features, ["nut"], images)
    assert len(memory) == len(seen)
    assert all(distance.max() < 1e-6 < kind.min() for kind, distance in zip(before, after, strict=True))


@pytest.mark.parametrize("bank", BANKS)
def test_the_nearest_category_is_that_of_the_nearest_shot(bank):
    """In every bank, from a checkpoint too, and after a category was seen anew, which keeps its place."""
    memory, seen = fill(bank)
    kinds, shots = [random_features(SHOTS, *kind, seed=50) for kind in KINDS], random_features(3, 7, seed=51)
    seen["nut"] = kinds, shots  # more shots than the others
    memory.remember("nut", kinds, shots)
    reloaded = ShotMemory(bank)
    reloaded.restore(memory.remembered())
    images = random_features(20, 7, seed=200)
    nearest = [max(seen, key=lambda key: max(float(shot @ image) for shot in seen[key][1])) for image in images]
    assert set(nearest) == set(CATEGORIES)
    keys = ("tile", "cap", "pcb", "nut")  # in another order, and one more
    for each in (memory, reloaded):
        assert [keys[row] for row in each.nearest_category(images, keys)] == nearest


def test_the_nearest_category_needs_class_features_of_all():
    images = random_features(1, 7, seed=4)
    with pytest.raises(ValueError, match="`adapt` has seen: none; class features of: none"):
        ShotMemory().nearest_category(images, CATEGORIES)
    memory, _ = fill("per_class")
    memory.remember("pcb", [random_features(SHOTS, *kind, seed=3) for kind in KINDS])
    with pytest.raises(ValueError, match="has seen: nut, pcb, tile; class features of: nut, tile"):
        memory.nearest_category(images, CATEGORIES)


def test_what_is_missing_is_said():
    with pytest.raises(ValueError, match="bank must be one of per_class, pooled, retrieved; got 'both'"):
        ShotMemory("both")
    memory, _ = fill("retrieved")
    features = [random_features(1, *kind, seed=3) for kind in KINDS]
    with pytest.raises(ValueError, match="compares class features: `remember` needs images"):
        memory.remember("nut", features)
    with pytest.raises(ValueError, match="compares class features: `distances` needs images"):
        memory.distances(features, ["nut"])
    for bank in ("pooled", "retrieved"):
        with pytest.raises(ValueError, match="No normal shots were seen"):
            ShotMemory(bank).distances(features, ["nut"], random_features(1, 7, seed=4))
    with pytest.raises(ValueError, match=r"shots of 'cap' were seen; `adapt` has seen: nut, pcb, tile"):
        fill("per_class")[0].distances(features, ["cap"])


@pytest.mark.slow
@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("method", [NearestPatch, WinCLIP, PromptAD])
def test_methods_hand_over_their_bank(method, bank, backbone, monkeypatch):
    """Two shots, each tested as the category of the other, are near to themselves where no category is asked for."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    made = method(backbone, {"metal_nut": "nut", "pcb1": "board"}, method.Config(bank=bank)).eval()
    for shots, category in zip(images.split(1), ("metal_nut", "pcb1"), strict=True):
        made.adapt(shots, category)
    found, real = [], made.memory.distances
    monkeypatch.setattr(made.memory, "distances", lambda *given: found.append(real(*given)) or found[0])
    made(images, ["pcb1", "metal_nut"])
    largest = max(float(kind.max()) for kind in found[0])
    assert largest > 0.1 if bank == "per_class" else largest < 1e-5
