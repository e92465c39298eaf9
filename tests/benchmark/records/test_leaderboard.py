"""Tables are means of means, say what is missing, and never mix backbones."""

from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest

from benchmark.metrics.table import metric_names
from benchmark.records import rows, superseding
from benchmark.records.display import displays
from benchmark.records.leaderboard import (
    LONG,
    category_table,
    everything,
    long_table,
    markdown,
    wide_table,
    write_tables,
)
from benchmark.records.rows import Fact
from benchmark.records.store import Record
from benchmark.request import registry
from benchmark.request.cell import DEMO_NOTE, RANDOM_NOTE, Cell, CellSettings
from benchmark.request.groups import BackboneSettings, ProtocolSettings

PROTOCOL = {"evaluation_size": 8, "precision": "fp32", "auxiliary": None}


def settings(weights="real", name="ViT-B-32", protocol=(), **method):
    return CellSettings(
        method=method,
        protocol=ProtocolSettings(**PROTOCOL | dict(protocol)),
        backbone=BackboneSettings(name=name, pretrained=weights),
    )


def record(
    category="a",
    seed=0,
    value=0.5,
    *,
    method="m",
    dataset="plugin_set",
    status="ok",
    comparison_id="few_shot-1",
    weights="real",
    embedded="",
    undefined=(),
    protocol=(),
    files=None,
    started="",
    **fields,
):
    cell = Cell(
        method,
        dataset,
        "standard",
        "few_shot",
        categories := (category,) if isinstance(category, str) else category,
        1,
        seed,
        fields.pop("limit", None),
        settings(embedded or weights, "embedded" if embedded else "ViT-B-32", protocol),
        {"protocol": PROTOCOL},
        files or {},
        joint=fields.pop("joint", False),
    )
    values = {
        n: {"value": None, "reason": "no masks"} if n in undefined else {"value": value, "reason": ""}
        for n in metric_names()
    }
    metrics = dict.fromkeys(categories, values) if status == "ok" else {}
    error = {} if status == "ok" else {"type": "RuntimeError", "message": "two\nlines"}
    identity = {"comparison_id": comparison_id, "content": fields.pop("content", {"code": {"m.py": "1"}})}
    return Record(cell.id, 1, status, "s", [], cell, started, metrics=metrics, error=error, **identity, **fields)


def test_categories_are_averaged_before_seeds():
    values = {("a", 0): 0.6, ("b", 0): 0.8, ("a", 1): 0.9, ("b", 1): 0.9}
    (row,) = wide_table(long_table(record(c, s, v) for (c, s), v in values.items())).to_dict("records")
    assert row["image_AUROC"] == pytest.approx(0.8)
    assert row["image_AUROC_std"] == pytest.approx(0.2 / 2**0.5)
    assert (row["n_seeds"], row["categories"], row["status"]) == (2, 2, "ok")


def test_the_long_table_has_the_promised_columns_and_reasons():
    long = long_table([record(undefined=("pixel_AP",)), record("b", status="failed")])
    assert tuple(long.columns)[: len(LONG)] == LONG
    undefined = long[long["metric"] == "pixel_AP"].iloc[0]
    assert pd.isna(undefined["value"])
    assert undefined["status"] == "undefined: no masks"
    assert long.iloc[-1]["status"] == "failed: RuntimeError two lines"


def test_an_undefined_metric_is_empty_not_zero(tmp_path):
    wide = write_tables(tmp_path, [record(undefined=("pixel_AP",))]).wide
    assert pd.isna(wide["pixel_AP"].item())
    assert "pixel AP" not in (tmp_path / "leaderboard.md").read_text()
    assert pd.read_csv(tmp_path / "leaderboard.csv")["pixel_AP"].isna().all()
    write_tables(tmp_path, [record(undefined=("pixel_AP",)), record(method="other")])
    assert " – |" in (tmp_path / "leaderboard.md").read_text()


@pytest.mark.slow
def test_a_missing_or_failed_part_makes_a_row_partial_and_a_limit_makes_it_limited():
    two = [record("a", 0), record("b", 0), record("a", 1)]
    left_out = "left out of the mean, for fewer categories: seed 1"
    assert wide_table(long_table(two))["status"].item() == f"partial: 3 of 4 category runs; {left_out}"
    status = wide_table(long_table([*two, record("b", 1, status="failed")]))["status"].item()
    assert status == f"partial: 3 of 4 category runs, 1 failed; {left_out}"
    assert wide_table(long_table([record(limit=4)]))["status"].item() == "limited"


