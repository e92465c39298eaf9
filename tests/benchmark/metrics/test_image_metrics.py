import pickle

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from benchmark.metrics.accumulate import ImageMetrics, NotFiniteError
from benchmark.metrics.table import metric_names

EXACT = 1e-12
NAMES = ("image_AUROC", "image_AP", "image_F1Max")  # those that the oracle computes


def oracle(scores, labels):
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-300)).max()
    return [roc_auc_score(labels, scores), average_precision_score(labels, scores), f1]


def fill(scores, labels, batch=8):
    metric = ImageMetrics()
    for start in range(0, len(scores), batch):
        metric.update(torch.as_tensor(scores[start : start + batch]), torch.as_tensor(labels[start : start + batch]))
    return metric


def values(metric):
    return [metric.compute()[name].value for name in NAMES]


def random_scores(seed, count=60):
    rng = np.random.default_rng(seed)
    labels = rng.random(count) < 0.6
    return rng.standard_normal(count) + labels, labels


@pytest.mark.parametrize("levels", [None, 1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_scikit_learn(seed, levels):
    scores, labels = random_scores(seed)
    scores = scores if levels is None else np.round(scores * levels)  # with -0.0 and 0.0
    np.testing.assert_allclose(values(fill(scores, labels)), oracle(scores, labels), rtol=0, atol=EXACT)


def test_double_scores_are_not_rounded():
    labels = np.arange(40) % 2 == 1
    scores = 0.5 + np.arange(40) * 1e-15 * np.where(labels, 1, -1)
    assert len(np.unique(scores.astype(np.float32))) == 1
    assert values(fill(scores, labels)) == [1, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_lower_precisions_are_exact(dtype):
    scores, labels = random_scores(1)
    lower = torch.as_tensor(scores).to(dtype)
    expected = oracle(lower.double().numpy(), labels)
    np.testing.assert_allclose(values(fill(lower, labels)), expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize("warp", [np.exp, np.arctan, lambda s: s**3, lambda s: s * 1e9 - 5])
def test_strictly_increasing_warps_change_nothing(warp):
    scores, labels = random_scores(2)
    assert fill(warp(scores), labels).compute() == fill(scores, labels).compute()


def test_constant_scores():
    labels = np.array([True, True, True, False])
    np.testing.assert_allclose(values(fill(np.ones(4), labels)), [0.5, 0.75, 1.5 / 1.75], rtol=0, atol=EXACT)


def test_batches_and_merged_shards_in_any_split_and_order_change_no_bit():
    scores, labels = random_scores(3)
    whole = fill(scores, labels).compute()
    assert all(fill(scores, labels, batch).compute() == whole for batch in (1, 7, 60))
    order = np.random.default_rng(0).permutation(60)
    first, second = fill(scores[order[:13]], labels[order[:13]]), fill(scores[order[13:]], labels[order[13:]])
    first.merge_state(second)
    assert first.compute() == whole


def test_forward_gives_the_batch_and_keeps_the_rest():
    scores, labels = random_scores(4)
    metric = fill(scores[:40], labels[:40])
    batch = metric(torch.as_tensor(scores[40:]), torch.as_tensor(labels[40:]))
    assert batch == fill(scores[40:], labels[40:]).compute()
    assert metric.compute() == fill(scores, labels).compute()


def test_scores_made_in_inference_mode_and_reused_by_the_caller():
    scores, labels = random_scores(5)
    metric, buffer = ImageMetrics(), torch.empty(20, dtype=torch.float64)
    with torch.inference_mode():
        for start in range(0, 60, 20):
            buffer.copy_(torch.as_tensor(scores[start : start + 20]))
            metric.update(buffer, torch.as_tensor(labels[start : start + 20]))
    assert values(metric) == values(fill(scores, labels))


@pytest.mark.parametrize(("label", "reason"), [(True, "no normal image"), (False, "no anomalous image")])
def test_undefined_values_say_why(label, reason):
    results = fill(np.arange(5.0), np.full(5, label)).compute()
    assert results == dict.fromkeys(metric_names("image"), (None, reason))


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_without_any_image():
    assert ImageMetrics().compute()["image_AUROC"] == (None, "no anomalous image")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_refuses_scores_without_rank_and_says_where(wrong):
    metric = ImageMetrics()
    with pytest.raises(ValueError, match=r"scores must be finite, got NaN or infinity at \(1, 3\)") as caught:
        metric.update(torch.tensor([0, wrong, 1, wrong]), torch.tensor([True, False, True, False]))
    assert not metric.scores
    copy = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(copy, NotFiniteError)
    assert (str(copy), copy.indices) == (str(caught.value), (1, 3))


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (torch.zeros(3), torch.zeros(4, dtype=torch.bool), r"got \(3,\) and \(4,\)"),
        (torch.zeros(3, 1), torch.zeros(3, 1, dtype=torch.bool), "1 dimensions"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), "labels bool, got .* torch.int64"),
    ],
)
def test_refuses_other_shapes_and_dtypes(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        ImageMetrics().update(scores, labels)
