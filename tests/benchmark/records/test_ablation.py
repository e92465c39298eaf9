"""Variants are compared in pairs, seed by seed, and what cannot be paired is said."""

import json
import shutil
from dataclasses import replace
from statistics import fmean

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmark.records.ablation import COMPARED, ablations
from benchmark.records.paired import student
from benchmark.records.store import Record, Store
from benchmark.request.cell import DEMO_NOTE, Cell, CellSettings

CATEGORIES = ("a", "b")
FIGURES = {"figures": {"full": {"visa": 86.0}}, "source": "a table", "backbone": "ViT-B-16", "metric": "image_AUROC"}
VALUES = {  # label: seed: values of the two categories
    "full": {0: (0.80, 0.60), 1: (0.90, 0.50), 2: (0.70, 0.70)},
    "less": {0: (0.70, 0.60), 1: (0.90, 0.30), 2: (0.70, 0.75)},
}
DIFFERENCES = [-0.05, -0.10, 0.025]


def record(label, seed, category, value):
    settings = CellSettings(method={"label": label})
    cell = Cell("m", "plugin_set", "standard", "few_shot", (category,), 1, seed, None, settings)
    metrics = {name: {"value": value, "reason": ""} for name in COMPARED}
    return Record(
        cell.id, 1, "ok", "s", [], cell, "", comparison_id=f"id of {seed} {category}", metrics={category: metrics}
    )


def folder(tmp_path, change=lambda record: record, published=None):
    """A results folder of `VALUES` and its request; `change` may alter a record, or leave it out."""
    store, trials = Store(tmp_path), []
    for seed in VALUES["full"]:
        for index, category in enumerate(CATEGORIES):
            made = {label: record(label, seed, category, values[seed][index]) for label, values in VALUES.items()}
            cells = {label: its.cell_id for label, its in made.items()}
            setup = {"dataset": "plugin_set", "protocol": "few_shot", "shots": 1, "backbone": "embedded-demo"}
            trials.append(setup | {"note": DEMO_NOTE, "seed": seed, "categories": [category], "cells": cells})
            for its in filter(None, map(change, made.values())):
                store.save(its)
    variants = [{"label": label, "changes": {"label": label}} for label in VALUES]
    settings = {"variants": {"m": variants}, "backbone": {"name": "embedded"}}
    return {
        "trials": {"m": trials},
        "settings": settings | ({"published": {"m": published}} if published else {}),
    }, store


def compare(tmp_path, **changes):
    (table,) = ablations("s", *folder(tmp_path, **changes))
    lines = pd.DataFrame(table.lines).set_index(["variant", "metric"])
    return table, lines.loc[("less", "image_AUROC")]


def is_cell(record, label, seed, category):
    cell = record.cell
    return (cell.settings.method["label"], cell.seed, cell.part) == (label, seed, category)


