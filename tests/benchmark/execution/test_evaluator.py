"""Predictions are kept while a test runs; only when it is over are they put beside the truth, each image once."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmark.execution.evaluator import TRANSDUCTIVE, Kept, Predictions, describe_ties, measure, rescored
from benchmark.metrics.table import metric_names
from datamodules.components.sample import Sample, UnlabelledBatch
from methods.components.base import Method
from methods.components.prediction import Prediction

SIZE = 16


@pytest.fixture
def samples(tmp_path):
    """Two categories, the second without masks; a mask of 64 px with a scratch that breaks and a dot that vanishes."""
    found = []
    for category in ("a", "b"):
        for number in range(4):
            anomalous, mask = number > 1, None
            if anomalous and category == "a":
                mask = tmp_path / f"{number}_mask.png"
                pixels = np.zeros((64, 64), np.uint8)
                rows = np.arange(8, 40)
                pixels[rows, rows // 2] = pixels[rows, rows // 2 + 1] = 255
                pixels[44 : 56 if number == 2 else 44, 4:16] = 255  # a blob, which stays whole
                pixels[60, 61 + (number == 3)] = 255
                Image.fromarray(pixels).save(mask)
            found.append(Sample(tmp_path / category / f"{number}.png", category, anomalous, mask, "x"))
    return found


def predict(samples, order=None, size=2):
    """What a method may say of the images, in batches of `size`."""
    rng = np.random.default_rng(0)
    scores, maps = torch.tensor(rng.random(len(samples))), torch.tensor(rng.random((len(samples), SIZE, SIZE))).float()
    order = torch.tensor(order if order is not None else range(len(samples)))
    return [Kept(part, scores[part], maps[part]) for part in order.split(size)]


def run(kept, samples, tmp_path, rule="resized", published=False):
    return measure(kept, samples, {"a": True, "b": False}, root=tmp_path, rule=rule, published=published)


def test_values_are_those_of_an_oracle_whatever_the_batches_and_their_order(samples, tmp_path):
    (whole,) = predict(samples, size=8)
    found = run(predict(samples), samples, tmp_path)
    for category, rows in (("a", slice(0, 4)), ("b", slice(4, 8))):
        scores, labels = whole.score[rows].numpy(), [s.anomalous for s in samples[rows]]
        assert found.metrics[category]["image_AUROC"].value == pytest.approx(roc_auc_score(labels, scores))
        assert found.metrics[category]["image_AP"].value == pytest.approx(average_precision_score(labels, scores))
    assert found.counts == {"a": {"normal": 2, "anomalous": 2}, "b": {"normal": 2, "anomalous": 2}}
    assert found.metrics["b"]["pixel_AUROC"].reason == "no masks in this data set"
    for size, order in ((3, None), (8, None), (1, [7, 2, 5, 0, 1, 6, 3, 4])):
        assert run(predict(samples, order, size), samples, tmp_path) == found


@pytest.mark.parametrize("published", [True, False])
def test_every_category_has_a_value_or_a_reason_of_every_metric(samples, tmp_path, published):
    found = run(predict(samples), samples, tmp_path, published=published).metrics
    assert set(found["a"]) == set(found["b"]) == set(metric_names(published=published))
    undefined = {name for name, metric in found["b"].items() if metric == (None, "no masks in this data set")}
    assert undefined == set(metric_names("pixel", published=published))


@pytest.mark.parametrize("rule", ["resized", "native"])
def test_regions_are_counted_by_the_rule_and_those_that_vanish_are_named(samples, tmp_path, rule):
    regions = run(predict(samples), samples, tmp_path, rule).regions
    assert set(regions) == {"a"}
    assert set(regions["a"]["vanished"]) <= {"a/2.png", "a/3.png"}
    assert any(regions["a"]["vanished"].values())  # a dot of one pixel of 64 is seldom a pixel of 16
    assert regions["a"]["found"] == 5 if rule == "native" else regions["a"]["found"] > 5


def test_native_regions_weigh_once(samples, tmp_path):
    resized, native = (run(predict(samples), samples, tmp_path, rule).metrics["a"] for rule in ("resized", "native"))
    assert resized["pixel_AUPRO"] != native["pixel_AUPRO"]
    for name in ("pixel_AUROC", "pixel_AP", "pixel_F1Max"):
        assert resized[name] == native[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda kept: kept.pop(), "each of the 8 test images must be measured once; missing: b/2.png, b/3.png; more"),
        (lambda kept: kept.append(kept[0]), "missing: none; more than once: a/0.png, a/1.png"),
        (lambda kept: kept.clear(), "missing: a/0.png, a/1.png, a/2.png and 5 more"),
        (
            lambda kept: kept[1].score.fill_(torch.nan),
            "scores must be finite, got NaN or infinity for a/2.png, a/3.png",
        ),
        (lambda kept: kept[3].anomaly_map[1, 0].fill_(torch.inf), "maps must be finite, .* for b/3.png"),
    ],
)
def test_what_is_not_measured_once_or_not_finite_is_named(samples, tmp_path, change, message):
    kept = predict(samples)
    change(kept)
    with pytest.raises(ValueError, match=message):
        run(kept, samples, tmp_path)


def test_a_method_that_writes_to_its_last_prediction_changes_none_that_is_kept():
    kept, score, maps = Predictions(4), torch.zeros(2), torch.zeros(2, 4, 4)
    for index in range(2):
        score.fill_(index)
        maps.fill_(index)
        batch = UnlabelledBatch(torch.zeros(2, 3, 4, 4), ["a", "a"], torch.tensor([2 * index, 2 * index + 1]))
        kept.on_test_batch_end(SimpleNamespace(), SimpleNamespace(), Prediction(score, maps), batch, index)
    assert [part.score.tolist() for part in kept.kept] == [[0, 0], [1, 1]]
    assert [part.anomaly_map.unique().tolist() for part in kept.kept] == [[0], [1]]


class Ranks(Method):
    """Scores an image by how many of its category have a lower maximum."""

    transductive = True

    def predict(self, images, categories):
        raise AssertionError

    def rescore(self, predicted):
        highest = predicted.anomaly_map.amax(dim=(1, 2))
        return predicted.score + (highest[:, None] > highest).sum(dim=1)


@pytest.mark.parametrize("order", [None, [7, 2, 5, 0, 1, 6, 3, 4]])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_a_transductive_method_scores_a_whole_category_at_once(backbone, samples, order, size):
    (whole,) = predict(samples, size=8)
    highest, method = whole.anomaly_map.amax(dim=(1, 2)).tolist(), Ranks(backbone, {})
    expected = [
        float(whole.score[i])
        + sum(highest[i] > highest[j] for j in range(8) if samples[i].category == samples[j].category)
        for i in range(8)
    ]
    before = predict(samples, order, size)
    found = rescored(method, before, samples)
    for part, old in zip(found, before, strict=True):
        assert torch.equal(part.indices, old.indices)
        assert torch.equal(part.anomaly_map, old.anomaly_map)
        assert part.score.tolist() == pytest.approx([expected[index] for index in part.indices.tolist()])
    rescored(method, before, samples)
    assert method.remarks == [TRANSDUCTIVE]


def test_other_methods_scores_stay(backbone, samples):
    class Alone(Ranks):
        transductive = False

    kept, method = predict(samples), Alone(backbone, {})
    assert rescored(method, kept, samples) is kept
    assert method.remarks == []


def test_a_transductive_method_gives_each_image_a_score(backbone, samples):
    class Forgets(Ranks):
        def rescore(self, predicted):
            return predicted.score[1:]

    with pytest.raises(ValueError, match=r"rescore must return \(4,\), one score for each image; got \(3,\)"):
        rescored(Forgets(backbone, {}), predict(samples), samples)


def test_scores_that_many_images_share_are_told_by_category(samples):
    (whole,) = predict(samples, size=8)
    assert describe_ties([whole], samples) == []
    saturated = whole._replace(score=torch.tensor([1.0, 0.25, 1.0, 1.0, 0.5, 0.5, 0.25, 0.125]))
    parts = [
        Kept(*(field[rows] for field in saturated[:3]))
        for rows in (torch.tensor([0, 5, 3, 7]), torch.tensor([1, 2, 4, 6]))
    ]
    assert describe_ties(parts, samples) == [
        "a: 3 of 4 image scores are 1, and nothing orders these images: metrics of images count them as ties."
    ]


@pytest.mark.parametrize(("shared", "told"), [(3, 0), (9, 0), (10, 1)])
def test_a_tie_is_told_from_a_tenth_of_a_category_on(samples, shared, told):
    scores = torch.arange(100.0)
    scores[:shared] = 0.5
    kept = Kept(torch.arange(100), scores, torch.zeros(100, 1, 1))
    assert len(describe_ties([kept], [samples[0]] * 100)) == told
