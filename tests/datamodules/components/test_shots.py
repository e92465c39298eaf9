"""The sampling of shots and the even limit, against plain lists."""

import itertools
import unicodedata
from pathlib import Path

import pytest

from datamodules.components.sample import DataError, Sample
from datamodules.components.shots import SHOT_RULE, limit_evenly, sample_shots, stem_names

ROOT = Path("/data")


def normals(root=ROOT, category="bottle", count=6):
    return [Sample(root / category / "train" / "good" / f"{i:03}.png", category) for i in range(count)]


def names(samples):
    return [sample.image.name for sample in samples]


def stems(samples):
    return [sample.image.stem for sample in samples]


def test_rule_is_pinned():
    """Worked out with sha256sum; a change of the rule needs a new SHOT_RULE."""
    assert SHOT_RULE == "sha256-stem-v2"
    assert names(sample_shots(normals(), 4, 0)) == ["003.png", "001.png", "000.png", "005.png"]


@pytest.mark.parametrize("seed", range(5))
def test_samples_nest(seed):
    nested = [sample_shots(normals(), k, seed) for k in range(7)]
    assert all(small == large[: len(small)] for small, large in itertools.pairwise(nested))
    assert sorted(nested[6]) == normals()


@pytest.mark.parametrize("seed", range(5))
def test_only_stems_count(seed):
    expected = stems(sample_shots(normals(), 3, seed))
    assert stems(sample_shots(normals()[::-1], 3, seed)) == expected
    assert stems(sample_shots(normals(Path("/mnt/other disk")), 3, seed)) == expected
    assert stems(sample_shots(normals(category="cable"), 3, seed)) == expected
    other = [Sample(Path(f"/x/OK pictures/{sample.image.stem}.JPG"), "c") for sample in normals()]
    assert stems(sample_shots(other, 3, seed)) == expected


def nested(folders=("a", "b"), ending="png"):
    return [Sample(ROOT / f"c/train/good/{folder}/{i}.{ending}", "c") for folder in folders for i in range(3)]


def test_equal_stems_in_nested_folders_are_distinct():
    drawn = {seed: [s.image.parts[-2:] for s in sample_shots(nested(), 6, seed)] for seed in range(20)}
    assert all(len({*names}) == 6 for names in drawn.values())
    assert len({names[0] for names in drawn.values()}) > 3
    places = [abs(names.index(("a", "0.png")) - names.index(("b", "0.png"))) for names in drawn.values()]
    assert max(places) > 1  # not drawn together, as images of one name would be
    assert stem_names([s.image for s in nested()])[ROOT / "c/train/good/b/2.png"] == "b/2"


def test_two_formats_of_one_stem_keep_an_order():
    both = nested(ending="png") + nested(ending="jpg")
    assert sample_shots(both, 12, 0) == sample_shots(both[::-1], 12, 0)
    assert [s.image.suffix for s in sample_shots(both, 2, 0)] == [".jpg", ".png"]


def test_accents_count_alike_however_a_disk_stores_them():
    composed, decomposed = (
        [Sample(ROOT / unicodedata.normalize(form, name), "c") for name in ("é.png", "ü.png", "a.png", "b.png")]
        for form in ("NFC", "NFD")
    )
    order = [composed.index(sample) for sample in sample_shots(composed, 4, 3)]
    assert [decomposed.index(sample) for sample in sample_shots(decomposed, 4, 3)] == order
    assert composed != decomposed


def test_a_single_image_and_none():
    assert stem_names([]) == {}
    assert stem_names([ROOT / "a.b.png"]) == {ROOT / "a.b.png": "a.b"}


def test_removing_an_image_that_was_not_sampled_changes_nothing():
    sampled = sample_shots(normals(), 2, 0)
    left = [sample for sample in normals() if sample != sample_shots(normals(), 6, 0)[-1]]
    assert sample_shots(left, 2, 0) == sampled


def test_seeds_differ():
    assert len({tuple(names(sample_shots(normals(), 6, seed))) for seed in range(8)}) > 5


def test_each_image_is_sampled_equally_often():
    firsts = [names(sample_shots(normals(), 1, seed))[0] for seed in range(600)]
    assert all(70 < firsts.count(name) < 130 for name in names(normals()))


def test_too_many_shots():
    with pytest.raises(DataError, match="at most the 6 normal training images that exist, got 7"):
        sample_shots(normals(), 7, 0)


def listing(normal, anomalous):
    good = [Sample(ROOT / f"good/{i}", "c") for i in range(normal)]
    return good + [Sample(ROOT / f"x/{i}", "c", True) for i in range(anomalous)]


@pytest.mark.parametrize(
    ("normal", "anomalous", "limit", "expected"),
    [(10, 10, 4, (2, 2)), (10, 10, 5, (2, 3)), (1, 10, 4, (1, 3)), (10, 1, 4, (3, 1)), (2, 2, 9, (2, 2)),
     (0, 5, 2, (0, 2)), (5, 0, 1, (1, 0)), (3, 3, 1, (0, 1))],
)  # fmt: skip
def test_limit_splits_evenly(normal, anomalous, limit, expected):
    chosen = limit_evenly(listing(normal, anomalous), limit)
    assert (sum(not s.anomalous for s in chosen), sum(s.anomalous for s in chosen)) == expected
    assert chosen == sorted(chosen)


def test_limit_spreads_over_the_order():
    chosen = limit_evenly(listing(9, 9), 6)
    assert names(chosen) == ["0", "3", "6", "0", "3", "6"]
