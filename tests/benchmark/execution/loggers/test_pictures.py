"""Which images are worst, and what their pictures show."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom
from sklearn.metrics import roc_auc_score

from benchmark.execution.loggers.pictures import beside, finished, worst
from benchmark.records.predictions import Predicted


def said(scores, anomalous, categories=None):
    count = len(scores)
    return Predicted(
        [f"{k}.png" for k in range(count)],
        categories or ["a"] * count,
        [""] * count,
        np.asarray(anomalous, bool),
        np.asarray(scores, np.float32),
        None,
        {},
    )


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_those_of_all_pairs_and_average_to_the_auroc(seed):
    rng = np.random.default_rng(seed)
    categories = [("a", "b")[k] for k in rng.integers(0, 2, 60)]
    anomalous = rng.random(60) < 0.4
    scores = np.round(2 * rng.standard_normal(60) + anomalous)  # with ties
    found = worst(said(scores, anomalous, categories), 60)
    assert len(found) == 60
    assert [each.share for each in found] == sorted((each.share for each in found), reverse=True)
    for place, share in found:
        others = [k for k in range(60) if categories[k] == categories[place] and anomalous[k] != anomalous[place]]
        sign = 1 if anomalous[place] else -1
        gaps = [sign * (scores[place] - scores[k]) for k in others]
        assert share == pytest.approx(np.mean([(gap < 0) + (gap == 0) / 2 for gap in gaps]))
    for category in "ab":
        its = [k for k in range(60) if categories[k] == category]
        area = roc_auc_score(anomalous[its], scores[its])
        for kind in (True, False):
            shares = [s for k, s in found if categories[k] == category and anomalous[k] == kind]
            assert np.mean(shares) == pytest.approx(1 - area)


def test_of_equal_shares_the_one_closest_to_the_other_kind_comes_first():
    assert [each.place for each in worst(said([0, 1, 2, 5, 9], [0, 0, 0, 1, 1]), 5)] == [2, 3, 1, 0, 4]


def test_a_category_of_one_kind_has_no_worst():
    assert worst(said([1, 2, 3], [0, 0, 0]), 3) == []


def test_a_map_is_enlarged_and_smoothed_as_the_method_does():
    raw = np.random.default_rng(0).random((4, 4)).astype(np.float32)
    corners = finished(raw, {"size": [13, 13], "sigma": 0.0, "align_corners": True})
    np.testing.assert_allclose(corners, zoom(raw.astype(float), 13 / 4, order=1), atol=1e-5)
    smooth = finished(raw, {"size": None, "sigma": 1.5, "align_corners": False})
    np.testing.assert_allclose(smooth, gaussian_filter(raw.astype(float), 1.5), atol=1e-5)


def test_a_picture_shows_the_truth_left_and_the_map_right():
    image = np.full((32, 32, 3), 100, np.uint8)
    truth = np.zeros((32, 32), bool)
    truth[8:16, 8:16] = True
    heat = np.zeros((32, 32), np.float32)
    heat[8:16, 8:16] = 1
    left, right = np.split(beside(image, truth, heat, (0.0, 1.0)), 2, axis=1)
    changed = (left != 100).any(axis=2)
    assert (left[changed] == (0, 255, 0)).all()
    assert changed[8, 8:16].all()
    assert not changed[10:14, 10:14].any()
    assert not changed[~truth].any()
    hot, cold = (right[truth].astype(int) - 50) * 2, (right[~truth].astype(int) - 50) * 2
    assert (np.ptp(hot, axis=0) == 0).all()
    assert (hot[0, 0], cold[0, 0]) == (pytest.approx(122, abs=3), pytest.approx(48, abs=3))  # ends of Turbo, red
    assert hot[0, 2] < 20 < cold[0, 2] < 70
    assert (image == 100).all()
