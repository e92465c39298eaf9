"""What a reader sees: shared words once, the best bold, and a table that fits where it is printed."""

import io
import json
import re
from dataclasses import replace

import pandas as pd
import pytest
from made_records import made
from rich.cells import cell_len
from rich.console import Console

from benchmark.commands.terminal import print_display
from benchmark.records import formats
from benchmark.records.cost import cost_table
from benchmark.records.display import FIRST, SECOND, category_displays, displays
from benchmark.records.leaderboard import FILES, long_table, wide_table, write_tables
from benchmark.records.rows import category_table
from benchmark.records.store import Store

VALUES = {"best": 0.9, "second": 0.8, "third": 0.7}


def sweep(values=VALUES, categories=("a", "b"), dataset="plugin_set", **changes):
    return [
        made(name, category, seed, value + 0.01 * seed, dataset=dataset, **changes)
        for name, value in values.items()
        for category in categories
        for seed in (0, 1)
    ]


def tables(records):
    long = long_table(records)
    return wide_table(long), category_table(long)


def shown(records, **options):
    (display,) = displays(tables(records)[0], **options)
    return display


def names(display):
    return [column.name for column in display.columns]


def test_what_all_rows_share_stands_once_above_and_a_metric_that_none_has_nowhere():
    display = shown(sweep())
    assert names(display) == ["method", "image_AUROC", "image_AP", "pixel_AUPRO"]
    assert display.notes[0].startswith("In every row: dataset plugin_set, kind all, protocol few_shot, shots 1, comp")
    assert "status" in names(shown(sweep({"best": 0.9}) + sweep({"worse": 0.4}, ("a",), limit=4)))
    assert names(shown(sweep({"alone": 0.9})))[0] == "method"
    both = shown([*sweep(), *sweep(shots=2)])
    assert names(both)[:2] == ["shots", "method"]


def test_the_best_and_the_second_of_a_comparison_are_marked_and_a_tie_marks_both():
    display = shown([*sweep(), *sweep({"best": 0.4, "second": 0.6, "third": 0.6}, shots=2)])
    places = {(line[0], line[1]): place[-3:] for line, place in zip(display.lines, display.places, strict=True)}
    assert places["1", "best"] == [FIRST] * 3
    assert places["1", "second"] == [SECOND] * 3
    assert places["1", "third"] == [0] * 3
    assert places["2", "second"] == places["2", "third"] == [FIRST] * 3
    assert places["2", "best"] == [SECOND] * 3
    alone = shown(sweep({"best": 0.9}))
    assert {place for line in alone.places for place in line} == {0}


def test_what_is_printed_equal_is_equal():
    display = shown(sweep({"one": 0.80001, "other": 0.80003, "third": 0.7}))
    assert [place[1] for place in display.places] == [FIRST, FIRST, SECOND]


def test_a_kind_has_a_row_only_where_it_says_something_of_its_own():
    def kinds(categories):
        display = shown(sweep(categories=categories, dataset="mvtec_ad"))
        return {line[names(display).index("kind")] for line in display.lines} if "kind" in names(display) else {"all"}

    assert kinds(("wood", "grid")) == {"all"}
    assert kinds(("wood", "bottle")) == {"all"}  # equal values in both
    different = [*sweep({"m": 0.9}, ("wood",), "mvtec_ad"), *sweep({"m": 0.5}, ("bottle",), "mvtec_ad")]
    display = shown(different)
    assert {line[names(display).index("kind")] for line in display.lines} == {"all", "object", "texture"}


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_terminal_gets_no_wider_line_than_it_has_and_hears_what_is_missing(width):
    long_names = {f"a_method_with_a_name(scale={number})": value for number, value in enumerate(VALUES.values())}
    display = shown([*sweep(long_names), *sweep(long_names, shots=2), *sweep({"m": 0.3}, ("a",), limit=4)])
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    print_display(display, console)
    lines = console.file.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= width
    text = " ".join(lines)
    assert all(name in text for name in long_names)
    assert ("Not shown: " in text) == (width < 200)
    assert "limited" in text
    assert "plugin_set, few_shot, 2 shots, comparison " in text or "few_shot" in display.notes[0]


def test_a_pipe_gets_every_column_of_aligned_text_without_a_box():
    print_display(shown([*sweep(), *sweep(shots=2)]), Console(file=(pipe := io.StringIO()), width=40))
    title, head, *rows = pipe.getvalue().splitlines()
    assert title == "ViT-B-32/real"
    assert re.split("  +", head) == ["shots", "method", "comparison", "image AUROC", "image AP", "pixel AUPRO"]
    assert len(re.split("  +", rows[0])) == 6
    assert not set("│┃━─") & set("".join(rows))
    assert rows[0].index("± 0.7") == rows[1].index("± 0.7")


def test_latex_escapes_what_it_would_obey_and_keeps_its_rules():
    values = {"a_b(c=50%, d={1})": 0.9, "x & y \\input{z} #1 $ ^ ~": 0.8}
    text = formats.latex(shown([*sweep(values), *sweep(values, shots=2)]))
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1
    assert text.count(r"\midrule") == 2
    assert r"a\_b(c=50\%, d=\{1\}) " in text
    assert r"x \& y \textbackslash{}input\{z\} \#1 \$ \textasciicircum{} \textasciitilde{}" in text
    assert r"\textbf{90.5 $\pm$ 0.7}" in text
    assert r"\underline{80.5 $\pm$ 0.7}" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    bare = [line.partition(" ")[0] for line in text.splitlines()]
    assert [bare[i + 1] for i, word in enumerate(bare) if word == r"\midrule"] == ["1", "2"]
    counts = {len(re.findall(r"(?<!\\)&", line)) for line in rows}
    assert counts == {len(re.search(r"tabular}{([lr]+)}", text)[1]) - 1}


