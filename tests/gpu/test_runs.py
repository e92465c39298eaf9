"""Whole cells on a GPU: metrics are those of the CPU, the feature store answers, and the record says where it ran."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.contract import candidates
from benchmark.execution.build import build_method
from benchmark.execution.data import open_data, target
from benchmark.execution.evaluator import measure
from benchmark.execution.fitting import fit
from benchmark.execution.run_cell import predict_tests, run_cell
from benchmark.execution.watch import NOBODY
from benchmark.request import registry
from methods.components.feature_store.store import FeatureStore

pytestmark = pytest.mark.gpu
CPU, EQUAL = torch.device("cpu"), 1e-5
CANDIDATES = [each for name in registry.names("method") for each in candidates.candidates(name)]
UNFITTED = [each for each in CANDIDATES if each.facts.fits_on == "nothing"]


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def assert_equal(found, wanted):
    """Metrics by category and name, to 1e-5; what is undefined is so in both."""
    assert found.keys() == wanted.keys()
    for category, values in wanted.items():
        for name, value in values.items():
            assert found[category][name] == pytest.approx(value, abs=EQUAL), (category, name)


def measured(method, data, device):
    kept = predict_tests(method, data, 32, device)
    known = {category: data.masks_known(category) for category in data.chosen}
    found = measure(kept, data.test_samples, known, root=data.root, rule="resized", published=False)
    return {c: {name: each.value for name, each in values.items()} for c, values in found.metrics.items()}


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda each: f"{each.name}-{each.protocol}")
def test_metrics_of_one_fit_are_those_of_the_cpu(candidate, gpu, tmp_path):
    """The fit is the CPU's: Adam makes whole steps of the last bit of a gradient, on a GPU other ones."""
    cell = candidates.small_cell(candidate, str(tmp_path))
    candidates.write_images(tmp_path, turned=False)
    torch.manual_seed(0)
    data = open_data(target(cell), candidates.SIZE)
    method = build_method(cell, candidates.small_backbone(), data)
    method.max_epochs = min(method.max_epochs, 1)
    fit(method, cell, data, CPU, NOBODY)
    wanted = measured(method, data, CPU)
    method.backbone.to(gpu)
    assert_equal(measured(method.to(gpu), data, gpu), wanted)


def run(candidate, root: Path, accelerator: str, **features):
    """A cell of the embedded CLIP as `bench run` runs it."""
    cell = candidates.small_cell(candidate, str(root))
    trainer = replace(cell.where.trainer, accelerator=accelerator)
    store = replace(cell.where.features, **features)
    return run_cell(replace(cell, where=replace(cell.where, trainer=trainer, features=store)))


def values(measurement):
    return {c: {name: each["value"] for name, each in its.items()} for c, its in measurement.metrics.items()}


@pytest.mark.parametrize("candidate", UNFITTED, ids=lambda each: f"{each.name}-{each.protocol}")
def test_a_cell_has_the_metrics_of_the_cpu(candidate, gpu, tmp_path):
    candidates.write_images(tmp_path, turned=False)
    wanted, found = run(candidate, tmp_path, "cpu"), run(candidate, tmp_path, "gpu")
    assert_equal(values(found), values(wanted))
    assert found.comparison_id == wanted.comparison_id
    assert found.backbone["weights_sha256"] == wanted.backbone["weights_sha256"]
    assert 0 < found.peak_memory_mib < 4096


@pytest.mark.parametrize("name", ["nearest_patch", "winclip"])
def test_the_feature_store_answers_with_what_was_computed(name, gpu, tmp_path):
    candidate = next(each for each in candidates.candidates(name) if each.protocol == "few_shot")
    candidates.write_images(tmp_path / "images", turned=False)
    features = {"enabled": True, "folder": str(tmp_path / "features"), "max_gib": 1.0}
    plain = run(candidate, tmp_path / "images", "gpu")
    first, later = (run(candidate, tmp_path / "images", "gpu", **features) for _ in range(2))
    assert_equal(values(first), values(plain))
    assert values(later) == values(first)
    assert first.features["misses"] > 0
    assert (later.features["misses"], later.features["hits"]) == (0, first.features["misses"] + first.features["hits"])


def test_features_of_one_device_do_not_answer_for_another(gpu, tmp_path):
    images, store = candidates.noise_images(2), FeatureStore(tmp_path, 2**28)
    for device, misses in ((CPU, 2), (gpu, 4), (gpu, 4), (CPU, 4)):
        backbone = candidates.small_backbone().to(device)
        backbone.store = store
        assert backbone.encode_image(images.to(device), layers=(8,)).patches.device.type == device.type
        assert store.counts.misses == misses