@pytest.mark.slow
def test_the_row_id_agrees_only_if_all_cells_do():
    def row_id(*records):
        return wide_table(long_table(records))["comparison"].item()

    one, other = record("a", 0, comparison_id="few_shot-1"), record("b", 0, comparison_id="few_shot-2")
    assert row_id(one, other) == row_id(other, one)
    assert row_id(one, other) != row_id(one)
    assert row_id(one) != row_id(replace(one, comparison_id="few_shot-3"))


@pytest.mark.parametrize(("weights", "note"), [("random", RANDOM_NOTE), ("demo", DEMO_NOTE)])
def test_backbones_stand_in_tables_of_their_own_and_embedded_ones_are_stamped(weights, note):
    table = wide_table(long_table([record(), record(embedded=weights, method="other")]))
    assert dict(zip(table["backbone"], table["note"], strict=True)) == {
        f"embedded-{weights}": note,
        "ViT-B-32/real": "",
    }
    head, _, tail = markdown(table).partition(f"### embedded-{weights}")
    assert note in tail
    assert "| other |" in tail
    assert "| m |" not in tail
    assert note not in head
    assert "other" not in head


def test_a_bar_in_a_label_ends_no_cell_of_the_rendered_table():
    lines = markdown(wide_table(long_table([record(method="mine | ours")]))).splitlines()
    head, _, row = (line for line in lines if line.startswith("|"))
    assert row.startswith("| mine \\| ours |")
    assert row.replace("\\|", "").count("|") == head.count("|")


def test_the_best_image_auroc_comes_first():
    wide = wide_table(long_table([record(value=0.4, method="worse"), record(value=0.7, method="better")]))
    assert list(wide["method"]) == ["better", "worse"]


def test_no_record_gives_empty_tables(tmp_path):
    assert write_tables(tmp_path, []).wide.empty
    assert "No finished cell" in (tmp_path / "leaderboard.md").read_text()


def test_per_category_values_are_means_over_seeds():
    table = category_table(long_table([record("a", 0, 0.2), record("a", 1, 0.4), record("b", 0, 1.0)]))
    assert table.set_index("category")["image_AP"].to_dict() == pytest.approx({"a": 0.3, "b": 1.0})


def mvtec(category, seed=0, value=0.5, **fields):
    return record(category, seed, value, dataset="mvtec_ad", **fields)


def test_textures_and_objects_have_means_of_their_own():
    values = {("wood", 0): 0.2, ("grid", 0): 0.4, ("bottle", 0): 0.9, ("wood", 1): 0.4, ("grid", 1): 0.8}
    wide = wide_table(long_table(mvtec(c, s, v) for (c, s), v in values.items())).set_index("kind")
    assert wide["image_AUROC"].to_dict() == pytest.approx({"all": 0.5, "object": 0.9, "texture": 0.45})
    assert wide["image_AUROC_std"]["texture"] == pytest.approx(0.3 / 2**0.5)
    assert wide["categories"].to_dict() == {"all": 3, "object": 1, "texture": 2}
    assert wide["n_seeds"].to_dict() == {"all": 1, "object": 1, "texture": 2}
    assert wide["status"].to_dict() == {
        "all": "partial: 5 of 30 category runs; left out of the mean, for fewer categories: seed 1",
        "object": "partial: 1 of 10 category runs",
        "texture": "partial: 4 of 10 category runs",
    }


@pytest.mark.parametrize("name", ["mvtec_ad", "procedural"])
def test_a_complete_run_is_complete_in_every_kind(name):
    kinds = registry.dataset(name).kinds
    wide = wide_table(long_table(record(category, dataset=name) for category in kinds)).set_index("kind")
    assert set(wide["status"]) == {"ok"}
    assert wide["categories"].to_dict() == {"all": len(kinds), **Counter(kinds.values())}


def test_the_id_of_a_kind_is_that_of_its_own_cells():
    def ids(*records):
        return wide_table(long_table(records)).set_index("kind")["comparison"]

    wood, bottle = mvtec("wood", comparison_id="few_shot-1"), mvtec("bottle", comparison_id="few_shot-2")
    both, other = ids(wood, bottle), ids(wood, replace(bottle, comparison_id="few_shot-3"))
    assert both["texture"] == other["texture"]
    assert (both != other).to_dict() == {"all": True, "object": True, "texture": False}


