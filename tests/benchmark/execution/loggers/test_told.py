"""What loggers are told of a record."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.execution.loggers import told
from benchmark.records.store import Record
from benchmark.request.cell import from_json

CELL = json.loads((Path(__file__).parents[3] / "fixtures" / "recorded_cell.json").read_text())["cell"]


@pytest.fixture
def record():
    cell = from_json(CELL)
    return Record(cell.id, 2, "ok", "sweep", ["bench"], cell, "2026-01-01")


def test_a_mean_is_over_the_categories_that_define_a_metric(record):
    metrics = {
        "a": {"image_AUROC": {"value": 0.5, "reason": ""}, "pixel_AUPRO": {"value": None, "reason": "no masks"}},
        "b": {"image_AUROC": {"value": 0.75, "reason": ""}, "pixel_AUPRO": {"value": 0.25, "reason": ""}},
        "c": {"image_AUROC": {"value": 1.0, "reason": ""}, "pixel_AUPRO": {"value": 0.5, "reason": ""}},
    }
    assert told.measured(replace(record, metrics=metrics)) == {
        "test/image_AUROC": 0.75,
        "test/pixel_AUPRO": 0.375,
        "test/by_class/a/image_AUROC": 0.5,
        "test/by_class/b/image_AUROC": 0.75,
        "test/by_class/b/pixel_AUPRO": 0.25,
        "test/by_class/c/image_AUROC": 1.0,
        "test/by_class/c/pixel_AUPRO": 0.5,
    }
    assert told.measured(record) == {}


def test_cost_is_by_phase_and_in_all_and_leaves_out_what_is_not_finite(record):
    spent = replace(
        record,
        seconds={"load": 1.0, "fit": 2.5},
        peak_memory_mib=64.0,
        fit={"terms": {"dice": 0.5, "focal": None, "wild": float("inf")}},
    )
    assert told.cost(spent) == {
        "cost/load_seconds": 1.0,
        "cost/fit_seconds": 2.5,
        "cost/seconds": 3.5,
        "cost/peak_memory_mib": 64.0,
        "fit/dice": 0.5,
    }
    assert told.cost(record) == {"cost/seconds": 0}


def test_settings_are_plain_and_tags_are_short(record):
    found = told.settings(record)
    assert json.loads(json.dumps(found)) == found
    assert (found["attempt"], found["sweep"], found["method"]["name"]) == (2, "sweep", record.cell.method)
    assert found["categories"] == list(record.cell.categories)
    long = replace(record, cell=replace(record.cell, dataset="x" * 100))
    assert max(map(len, told.tags(long))) == 64


def test_variants_of_a_method_have_names_of_their_own(record):
    titles = {told.title(replace(record, cell=replace(record.cell, label=label))) for label in ("", "one", "two")}
    assert len(titles) == 3
