"""Tables are means of means, say what is missing, and never mix backbones."""

from dataclasses import replace

import pandas as pd
import pytest

from benchmark.cell import Cell
from benchmark.leaderboard import LONG, category_table, long_table, markdown, wide_table, write_tables
from benchmark.metrics.names import METRICS
from benchmark.store import Record


def settings(label="real", **method):
    protocol = {"evaluation_size": 8, "precision": "fp32", "auxiliary": None}
    return {
        "method": method,
        "dataset": {},
        "auxiliary": {},
        "backbone": {"label": label, "image_size": None},
        "protocol": protocol,
    }


def record(
    category="a",
    seed=0,
    value=0.5,
    *,
    method="m",
    status="ok",
    protocol_id="few_shot-1",
    label="real",
    undefined=(),
    **fields,
):
    cell = Cell(
        method,
        "plugin_set",
        "standard",
        "few_shot",
        (category,),
        1,
        seed,
        fields.pop("limit", None),
        settings(label),
        {},
        "code",
    )
    values = {
        n: {"value": None, "reason": "no masks"} if n in undefined else {"value": value, "reason": ""} for n in METRICS
    }
    metrics = {category: values} if status == "ok" else {}
    error = {} if status == "ok" else {"type": "RuntimeError", "message": "two\nlines"}
    return Record(cell.id, 1, status, "s", [], cell, "", protocol_id, metrics=metrics, error=error, **fields)


def test_categories_are_averaged_before_seeds():
    values = {("a", 0): 0.6, ("b", 0): 0.8, ("a", 1): 0.9, ("b", 1): 0.9}
    (row,) = wide_table(long_table(record(c, s, v) for (c, s), v in values.items())).to_dict("records")
    assert row["image_AUROC"] == pytest.approx(0.8)
    assert row["image_AUROC_std"] == pytest.approx(0.2 / 2**0.5)
    assert (row["n_seeds"], row["categories"], row["status"]) == (2, 2, "ok")


def test_the_long_table_has_the_promised_columns_and_reasons():
    long = long_table([record(undefined=("pixel_AP",)), record("b", status="failed")])
    assert tuple(long.columns) == LONG
    undefined = long[long["metric"] == "pixel_AP"].iloc[0]
    assert pd.isna(undefined["value"])
    assert undefined["status"] == "undefined: no masks"
    assert long.iloc[-1]["status"] == "failed: RuntimeError two lines"


def test_an_undefined_metric_is_empty_not_zero(tmp_path):
    wide = write_tables(tmp_path, [record(undefined=("pixel_AP",))])
    assert pd.isna(wide["pixel_AP"].item())
    assert " – |" in (tmp_path / "leaderboard.md").read_text()
    assert pd.read_csv(tmp_path / "leaderboard.csv")["pixel_AP"].isna().all()


def test_a_missing_or_failed_part_makes_a_row_partial_and_a_limit_makes_it_limited():
    two = [record("a", 0), record("b", 0), record("a", 1)]
    assert wide_table(long_table(two))["status"].item() == "partial: 3 of 4 category runs"
    status = wide_table(long_table([*two, record("b", 1, status="failed")]))["status"].item()
    assert status == "partial: 3 of 4 category runs, 1 failed"
    assert wide_table(long_table([record(limit=4)]))["status"].item() == "limited"


def test_the_row_id_agrees_only_if_all_cells_do():
    def row_id(*records):
        return wide_table(long_table(records))["protocol_id"].item()

    one, other = record("a", 0, protocol_id="few_shot-1"), record("b", 0, protocol_id="few_shot-2")
    assert row_id(one, other) == row_id(other, one)
    assert row_id(one, other) != row_id(one)
    assert row_id(one) != row_id(replace(one, protocol_id="few_shot-3"))


def test_backbones_stand_in_tables_of_their_own_and_random_ones_are_stamped():
    text = markdown(wide_table(long_table([record(), record(label="embedded-random", method="other")])))
    head, _, tail = text.partition("### real")
    assert "random weights" in head
    assert "m |" not in head
    assert "random weights" not in tail
    assert "other" not in tail


def test_the_best_image_auroc_comes_first():
    wide = wide_table(long_table([record(value=0.4, method="worse"), record(value=0.7, method="better")]))
    assert list(wide["method"]) == ["better", "worse"]


def test_no_record_gives_empty_tables(tmp_path):
    assert write_tables(tmp_path, []).empty
    assert "No finished cell" in (tmp_path / "leaderboard.md").read_text()


def test_per_category_values_are_means_over_seeds():
    table = category_table(long_table([record("a", 0, 0.2), record("a", 1, 0.4), record("b", 0, 1.0)]))
    assert table.set_index("category")["image_AP"].to_dict() == pytest.approx({"a": 0.3, "b": 1.0})
