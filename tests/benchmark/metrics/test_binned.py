"""Bins against the exact form: every exact value lies in the interval, and any split adds up to the same integers."""

import itertools
import pickle
import tracemalloc

import numpy as np
import pytest
import torch
from pixel_oracle import KINDS, fill, labelled, random_maps

from benchmark.execution import evaluator
from benchmark.execution.evaluator import describe_bins, measure
from benchmark.execution.run_cell import told
from benchmark.metrics.accumulate import NotFiniteError, PixelMetrics
from benchmark.metrics.binned import BINS, BOUNDS, EXACT_ALONE, BinnedPixelMetrics, bins_of
from benchmark.metrics.table import metric_names

NAMES = metric_names("pixel")


def binned(maps, masks, **settings):
    return fill(maps, masks, BinnedPixelMetrics(**settings))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_the_exact_value_lies_in_the_interval(kind, seed):
    maps, masks = random_maps(seed)
    maps = KINDS[kind](maps).astype(np.float32)
    exact, metric = fill(maps, masks, PixelMetrics()).compute(), binned(maps, masks)
    found, widths = metric.compute(), metric.half_widths()
    assert {*widths} == {*NAMES}
    for name in NAMES:
        assert abs(found[name].value - exact[name].value) <= widths[name] + 1e-12, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_exact_where_its_bits_are_kept(dtype):
    maps, masks = random_maps(0)
    maps = torch.from_numpy(maps).to(dtype).float().numpy()
    exact, found = fill(maps, masks, PixelMetrics()).compute(), binned(maps, masks).compute()
    for name in NAMES:
        assert found[name].value == pytest.approx(exact[name].value, abs=1e-11)


def test_every_order_inside_a_bin_is_within_the_bounds():
    """All orders of five scores that share one bin, by brute force."""
    base = np.float32(1.0)
    steps = base + np.arange(5, dtype=np.float32) * np.float32(2.0**-19)
    assert len({*bins_of(steps)}) == 1
    mask = np.array([[1, 1, 0, 0, 0]], bool)[None]
    bounds = None
    for order in itertools.permutations(range(5)):
        maps = steps[list(order)].reshape(1, 1, 5)
        exact, metric = fill(maps, mask, PixelMetrics()).compute(), fill(maps, mask, BinnedPixelMetrics())
        found = {name: BOUNDS[name](metric._ranking()) for name in NAMES}
        bounds = bounds or found
        assert found == bounds
        for name, (low, high) in found.items():
            assert low - 1e-12 <= exact[name].value <= high + 1e-12
    assert bounds["pixel_AUROC"] == (0, 1)


def test_bins_sort_as_floats_do():
    dice = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    scores = np.concatenate([dice, dice * 1e-40, dice * 1e37, [0.0, -0.0, np.finfo(np.float32).max]]).astype(np.float32)
    scores.sort()
    assert (np.diff(bins_of(scores)) >= 0).all()
    assert bins_of(np.float32([-0.0])) == bins_of(np.float32([0.0]))
    assert 0 <= bins_of(scores).min() <= bins_of(scores).max() < BINS


def test_batches_and_ranks_add_up_to_the_same_integers():
    maps, masks = random_maps(1)
    regions = labelled(masks)
    whole = fill(maps, masks, BinnedPixelMetrics())
    parts = [BinnedPixelMetrics() for _ in range(3)]
    for index in (2, 0, 1, *range(3, len(maps))):
        parts[index % 3].update(torch.from_numpy(maps[index : index + 1]), regions[index : index + 1])
    for name in BinnedPixelMetrics.names:
        assert torch.equal(sum(getattr(part, name) for part in parts), getattr(whole, name))
    assert pickle.loads(pickle.dumps(whole)).compute() == whole.compute()


def test_memory_does_not_grow():
    maps, masks = random_maps(2)
    metric = fill(maps, masks, BinnedPixelMetrics())
    tracemalloc.start()
    for _ in range(20):
        fill(maps, masks, metric)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 100_000
    assert sum(getattr(metric, name).nbytes for name in metric.names) < 40 * 2**20


def test_what_is_undefined_and_what_is_refused():
    maps, masks = random_maps(3)
    assert binned(maps, np.zeros_like(masks)).compute()["pixel_AP"] == (None, "no anomalous pixel")
    assert binned(maps, np.zeros_like(masks)).half_widths() == {}
    assert binned(maps, np.ones_like(masks)).compute()["pixel_AUROC"] == (None, "no normal pixel")
    assert binned(maps, masks, published=True).compute()["pixel_PRO@200steps"].reason == EXACT_ALONE
    maps[1, 0, 0] = np.nan
    with pytest.raises(NotFiniteError):
        binned(maps, masks)


def test_a_category_that_is_too_large_is_counted_in_bins_and_says_so(tmp_path, monkeypatch):
    from twins import write_mvtec_ad

    from datamodules.mvtec_ad import MVTecAD

    data = MVTecAD(write_mvtec_ad(tmp_path / "m"), ["bottle", "metal_nut"], image_size=16)
    samples, known = data.test_samples, {"bottle": True, "metal_nut": True}
    dice = torch.Generator().manual_seed(0)
    kept = [
        evaluator.Kept(torch.tensor([i]), torch.rand(1, generator=dice), torch.rand(1, 24, 24, generator=dice))
        for i in range(len(samples))
    ]
    exact = measure(list(kept), samples, known, root=data.root, rule="native")
    assert describe_bins(exact) == []
    monkeypatch.setattr(evaluator, "EXACT_PIXELS", 7 * 24 * 24 - 1)
    found = measure(list(kept), samples, known, root=data.root, rule="native")
    for category in known:
        for name in NAMES:
            one, other = found.metrics[category][name], exact.metrics[category][name]
            assert abs(one.value - other.value) <= found.half_widths[category][name] + 1e-12
            assert told(found)[category][name]["half_width"] == found.half_widths[category][name]
            assert "half_width" not in told(exact)[category][name]
        assert found.regions[category] == exact.regions[category]
    assert found.metrics["bottle"]["image_AUROC"] == exact.metrics["bottle"]["image_AUROC"]
    (first, _) = describe_bins(found)
    assert first.startswith(
        "bottle has more pixels than are kept: its pixel metrics are of bins, wrong by at most pixel_"
    )


def test_maps_beyond_the_memory_lie_in_a_file(monkeypatch):
    keeps = evaluator.Predictions(8)
    monkeypatch.setattr(evaluator, "IN_MEMORY", 3 * 8 * 8 * 4)
    batches = [torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    placed = [keeps._place(batch) for batch in batches]
    assert all(torch.equal(one, other) for one, other in zip(placed, batches, strict=True))
    assert placed[0] is batches[0]
    assert [one is other for one, other in zip(placed, batches, strict=True)] == [True, False, False, False]
