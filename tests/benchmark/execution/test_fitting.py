"""A fit on an auxiliary set happens once for all targets, and a kept fit that cannot be trusted is made anew."""

import json
import shutil
from importlib import import_module

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from twins import VISA_ALL, write_visa

from benchmark.execution import fitting
from benchmark.execution.data import fitted_on, open_data
from benchmark.request import registry
from benchmark.request.plan import make_plan
from benchmark.request.settings import Layer, compose
from methods.components.base import Method

WORDS = ("run", "--methods", "toy_transfers", "--seeds", "0")


@pytest.fixture
def fits(monkeypatch):
    """Counts real fits."""
    calls, real = [], fitting._train

    def count(*arguments):
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(fitting, "_train", count)
    return calls


@pytest.fixture
def auxiliary(data):
    return write_visa(data.parent / "visa", VISA_ALL)


def records(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob("cells/*/attempt-*.json"))]


def metrics(folder):
    return {record["cell_id"]: record["metrics"] for record in records(folder)}


@pytest.mark.slow
def test_one_fit_serves_all_categories_and_later_runs(bench, cells, auxiliary, tmp_path, fits):
    assert bench(*WORDS, *cells, "--results", tmp_path / "r").code == 0
    assert len(fits) == 1
    made = records(tmp_path / "r")
    assert sorted(record["data"]["auxiliary"]["reused"] for record in made) == [False, True]
    assert {record["data"]["auxiliary"]["dataset"] for record in made} == {"visa"}
    assert all(len(record["data"]["auxiliary"]["fingerprints"]) == 12 for record in made)
    before = metrics(tmp_path / "r")
    assert bench(*WORDS, *cells, "--results", tmp_path / "r", "--overwrite", "always").code == 0
    assert len(fits) == 1
    assert metrics(tmp_path / "r") == before
    assert bench(*WORDS, *cells, "--results", tmp_path / "other").code == 0
    assert len(fits) == 2
    assert metrics(tmp_path / "other") == before


def write(path, state, key):
    """A fit that is whole."""
    save_file(state, path, fitting._seal(key, fitting._Kept(state, {})))


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "foreign", "other sizes", "other key", "other values"])
def test_a_kept_fit_that_cannot_be_trusted_is_made_anew(bench, cells, auxiliary, tmp_path, fits, damage):
    bench(*WORDS, *cells, "--results", tmp_path / "r")
    before = metrics(tmp_path / "r")
    (path,) = (tmp_path / "r" / "fits").iterdir()
    with safe_open(path, "pt") as file:
        kept = file.metadata()
    state = load_file(path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-50])
    if damage == "foreign":
        path.write_bytes(b"not ours")
    if damage == "other sizes":
        write(path, {"level": torch.ones(3)}, kept["key"])
    if damage == "other key":
        write(path, state, "another")
    if damage == "other values":
        save_file({"level": state["level"] + 1}, path, kept)
    assert bench(*WORDS, *cells, "--results", tmp_path / "r", "--overwrite", "always").code == 0
    assert len(fits) == 2
    assert metrics(tmp_path / "r") == before


@pytest.mark.parametrize(("method", "seed"), [("toy_transfers", 1), ("toy_learns", 0)])
def test_the_data_that_is_fitted_on_has_its_own_settings(method, seed):
    sweep = {"methods": [method], "datasets": ["procedural"], "shots": [2]}
    auxiliary = {"protocol": {"auxiliary": "procedural_auxiliary"}, "dataset": {"procedural_auxiliary": {"size": 64}}}
    cell = make_plan(compose([Layer("test", {"sweep": sweep} | auxiliary)]), {}).cells[0]
    learner = registry.load(registry.method(method), Method)
    data = open_data(fitted_on(cell), 48)
    own = {"procedural_auxiliary": (1, 64), "procedural": (0, 256)}[fitted_on(cell).dataset]
    assert (data.config.draw_seed, data.config.size) == own
    assert own[0] == seed
    batch = next(iter(data.fit_loader(learner(None, {}).fit_data)))
    assert batch.mask.shape[-2:] == batch.image.shape[-2:] == (48, 48)
    assert len(batch.label) == learner.Config().batch_size


@pytest.mark.slow
def test_another_seed_or_setting_is_another_fit(bench, cells, auxiliary, tmp_path, fits):
    bench(*WORDS, *cells, "--results", tmp_path / "r")
    bench(*WORDS[:-1], "1", *cells, "--results", tmp_path / "r")
    bench(*WORDS, *cells, "--results", tmp_path / "r", "method.batch_size=3")
    assert len(fits) == 3


