import tracemalloc

import numpy as np
import pytest
import torch
from pixel_oracle import EXACT, KINDS, fill, labelled, oracle, plain_aupro, random_maps, regions_of, values
from sklearn.metrics import roc_auc_score

from benchmark.metrics.accumulate import NotFiniteError, PixelMetrics
from benchmark.metrics.pixels import pack_anomalous, rank_pixels
from benchmark.metrics.ranking import rank
from benchmark.metrics.table import aupro, auroc, metric_names
from datamodules.components.regions import label_regions


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_the_oracle(kind, seed):
    maps, masks = random_maps(seed)
    maps = KINDS[kind](maps)
    np.testing.assert_allclose(values(fill(maps, masks)), oracle(maps.astype(float), masks), rtol=0, atol=EXACT)


def test_the_kinds_hold_what_they_say():
    maps, _ = random_maps(0)
    quantised = KINDS["16 levels with -0.0 and 0.0"](maps)
    assert {True, False} <= set(np.signbit(quantised[quantised == 0]).tolist())
    assert 0 < np.abs(KINDS["denormals"](maps)).max() < np.finfo(np.float32).tiny


@pytest.mark.parametrize("constant", [-3.0, 0.0, 0.7])
def test_constant_maps(constant):
    maps, masks = random_maps(1)
    share = masks.mean()
    expected = [0.5, share, 2 * share / (1 + share), 0.15]
    np.testing.assert_allclose(values(fill(np.full_like(maps, constant), masks)), expected, rtol=0, atol=EXACT)


def test_perfect_and_inverted_maps():
    maps, masks = random_maps(2)
    perfect = np.where(masks, 1 + np.abs(maps), -np.abs(maps) - 1)
    np.testing.assert_allclose(values(fill(perfect, masks)), [1, 1, 1, 1], rtol=0, atol=EXACT)
    auroc_value, _, _, aupro_value = values(fill(-perfect, masks))
    assert (auroc_value, aupro_value) == (0, 0)


def test_limit_met_exactly_and_crossed_by_a_tie():
    mask = np.zeros((1, 12, 1), bool)
    mask[0, :2] = True  # one region of two pixels and ten normal pixels, so the limit is the third of these
    exactly = np.array([9, 3.5, 8, 7, 6, 5, 4, 3, 2, 1, 0.5, 0.2], np.float32).reshape(1, 12, 1)
    assert values(fill(exactly, mask))[3] == pytest.approx(0.5, abs=EXACT)
    met_by_anomalous = exactly.copy()
    met_by_anomalous[0, 1] = 6  # tied with the third normal pixel: overlap climbs from 0.5 to 1 between 0.2 and 0.3
    assert values(fill(met_by_anomalous, mask))[3] == pytest.approx((0.2 * 0.5 + 0.1 * 0.75) / 0.3, abs=EXACT)
    spanning = np.array([9, 5, 8, 7, 5, 5, 5, 3, 2, 1, 0.5, 0.2], np.float32).reshape(1, 12, 1)
    climb = 0.5 + 0.5 / 3  # from (0.2, 0.5) towards (0.5, 1), cut at 0.3
    assert values(fill(spanning, mask))[3] == pytest.approx((0.2 * 0.5 + 0.1 * (0.5 + climb) / 2) / 0.3, abs=EXACT)