def test_the_interval_of_five_values_is_that_of_a_printed_table():
    assert student([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx((3 - 2.776 / 2**0.5, 3 + 2.776 / 2**0.5), abs=5e-4)


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_the_interval_is_that_of_a_t_test(count):
    values = np.random.default_rng(count).normal(0.1, 1, count)
    wanted = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert student(list(values)) == pytest.approx((wanted.low, wanted.high), rel=1e-9)


def test_one_value_has_no_interval_and_equal_ones_an_empty_one():
    assert student([]) == student([0.3]) == (None, None)
    assert student([0.25, 0.25]) == (0.25, 0.25)


def test_a_seeds_difference_is_the_mean_over_its_categories(tmp_path):
    table, found = compare(tmp_path)
    wanted = stats.ttest_1samp(DIFFERENCES, 0).confidence_interval(0.95)
    assert found["difference"] == pytest.approx(fmean(DIFFERENCES))
    assert (found["low"], found["high"]) == pytest.approx((wanted.low, wanted.high))
    assert found["mean"] == pytest.approx(fmean([0.65, 0.6, 0.725]))
    assert found["std"] == pytest.approx(np.std([0.65, 0.6, 0.725], ddof=1))
    assert (found["paired_seeds"], found["pairs"], found["expected"], found["status"]) == (3, 6, 6, "ok")
    reference, less = (dict(zip(table.head, row, strict=True)) for row in table.rows)
    assert reference["pixel_AP"] == "70.0"
    assert less["pixel_AP"] == f"65.8, -4.2 [{100 * wanted.low:+.1f}, {100 * wanted.high:+.1f}]"
    assert (less["settings"], less["seeds"], less["pairs"]) == ("label=less", "3", "6/6")


def test_the_stamp_of_the_backbone_stands_above(tmp_path):
    assert compare(tmp_path)[0].notes[0] == DEMO_NOTE


@pytest.mark.parametrize("label", ["full", "less"])
def test_a_missing_cell_leaves_its_pair_out_and_is_said(tmp_path, label):
    table, found = compare(tmp_path, change=lambda r: None if is_cell(r, label, 1, "b") else r)
    assert found["status"] == "partial: 5 of 6 pairs"
    assert found["difference"] == pytest.approx(fmean([-0.05, 0.0, 0.025]))
    assert table.rows[1][2:4] == ("3", "5/6")
    assert table.rows[0][-1] == ("partial: 5 of 6 pairs" if label == "full" else "ok")


def test_a_failed_cell_is_counted(tmp_path):
    failed = {"status": "failed", "metrics": {}, "error": {"type": "E", "message": ""}}
    _, found = compare(tmp_path, change=lambda r: replace(r, **failed) if is_cell(r, "less", 0, "a") else r)
    assert found["status"] == "partial: 5 of 6 pairs, 1 failed"


def test_cells_of_other_data_are_no_pair(tmp_path):
    _, found = compare(tmp_path, change=lambda r: replace(r, comparison_id="x") if is_cell(r, "less", 1, "b") else r)
    assert (found["pairs"], found["status"]) == (5, "partial: 5 of 6 pairs")
    assert found["mean"] == pytest.approx(fmean([0.65, 0.6, 0.725]))  # measured all the same


def ended(image, guess=0.69):
    return {"steps": 2, "terms": {"image": image, "dice": 0.9}, "uninformed": {"image": guess}}


@pytest.mark.parametrize("end", [0.69, 0.8, None])
def test_a_fit_that_learnt_no_more_than_the_base_rate_is_said(tmp_path, end):
    def fitted(r):
        high = is_cell(r, "less", 1, "b") or is_cell(r, "less", 0, "a")
        return replace(r, fit=ended(end if high else 0.5))

    table, found = compare(tmp_path, change=fitted)
    assert found["status"] == "not converged: image in seeds 0, 1"
    assert table.rows[0][-1] == "ok"
    words = "inf" if end is None else f"{end:.3f}"
    assert table.notes[2] == (
        f"Highest loss at the end of a fit, of what a guess by the base rate loses: full image 0.500 of 0.690; "
        f"less image {words} of 0.690."
    )


def test_a_fit_is_judged_where_it_tells_what_a_guess_loses(tmp_path):
    silent = {"steps": 2, "terms": {"image": 0.8}}
    table, found = compare(tmp_path, change=lambda r: replace(r, fit=silent if r.cell.seed else {}))
    assert found["status"] == "ok"
    assert len(table.notes) == 2


def test_without_any_record_there_is_a_table_that_says_so(tmp_path):
    table, found = compare(tmp_path, change=lambda r: None)
    assert found["status"] == "partial: 0 of 6 pairs"
    assert table.rows[1][4:9] == ("–",) * 5


def test_an_undefined_metric_is_a_dash(tmp_path):
    def undefined(r):
        metrics = {c: {**m, "pixel_AP": {"value": None, "reason": "no masks"}} for c, m in r.metrics.items()}
        return replace(r, metrics=metrics)

    table, found = compare(tmp_path, change=undefined)
    assert dict(zip(table.head, table.rows[1], strict=True))["pixel_AP"] == "–"
    assert found["pairs"] == 6


def test_a_metric_that_an_older_suite_did_not_know_is_a_dash_and_is_said(tmp_path):
    def older(r):
        metrics = {c: {name: value for name, value in m.items() if name != "pixel_AP"} for c, m in r.metrics.items()}
        return replace(r, metrics=metrics) if is_cell(r, "less", 1, "b") else r

    table, found = compare(tmp_path, change=older)
    reference, less = (dict(zip(table.head, row, strict=True)) for row in table.rows)
    assert (less["pixel_AP"], less["status"]) == ("–", "not measured: pixel_AP")
    assert (reference["pixel_AP"], reference["status"]) == ("70.0", "ok")
    assert found["difference"] == pytest.approx(fmean(DIFFERENCES))  # of another metric


def test_one_seed_has_a_difference_without_an_interval(tmp_path):
    table, found = compare(tmp_path, change=lambda r: r if r.cell.seed == 0 else None)
    assert (found["difference"], found["low"]) == (pytest.approx(-0.05), None)
    assert table.rows[1][4] == "65.0, -5.0"


def test_published_figures_say_that_they_are_of_something_else(tmp_path):
    table, _ = compare(tmp_path, published=FIGURES)
    head = "published visa image_AUROC, percent (other data, other backbone)"
    assert [dict(zip(table.head, row, strict=True))[head] for row in table.rows] == ["86.0", "–"]
    assert table.notes[-1] == "Published: ViT-B-16. a table"
    published = {(line["variant"], line["metric"]): line["published_visa"] for line in table.lines}
    assert published.pop(("full", "image_AUROC")) == 0.86
    assert set(published.values()) == {None}
    same = FIGURES | {"figures": {"full": {"plugin_set": 86.0}}, "backbone": "embedded"}
    assert compare(tmp_path / "same", published=same)[0].head[-2] == "published plugin_set image_AUROC, percent"


@pytest.mark.slow
def test_a_sweep_of_variants_is_compared_and_goes_on_after_a_loss(bench, data, cells, tmp_path):
    (tmp_path / "mine.yaml").write_text("variants: {trivial_colour_knn: {fine: {}, coarse: {squares: 2}}}")
    words = ("run", "--config", tmp_path / "mine.yaml", "--methods", "trivial_colour_knn", "--shots", "1", *cells)
    done = bench(*words, "--seeds", "0,1,2", "--results", tmp_path / "r")
    assert done.code == 0, done.err
    assert "trivial_colour_knn: mvtec_ad, few_shot, shots 1, embedded-demo" in done.out
    assert str(tmp_path / "r" / "ablation.md") in done.out
    files = {name: (tmp_path / "r" / name).read_bytes() for name in ("ablation.csv", "ablation.md")}
    table = pd.read_csv(tmp_path / "r" / "ablation.csv").set_index(["variant", "metric"])
    long = pd.read_csv(tmp_path / "r" / "results.csv").pivot_table(
        index=["seed", "category"], columns=["method", "metric"], values="value"
    )
    for metric in COMPARED:
        labels = ("trivial_colour_knn(squares=2)", "trivial_colour_knn")
        seeds = (long[labels[0]][metric] - long[labels[1]][metric]).groupby("seed").mean()
        wanted = stats.ttest_1samp(seeds, 0).confidence_interval(0.95)
        found = table.loc[("coarse", metric)]
        assert tuple(found[["difference", "low", "high"]]) == pytest.approx((seeds.mean(), *wanted), abs=2e-6)
    assert table.loc["coarse", "difference"].abs().max() > 0.01
    assert json.loads(next((tmp_path / "r" / "sweeps").glob("*.json")).read_text())["trials"]
    for path in list((tmp_path / "r" / "cells").glob("*-s1-*"))[:3]:
        shutil.rmtree(path)
    assert bench("leaderboard", tmp_path / "r").code == 0
    assert b"partial" in (tmp_path / "r" / "ablation.csv").read_bytes()
    assert "3 to run" in bench(*words, "--seeds", "0,1,2", "--results", tmp_path / "r").out
    assert {name: (tmp_path / "r" / name).read_bytes() for name in files} == files
