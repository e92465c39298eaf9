"""The sampling of shots and the even limit, against plain lists."""

import itertools
from pathlib import Path

import pytest

from datamodules.components.sample import DataError, Sample
from datamodules.components.shots import SHOT_RULE, limit_evenly, sample_shots

ROOT = Path("/data")


def normals(root=ROOT, category="bottle", count=6):
    return [Sample(root / category / "train" / "good" / f"{i:03}.png", category) for i in range(count)]


def names(samples):
    return [sample.image.name for sample in samples]


def test_rule_is_pinned():
    """Worked out with sha256sum; a change of the rule needs a new SHOT_RULE."""
    assert SHOT_RULE == "sha256-name-v1"
    assert names(sample_shots(normals(), 4, 0, ROOT)) == ["005.png", "002.png", "001.png", "003.png"]


@pytest.mark.parametrize("seed", range(5))
def test_samples_nest(seed):
    nested = [sample_shots(normals(), k, seed, ROOT) for k in range(7)]
    assert all(small == large[: len(small)] for small, large in itertools.pairwise(nested))
    assert sorted(nested[6]) == normals()


def test_neither_order_nor_root_count():
    expected = names(sample_shots(normals(), 3, 1, ROOT))
    assert names(sample_shots(normals()[::-1], 3, 1, ROOT)) == expected
    elsewhere = Path("/mnt/other disk")
    assert names(sample_shots(normals(elsewhere), 3, 1, elsewhere)) == expected


def test_removing_an_image_that_was_not_sampled_changes_nothing():
    sampled = sample_shots(normals(), 2, 0, ROOT)
    left = [sample for sample in normals() if sample != sample_shots(normals(), 6, 0, ROOT)[-1]]
    assert sample_shots(left, 2, 0, ROOT) == sampled


def test_seeds_and_categories_differ():
    assert len({tuple(names(sample_shots(normals(), 6, seed, ROOT))) for seed in range(8)}) > 5
    assert names(sample_shots(normals(), 6, 0, ROOT)) != names(sample_shots(normals(category="cable"), 6, 0, ROOT))


def test_each_image_is_sampled_equally_often():
    firsts = [names(sample_shots(normals(), 1, seed, ROOT))[0] for seed in range(600)]
    assert all(70 < firsts.count(name) < 130 for name in names(normals()))


def test_too_many_shots():
    with pytest.raises(DataError, match="at most the 6 normal training images that exist, got 7"):
        sample_shots(normals(), 7, 0, ROOT)


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