def test_methods_are_ranked_within_a_kind():
    values = {"m": {"wood": 0.9, "bottle": 0.1}, "n": {"wood": 0.5, "bottle": 0.8}}
    records = [mvtec(c, value=v, method=m) for m, found in values.items() for c, v in found.items()]
    wide = wide_table(long_table(records))
    order = [("all", "n"), ("all", "m"), ("object", "n"), ("object", "m"), ("texture", "m"), ("texture", "n")]
    assert list(zip(wide["kind"], wide["method"], strict=True)) == order
    first, _, *rows = (line for line in markdown(wide).splitlines() if line.startswith("|"))
    assert first.startswith("| kind | method | image AUROC |")
    assert [(row.split(" | ")[0][2:], row.split(" | ")[1]) for row in rows] == order


def test_a_failed_cell_of_all_categories_is_missed_in_every_kind():
    every = registry.dataset("mvtec_ad").categories
    wide = wide_table(long_table([mvtec(every, joint=True), mvtec(every, 1, status="failed", joint=True)]))
    wide = wide.set_index("kind")
    assert wide["status"].to_dict() == {
        "all": "partial: 15 of 30 category runs, 1 failed",
        "object": "partial: 10 of 20 category runs, 1 failed",
        "texture": "partial: 5 of 10 category runs, 1 failed",
    }


def test_a_failed_category_is_missed_in_its_own_kind():
    wide = wide_table(long_table([mvtec("wood"), mvtec("bottle", status="failed")])).set_index("kind")
    assert wide["status"]["object"] == "partial: 0 of 10 category runs, 1 failed"
    assert wide["status"]["texture"] == "partial: 1 of 5 category runs"


@pytest.mark.parametrize(("name", "category"), [("plugin_set", "a"), ("visa", "pcb1"), ("textile", "textile")])
def test_a_set_of_one_kind_has_only_the_mean_of_all(name, category):
    assert list(wide_table(long_table([record(category, dataset=name)]))["kind"]) == ["all"]


def test_a_category_that_its_set_has_no_longer_is_of_no_kind():
    wide = wide_table(long_table([mvtec("wood"), mvtec("gone")])).set_index("kind")
    assert wide["categories"].to_dict() == {"all": 2, "texture": 1}


def test_a_data_set_that_is_read_in_part_has_a_row_of_its_own():
    whole, part = record(dataset="textile"), record(dataset="textile", value=0.9)
    cell = replace(part.cell, settings=replace(part.cell.settings, dataset={"per_kind": 50}))
    wide = wide_table(long_table([whole, replace(part, cell=cell, cell_id=cell.id)]))
    assert dict(zip(wide["variant"], wide["image_AUROC"], strict=True)) == {
        "standard": 0.5,
        "standard (per_kind=50)": 0.9,
    }


def test_an_undefined_metric_of_one_category_is_counted_and_left_out_of_the_mean():
    wide = wide_table(
        long_table([record("a", value=0.4), record("b", value=0.8, undefined=("pixel_AP", "pixel_AUPRO"))])
    )
    (row,) = wide.to_dict("records")
    assert (row["pixel_AP"], row["pixel_AP_n"], row["image_AP"], row["image_AP_n"]) == (0.4, 1, pytest.approx(0.6), 2)
    assert row["status"] == "undefined in 1 of 2: pixel_AP, pixel_AUPRO"


def test_a_row_without_any_number_is_not_ok():
    assert wide_table(long_table([record(undefined=metric_names())]))["status"].item() == "nothing is defined"


def test_a_row_below_chance_is_flagged_and_not_hidden(tmp_path):
    made = write_tables(tmp_path, [record(value=0.3, method="low"), record(value=0.6, method="high")])
    wide = made.wide.set_index("method")
    assert wide["below_chance"].to_dict() == {"high": "", "low": "image_AUROC, pixel_AUROC"}
    assert set(wide["status"]) == {"ok"}
    text = (tmp_path / "leaderboard.md").read_text()
    assert text.count("30.0 ▼") == 2
    assert "60.0 ▼" not in text
    assert "▼ below chance" in text


def test_a_leak_is_a_status_and_counts_the_test_images_of_all_cells():
    leaks = {"tested": 10, "shots": ["x"], "auxiliary": ["x", "y"]}
    status = wide_table(long_table([record("a", leaks=leaks), record("b", leaks={"tested": 5})]))["status"].item()
    assert status == "leak: 2 of 15 test images were seen before the test"


def at(second):
    return f"2026-01-01T00:00:{second:02}+00:00"