@pytest.mark.parametrize("limit", [0.001, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("kind", ["continuous of both signs", "16 levels with -0.0 and 0.0"])
def test_aupro_at_any_limit(limit, kind):
    maps, masks = random_maps(4)
    maps = KINDS[kind](maps)
    packed = [pack_anomalous(scores, ids) for scores, ids in zip(maps, labelled(masks).numpy(), strict=True)]
    ranking = rank_pixels([maps.ravel()], packed)
    assert aupro(ranking, limit) == pytest.approx(plain_aupro(maps.astype(float), masks, limit), abs=EXACT)


@pytest.mark.parametrize("limit", [0, -0.1, 1.01, float("nan")])
def test_refuses_a_limit_that_is_no_rate(limit):
    scores, packed = np.zeros(2, np.float32), pack_anomalous(np.zeros((1, 1), np.float32), np.ones((1, 1), np.int32))
    with pytest.raises(ValueError, match="limit must lie in"):
        aupro(rank_pixels([scores], [packed]), limit)


@pytest.mark.parametrize("seed", range(3))
def test_regions_are_those_of_the_oracle(seed):
    maps, masks = random_maps(seed)
    for scores, mask in zip(maps, masks, strict=True):
        expected = sorted((score, region.sum()) for region in regions_of(mask) for score in scores[region])
        packed = np.sort(pack_anomalous(scores, label_regions(mask)))
        assert (packed & 0xFFFFFFFF).tolist() == [size for _, size in expected]


def test_a_mask_need_not_be_contiguous():
    maps, masks = random_maps(0)
    turned = PixelMetrics()
    turned.update(torch.as_tensor(maps).transpose(1, 2), labelled(masks).transpose(1, 2))
    assert values(turned) == values(fill(maps, masks))


@pytest.mark.parametrize("warp", [np.exp, np.arctan, lambda s: s * 1000 - 7, lambda s: s**3])
def test_strictly_increasing_warps_change_nothing(warp):
    maps, masks = random_maps(5)
    steps = np.round(maps * 64) / 64  # far enough apart that float32 keeps them distinct after the warp
    warped = warp(steps.astype(float)).astype(np.float32)
    assert len(np.unique(warped)) == len(np.unique(steps))
    assert fill(warped, masks).compute() == fill(steps, masks).compute()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [1, 7, 437, 1000, 2184, 2185, 2186])
def test_chunks_change_no_bit(kind, chunk):
    maps, masks = random_maps(6)
    maps = KINDS[kind](maps)
    assert fill(maps, masks, PixelMetrics(chunk=chunk)).compute() == fill(maps, masks).compute()


def test_runs_of_scores_change_no_bit(monkeypatch):
    maps, masks = random_maps(6)
    whole = values(fill(maps, masks, PixelMetrics(chunk=500)))
    monkeypatch.setattr("benchmark.metrics.pixels.RUN", 3)
    assert values(fill(maps, masks, PixelMetrics(chunk=500))) == whole


@pytest.mark.parametrize("kind", ["continuous of both signs", "2 levels"])
def test_batches_and_merged_shards_in_any_split_and_order_change_no_bit(kind):
    maps, masks = random_maps(7)
    maps = KINDS[kind](maps)
    whole = fill(maps, masks).compute()
    assert all(fill(maps, masks, batch=batch).compute() == whole for batch in (1, 3, 5))
    first, second = fill(maps[[4, 2]], masks[[4, 2]]), fill(maps[[0, 3, 1]], masks[[0, 3, 1]], batch=1)
    first.merge_state(second)
    assert first.compute() == whole


def test_computing_leaves_maps_and_metric_as_they_were():
    maps, masks = random_maps(3)
    before = maps.copy()
    metric = fill(maps[:2], masks[:2])
    metric.compute()
    assert (maps == before).all()
    assert values(fill(maps[2:], masks[2:], metric)) == values(fill(maps, masks))
    metric.reset()
    assert values(fill(maps, masks, metric)) == values(fill(maps, masks))


def test_images_of_different_size_go_together():
    (maps, masks), (large, truth) = random_maps(0), random_maps(1, height=31, width=40)
    metric = fill(large, truth, fill(maps, masks))
    scores, labels = np.append(maps, large), np.append(masks, truth)
    assert metric.compute()["pixel_AUROC"].value == pytest.approx(roc_auc_score(labels, scores), abs=EXACT)
    assert values(metric)[0] == auroc(rank(scores, labels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_exact(dtype):
    maps, masks = random_maps(8)
    half = torch.as_tensor(maps).to(dtype)
    expected = oracle(half.double().numpy(), masks)
    np.testing.assert_allclose(values(fill(half, masks)), expected, rtol=0, atol=EXACT)


def test_double_precision_is_rounded_to_single():
    maps, masks = random_maps(8)
    double = maps.astype(float) * (1 + 1e-12)
    assert (double != maps).any()
    assert values(fill(double, masks)) == values(fill(maps, masks))


@pytest.mark.parametrize("fill_value", [False, True])
def test_undefined_values_say_why(fill_value):
    maps, masks = random_maps(0)
    results = fill(maps, np.full_like(masks, fill_value)).compute()
    reason = "no normal pixel" if fill_value else "no anomalous pixel"
    assert results == dict.fromkeys(metric_names("pixel"), (None, reason))


def test_no_normal_image_is_fine():
    maps, masks = random_maps(0)
    anomalous = masks.any((1, 2))
    expected = oracle(maps[anomalous].astype(float), masks[anomalous])
    np.testing.assert_allclose(values(fill(maps[anomalous], masks[anomalous])), expected, rtol=0, atol=EXACT)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_without_any_map():
    assert PixelMetrics().compute()["pixel_AP"] == (None, "no anomalous pixel")


@pytest.mark.parametrize("wrong", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("anomalous", [True, False])
def test_refuses_scores_without_rank_and_says_where(wrong, anomalous):
    maps, masks = random_maps(0)
    row, column = np.argwhere(masks[2] == anomalous)[0]
    maps[2, row, column] = wrong
    metric = PixelMetrics()
    with pytest.raises(NotFiniteError, match=r"maps must be finite, got NaN or infinity at \(2,\)") as caught:
        metric.update(torch.as_tensor(maps), labelled(masks))
    assert caught.value.indices == (2,)
    assert not metric.scores


@pytest.mark.parametrize(
    ("maps", "regions", "message"),
    [
        (
            torch.zeros(2, 4, 4),
            torch.zeros(2, 4, 5, dtype=torch.int32),
            r"same shape .* got \(2, 4, 4\) and \(2, 4, 5\)",
        ),
        (torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4, dtype=torch.int32), "3 dimensions"),
        (torch.zeros(2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool), "regions int32, got .* torch.bool"),
        (torch.zeros(2, 4, 4, dtype=torch.int64), torch.zeros(2, 4, 4, dtype=torch.int32), "got torch.int64"),
        (torch.zeros(2, 4, 4), torch.full((2, 4, 4), -1, dtype=torch.int32), "negative"),
    ],
)
def test_refuses_other_shapes_and_dtypes(maps, regions, message):
    with pytest.raises(ValueError, match=message):
        PixelMetrics().update(maps, regions)


def test_memory_of_compute_is_bounded():
    rng = np.random.default_rng(0)
    maps, masks = rng.random((40, 128, 128), np.float32), np.zeros((40, 128, 128), bool)
    masks[:30, 40:50, 40:65] = True  # 1 % of all pixels, as in MVTec AD
    metric = fill(maps, masks)
    tracemalloc.start()
    metric.compute()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 1.4 * maps.nbytes
