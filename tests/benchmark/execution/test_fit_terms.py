"""The record of a cell holds how its fit ended."""

import json
import math
from collections.abc import Mapping
from statistics import fmean
from types import SimpleNamespace

import pytest
import torch
from steps import shorten_fits
from twins import VISA_ALL, write_visa

from benchmark.execution import fitting
from benchmark.execution.fitting import binary_entropy

SMALL = ("--seeds", "0", "--limit", "2")


@pytest.fixture
def ends(monkeypatch):
    """The terms of each step, as a callback of the fit sees them."""
    seen, real = [], fitting._Steps.on_train_batch_end

    def watch(self, trainer, pl_module, *arguments, **named):
        seen.append({name: value.item() for name, value in pl_module.terms.items()})
        real(self, trainer, pl_module, *arguments, **named)

    monkeypatch.setattr(fitting._Steps, "on_train_batch_end", watch)
    return seen


def fits(folder) -> list[Mapping]:
    return [json.loads(path.read_text())["fit"] for path in sorted(folder.glob("cells/*/attempt-*.json"))]


@pytest.mark.slow
def test_terms_are_means_over_the_last_fifth_of_the_steps(bench, cells, data, tmp_path, ends):
    few = ("method.anople.steps=20", "method.anople.batch_size=1", "method.anople.map_size=32")
    words = ("--methods", "anople", "--protocols", "multi_class", "--shots", "1", *SMALL, *few, *cells)
    done = bench("run", *words, "--results", tmp_path)
    assert done.code == 0, done.err
    (fit,) = fits(tmp_path)
    assert (len(ends), fit["steps"]) == (20, 4)
    assert fit["terms"].keys() == {"dice", "focal", "image", "alignment", "anomalous"}
    for name, value in fit["terms"].items():
        assert value == pytest.approx(fmean(step[name] for step in ends[-4:]))
    assert fit["uninformed"] == {"image": pytest.approx(binary_entropy(fit["terms"]["anomalous"]))}


@pytest.mark.slow
def test_a_reused_fit_says_how_it_ended(bench, cells, data, tmp_path, monkeypatch):
    write_visa(data.parent / "visa", VISA_ALL)
    words = ("run", "--methods", "anomalyclip", *SMALL, *cells, "--results", tmp_path)
    shorten_fits(monkeypatch)
    assert bench(*words).code == 0
    made, reused = fits(tmp_path)
    assert made == reused
    assert made["terms"].keys() == {"focal", "dice_anomalous", "dice_normal", "image_ce"}


@pytest.mark.slow
def test_a_method_that_learns_nothing_has_no_end(bench, cells, data, tmp_path):
    words = ("--methods", "trivial_colour_knn", "--shots", "1", *SMALL, *cells)
    assert bench("run", *words, "--results", tmp_path).code == 0
    assert fits(tmp_path) == [{}, {}]


def test_a_loss_that_is_no_number_is_null():
    steps = fitting._Steps(1)
    terms = {"image": torch.tensor(math.nan), "anomalous": torch.tensor(0.25)}
    steps.on_train_batch_end(None, SimpleNamespace(terms=terms))
    found = steps.describe({"image": "anomalous", "other": "absent"})
    assert found["terms"] == {"image": None, "anomalous": 0.25}
    assert found["uninformed"] == {"image": pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))}


def test_entropy_of_a_certain_guess_is_zero():
    assert binary_entropy(0.0) == binary_entropy(1.0) == 0
    assert binary_entropy(0.5) == pytest.approx(math.log(2))