def coded(digits):
    return {"code": {"m.py": digits}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("older", "newer", "words"),
    [
        ({"content": coded("1")}, {"content": coded("2")}, "older code: m.py"),
        ({"content": coded("1") | {"pixels": "p"}}, {"content": coded("1") | {"pixels": "q"}}, "older pixels"),
        ({"files": {"method.states_file": "1"}}, {"files": {"method.states_file": "2"}}, "older files"),
        ({"backbone": {"weights_sha256": "1"}}, {"backbone": {"weights_sha256": "2"}}, "older weights"),
        ({"content": {"data": {"a": "1", "b": "1"}}}, {"content": {"data": {"a": "2"}}}, "older data: a"),
        ({"content": {"versions": {"protocol": 3}}}, {"content": {"versions": {"protocol": 4}}}, "older versions"),
        ({"limit": 3}, {}, "a full run stands beside this limited one"),
    ],
)
def test_an_older_record_leaves_the_table_and_is_never_averaged_with_the_newer(tmp_path, older, newer, words):
    old = record(seed=0, value=0.9, started=at(1), **older)
    new = record(seed=1, value=0.6, started=at(2), **newer)
    for records in ([old, new], [new, old]):
        (row,) = write_tables(tmp_path, records).wide.to_dict("records")
        assert (row["image_AUROC"], row["n_seeds"]) == (0.6, 1)
        assert list(superseding.standing(records)) == [new]
        assert superseding.reasons(records)[id(old)].startswith(f"superseded: {words}")
        shown = everything(records)
        assert sorted(shown["image_AUROC"]) == [0.6, 0.9]
        assert shown["status"].str.startswith("superseded: ").sum() == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"content": {"data": {"a": "1"}}}, {"content": {"data": {"b": "2"}}}),  # other categories
        ({"limit": 3}, {"limit": 4}),
        ({"protocol": {"evaluation_size": 9}}, {}),
        ({"embedded": "demo"}, {"embedded": "random"}),
    ],
)
def test_what_was_asked_for_otherwise_supersedes_nothing(one, other):
    records = [record("a", started=at(1), **one), record("b", started=at(2), **other)]
    assert superseding.standing(records) == records


def test_a_failure_by_newer_code_takes_the_older_success_out_of_the_table():
    old, new = (
        record(content=coded("1"), started=at(1)),
        record(seed=1, status="failed", content=coded("2"), started=at(2)),
    )
    (row,) = wide_table(long_table(superseding.standing([old, new]))).to_dict("records")
    assert row["status"] == "partial: 0 of 1 category runs, 1 failed"


def test_two_cells_of_one_category_and_seed_are_never_averaged():
    twin = record()
    with pytest.raises(AssertionError, match="would average over several cells"):
        wide_table(long_table([twin, replace(twin, cell_id="another")]))


def test_what_methods_know_stands_beside_their_numbers():
    """All that a method knew in some cell; a cell that did not say is not taken for one that knew nothing."""
    knew = {
        "m": [["defect words"], ["category", "defect words"]],
        "n": [[], ["auxiliary anomalies"]],
        "o": [[], []],
        "p": [["category"], None],
    }
    records = [record(c, method=m, knows=k) for m, its in knew.items() for c, k in zip("ab", its, strict=True)]
    wide = wide_table(long_table([*records, record("a", method="q", status="failed", knows=["category"])]))
    assert wide.set_index("method")["knows"].to_dict() == {
        "m": "category, defect words",
        "n": "auxiliary anomalies",
        "o": "nothing",
        "p": "not recorded",
        "q": "",
    }
    assert "knows" in [column.name for shown in displays(wide) for column in shown.columns]


def test_a_column_of_the_leaderboard_is_one_line(tmp_path, monkeypatch):
    peak = Fact(
        "peak",
        lambda row: row.cells["peak"].max(),
        of_record=lambda record: record.peak_memory_mib,
        heading="highest MiB",
    )
    monkeypatch.setattr(rows, "FACTS", (*rows.FACTS, peak))
    records = [record("a", peak_memory_mib=512.25), record("b", peak_memory_mib=100.0), record(method="n")]
    wide = write_tables(tmp_path, records).wide.set_index("method")
    assert wide.loc["m", "peak"] == 512.25
    assert pd.isna(wide.loc["n", "peak"])
    assert pd.read_csv(tmp_path / "leaderboard.csv").set_index("method").loc["m", "peak"] == 512.25
    assert (pd.read_csv(tmp_path / "results.csv")["peak"] == 512.25).sum() == len(metric_names())
    first, _, *lines = (line for line in (tmp_path / "leaderboard.md").read_text().splitlines() if line[:1] == "|")
    place = first.split(" | ").index("highest MiB")
    assert first.split(" | ")[place + 1] == "image AUROC"
    assert [line.split(" | ")[place] for line in lines] == ["512.2", "–"]