@pytest.mark.slow
def test_no_flipped_bit_of_a_kept_fit_is_loaded(bench, cells, auxiliary, tmp_path):
    bench(*WORDS, *cells, "--results", tmp_path / "r")
    (path,) = (tmp_path / "r" / "fits").iterdir()
    whole, state = path.read_bytes(), load_file(path)
    kept = fitting._read(path, path.stem)
    assert kept.state.keys() == state.keys()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        found = fitting._read(path, path.stem)
        if found is not None:
            assert found.fit == kept.fit, bit
            assert all(torch.equal(found.state[name], value) for name, value in state.items()), bit


@pytest.mark.slow
def test_images_shared_with_the_auxiliary_set_are_reported(bench, cells, data, auxiliary, tmp_path):
    image = next(auxiliary.glob("candle/Data/Images/Anomaly/*"))
    target = data / "bottle" / "test" / "good" / "shared.jpg"
    shutil.copy(image, target)
    done = bench(*WORDS, *cells, "--results", tmp_path / "r")
    assert done.code == 0
    shared = {r["cell"]["categories"][0]: r["leaks"] for r in records(tmp_path / "r")}
    assert shared["bottle"] == {"tested": 8, "shots": [], "auxiliary": ["bottle/test/good/shared.jpg"]}
    assert shared["metal_nut"] == {"tested": 7, "shots": [], "auxiliary": []}
    assert "leak   toy_transfers mvtec_ad/bottle" in done.out
    assert "1 of 8 test images is in the auxiliary set" in done.out


def test_an_absent_auxiliary_set_is_refused_and_says_how_to_get_it(bench, cells, data, tmp_path):
    done = bench(*WORDS, *cells, "--results", tmp_path / "r")
    assert done.code == 2
    assert "no data for 'visa'" in done.err
    assert "BENCH_DATA" in done.err
    planned = bench(*WORDS, *cells, "--results", tmp_path / "r", "--dry-run")
    assert planned.code == 0
    assert "note: no data for 'visa'" in planned.out


@pytest.mark.slow
def test_an_auxiliary_set_without_masks_is_refused(bench, cells, data, tmp_path):
    done = bench(*WORDS, *cells, "--results", tmp_path / "r", "protocol.auxiliary=textile")
    assert done.code == 2
    assert "textile cannot be an auxiliary data set: it has no anomalous image with a mask" in done.err


@pytest.mark.slow
def test_the_feature_store_changes_no_score(bench, cells, data, tmp_path):
    words = ("run", "--methods", "nearest_patch", "--shots", "1,2", "--seeds", "0", *cells)
    store = ("features.enabled=true", f"features.folder={tmp_path / 'features'}")
    for name, more in (("off", ()), ("first", store), ("again", store)):
        assert bench(*words, "--results", tmp_path / name, *more).code == 0
    assert metrics(tmp_path / "off") == metrics(tmp_path / "first") == metrics(tmp_path / "again")
    counts = {name: [r["features"] for r in records(tmp_path / name)] for name in ("off", "first", "again")}
    assert counts["off"] == [None] * 4
    assert counts["first"][0]["misses"] > 0
    assert all(count["misses"] == 0 and count["hits"] > 0 for count in counts["again"])


@pytest.mark.slow
def test_no_method_gets_hold_of_a_datamodule_whatever_it_overrides(bench, cells, data, tmp_path, monkeypatch):
    """A datamodule knows the labels: an override of what shows the shots is not asked, and scores stay as they were."""
    words = ("run", "--methods", "toy_learns", "--shots", "2", "--seeds", "0", *cells)
    assert bench(*words, "--results", tmp_path / "honest").code == 0
    handed = []
    for name in ("begin_fit", "see_shots"):
        monkeypatch.setattr(
            import_module("toy_methods.toy_learns").ToyLearns, name, lambda self, data: handed.append(data)
        )
    assert bench(*words, "--results", tmp_path / "peeking").code == 0
    assert handed == []
    assert metrics(tmp_path / "honest") == metrics(tmp_path / "peeking")


@pytest.mark.slow
def test_one_fit_serves_a_test_without_shots_and_with_some(bench, auxiliary, tmp_path, fits):
    """Shots are remembered after the fit, and a record of scores that depend on other test images says so."""
    words = ("run", "--methods", "april_gan", "--protocols", "zero_shot,few_shot", "--shots", "2", "--seeds", "0")
    one = ("--datasets", "mvtec_ad", "--categories", "bottle", "protocol.evaluation_size=24")
    done = bench(*words, *one, "method.few_shot_score=transductive", "--results", tmp_path)
    assert done.code == 0, done.err
    assert len(fits) == 1
    made = {record["cell"]["protocol"]: record for record in records(tmp_path)}
    assert {record["data"]["auxiliary"]["dataset"] for record in made.values()} == {"visa"}
    zero, few = made["zero_shot"], made["few_shot"]
    assert (zero["data"]["shots"], zero["remarks"]) == ({}, [])
    assert [len(shots) for shots in few["data"]["shots"].values()] == [2]
    (remark,) = few["remarks"]
    assert "transductive: each depends on the other test images" in remark
