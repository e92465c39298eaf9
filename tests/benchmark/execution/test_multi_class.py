"""One model for all categories: every method that says so is measured per category and on average, in one command."""

import json

import pandas as pd
import pytest
from steps import shorten_fits
from twins import VISA_ALL, write_mvtec_ad, write_visa

from benchmark.metrics.table import metric_names
from benchmark.request import registry
from benchmark.request.merging import Layer
from benchmark.request.plan import make_plan
from benchmark.request.settings import compose, parse_words

JOINT = [name for name in registry.names("method") if "multi_class" in registry.method(name).protocols]
WORDS = ("--shots", "1", "--seeds", "0", "--limit", "2")


@pytest.fixture(autouse=True)
def _short_fits(monkeypatch):
    """One step of each fit is enough to see that it runs."""
    shorten_fits(monkeypatch)


def records(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob("cells/*/attempt-*.json"))]


@pytest.mark.slow
@pytest.mark.parametrize("method", JOINT)
def test_one_cell_has_the_metrics_of_each_category_and_their_mean(method, bench, data, cells, tmp_path):
    write_visa(data.parent / "visa", VISA_ALL)  # the auxiliary set of MVTec AD
    words = ("run", "--methods", method, "--protocols", "multi_class", *WORDS)
    done = bench(*words, *cells, "--results", tmp_path / "r")
    (record,) = records(tmp_path / "r")
    assert (record["status"], done.code) == ("ok", 0), record["error"]
    assert set(record["metrics"]) == {"bottle", "metal_nut"}
    (row,) = pd.read_csv(tmp_path / "r" / "leaderboard.csv").query("kind == 'all'").to_dict("records")
    assert row["categories"] == 2
    for metric in metric_names():
        each = [values[metric]["value"] for values in record["metrics"].values()]
        assert row[metric] == pytest.approx(sum(each) / 2, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("bank", ["pooled", "retrieved"])
def test_another_bank_is_another_row(bank, bench, data, cells, tmp_path):
    words = ("run", "--methods", "nearest_patch", "--protocols", "multi_class", *WORDS)
    for more in ((), (f"method.bank={bank}",)):
        assert bench(*words, *cells, *more, "--results", tmp_path / "r").code == 0
    labels = {"nearest_patch", f"nearest_patch(bank={bank})"}
    rows = pd.read_csv(tmp_path / "r" / "leaderboard.csv").query("kind == 'all'")
    assert set(rows["method"]) == labels
    assert rows["comparison"].nunique() == 1  # the bank is the method's affair: the rows compare


def plan(methods, datasets, words=(), **sweep):
    layer = Layer("test", {"sweep": {"methods": methods, "datasets": datasets, **sweep}})
    return make_plan(compose([layer, parse_words(words)]), {"folder": ("a", "b")}).cells


def test_captions_not_named_are_those_of_the_data_set():
    cells = {cell.dataset: cell for cell in plan(["toy_watches"], ["visa", "textile", "folder"], shots=[1], seeds=[0])}
    assert [cell.settings.method["captions"] for cell in cells.values()] == ["visa", "textile", None]
    assert {cell.method_label for cell in cells.values()} == {"toy_watches"}
    (named,) = plan(["toy_watches"], ["visa"], ["method.captions=mvtec_ad"], shots=[1], seeds=[0])
    assert named.method_label == "toy_watches(captions=mvtec_ad)"
    (same,) = plan(["toy_watches"], ["visa"], ["method.captions=visa"], shots=[1], seeds=[0])
    assert same.id == cells["visa"].id


def test_two_methods_are_planned_each_in_the_protocol_of_its_paper():
    cells = plan(["anople", "faprompt"], ["visa"])
    assert [(c.method, c.protocol) for c in cells if c.joint] == [("anople", "multi_class")] * 3 * 3  # shots, seeds
    assert all(cell.categories == VISA_ALL for cell in cells if cell.joint)
    others = [cell for cell in cells if not cell.joint]
    assert {(c.method, c.protocol, c.settings.protocol.auxiliary) for c in others} == {
        ("faprompt", "zero_shot", "mvtec_ad")
    }
    assert len(others) == 12 * 3  # categories, seeds


@pytest.mark.slow
def test_two_methods_run_each_in_the_protocol_of_its_paper(bench, tmp_path, monkeypatch):
    write_visa(tmp_path / "data" / "visa")
    write_mvtec_ad(tmp_path / "data" / "mvtec_ad", registry.dataset("mvtec_ad").categories)
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    words = ("run", "--methods", "anople,faprompt", "--datasets", "visa", "--categories", "candle,pcb1", *WORDS)
    small = ("protocol.evaluation_size=24", "method.anople.steps=2", "method.anople.batch_size=2")
    done = bench(*words, *small, "--results", tmp_path / "r")
    made = records(tmp_path / "r")
    assert [record["error"] for record in made] == [{}] * 3
    assert done.code == 0
    found = {(r["cell"]["method"], r["cell"]["protocol"], *r["metrics"]) for r in made}
    assert found == {
        ("anople", "multi_class", "candle", "pcb1"),
        ("faprompt", "zero_shot", "candle"),
        ("faprompt", "zero_shot", "pcb1"),
    }
    assert {r["data"]["auxiliary"].get("dataset") for r in made} == {None, "mvtec_ad"}