@pytest.mark.parametrize("stamp", ["", "a demonstration", "a demonstration."])
def test_a_caption_is_made_of_whole_sentences(stamp):
    display = shown([*sweep({"m": 0.3}), *sweep({"m": 0.4}, shots=2)])
    assert display.legend
    caption = re.search(r"caption{(.*)}", formats.latex(replace(display, notes=[*display.notes, stamp])))[1]
    assert caption.startswith("ViT-B-32/real. ")
    assert caption.count("a demonstration. ") == bool(stamp)
    assert " below chance. " in caption
    assert caption.endswith("counts as several.")
    assert not re.search(r"(^| )\.|\.\.", caption)


def test_a_table_by_category_has_a_column_for_each_method_and_their_mean():
    records = [*sweep({"m": 0.9}, ("a",)), *sweep({"m": 0.5}, ("b",)), *sweep({"n": 0.6}, ("a", "b"))]
    wide, categories = tables(records)
    (display,) = category_displays(categories, wide, chosen=["image_AUROC"])
    assert names(display) == ["category", "m", "n"]
    assert display.lines == [
        ["a", "90.5 ± 0.7", "60.5 ± 0.7"],
        ["b", "50.5 ± 0.7", "60.5 ± 0.7"],
        ["mean", "70.5 ± 0.7", "60.5 ± 0.7"],
    ]
    assert display.places == [[0, FIRST, SECOND], [0, SECOND, FIRST], [0, FIRST, SECOND]]


COST = {"trained_parameters": 7, "images_per_s": 20.0, "batch_size": 4, "device": "cpu, 1 threads", "warm": True}


def test_costs_are_those_of_the_cells_of_a_row_and_older_records_have_none():
    def cost(name, rate, seconds, hits=0, **told):
        return made(
            name,
            "a",
            rate,
            0.5,
            dataset="plugin_set",
            cost=COST | {"images_per_s": rate} | told,
            seconds={"fit": seconds},
            peak_memory_mib=100.0 + rate,
            features={"hits": hits, "misses": 4 - hits},
        )

    records = [cost("m", 10, 1.0, 1), cost("m", 30, 3.0, 3), cost("m", 11, 2.0, warm=False)]
    records += [made("old", "a", 0, 0.5, dataset="plugin_set")]
    found = cost_table(records, tables(records)[0]).set_index("method")
    assert found.loc["m", ["trained_parameters", "fit_s", "images_per_s", "peak_MiB"]].to_list() == [7, 2, 11, 130]
    assert found.loc["m", "features_hit"] == pytest.approx(4 / 12, abs=1e-3)
    timing = "4 images a batch, fp32, cpu, 1 threads"
    assert found.loc["m", "timing"] == f"{timing}; {timing}, the first batch with it"
    assert found.loc["old", ["trained_parameters", "images_per_s"]].isna().all()
    display = shown(records, costs=cost_table(records, tables(records)[0]))
    assert "images_per_s" in names(display)


def test_what_is_published_stands_in_a_table_of_its_own(tmp_path):
    records = [made("winclip", "candle", 0, 0.8, dataset="visa", shots=0)]
    write_tables(tmp_path, records)
    text = (tmp_path / "leaderboard.md").read_text()
    measured, _, published = text.partition("### Published figures beside measured ones")
    assert "| visa | zero_shot | 0 | winclip | image_AUROC |" in published
    assert "not comparable: " in published
    assert "78.1" in published  # WinCLIP's table 1
    assert "78.1" not in measured


def test_formats_for_programs_hold_fractions_and_write_nothing(bench, tmp_path):
    store = Store(tmp_path)
    for record in sweep():
        store.save(record)
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = bench("leaderboard", tmp_path, "--format", "json", "--metrics", "image_AP", "--wide")
    rows = json.loads(out)
    assert code == 0
    assert [row["method"] for row in rows] == [*VALUES]
    assert rows[0]["image_AP"] == pytest.approx(0.905)
    assert "image_AUROC" not in rows[0]
    assert "images_per_s" in rows[0]
    code, out, _ = bench("leaderboard", tmp_path, "--format", "csv", "--by-category")
    assert pd.read_csv(io.StringIO(out))["category"].to_list() == ["a", "b"] * 3
    for form in ("md", "latex", "text"):
        assert bench("leaderboard", tmp_path, "--format", form).code == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert bench("leaderboard", tmp_path).code == 0
    assert all((tmp_path / name).is_file() for name in FILES)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--format", "xls"), "unknown format 'xls'"),
        (("--metrics", "AUROC"), "unknown metric 'AUROC'"),
        (("--format", "md", "--all"), "--all shows the whole leaderboard"),
        (("--format", "md", "--no-pictures"), "--no-pictures is for leaderboard.html"),
    ],
)
def test_what_is_not_known_is_refused_in_a_sentence(bench, tmp_path, words, why):
    (tmp_path / "cells").mkdir()
    code, _, err = bench("leaderboard", tmp_path, *words)
    assert (code, why in err) == (2, True)
