"""`bench compare` says what changed and what it did, in pairs."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_records import made
from scipy import stats

from benchmark.records.store import Store

VALUES = {  # category: values of A by seed
    "bottle": (0.80, 0.70, 0.90),
    "cable": (0.60, 0.65, 0.50),
}
GAIN = {"bottle": (0.05, 0.02, 0.04), "cable": (-0.01, 0.03, 0.0)}


def folder(path, gain=0, change=lambda record: record, method="winclip", seeds=range(3), **fields):
    store = Store(path)
    for category, values in VALUES.items():
        for seed in seeds:
            value = values[seed] + gain * GAIN[category][seed]
            if (record := change(made(method, category, seed, value, **fields))) is not None:
                store.save(record)
    return path


@pytest.fixture
def two(tmp_path):
    return lambda **changes: (folder(tmp_path / "a"), folder(tmp_path / "b", gain=1, **changes))


def line(out, word):
    """The words of the first line that begins with one."""
    return next(row.split() for row in out.splitlines() if row.strip().startswith(word + " "))


def test_differences_are_those_of_a_paired_t_test_over_seeds(bench, two, tmp_path):
    done = bench("compare", *two(), "--output", tmp_path / "out.csv")
    assert (done.code, done.err) == (0, "")
    by_seed = np.mean([GAIN["bottle"], GAIN["cable"]], axis=0)
    interval = stats.ttest_1samp(by_seed, 0).confidence_interval(0.95)
    lines = pd.read_csv(tmp_path / "out.csv").set_index(["category", "metric"])
    whole = lines[lines.index.get_level_values(0).isna()].droplevel(0).loc["image_AUROC"]
    assert whole[["difference", "low", "high"]].to_list() == pytest.approx(
        [by_seed.mean(), interval.low, interval.high], abs=1e-6
    )
    assert (whole["pairs"], whole["over"], whole["comparable"]) == (6, "3 seeds", True)
    assert whole["a"] == pytest.approx(np.mean([*VALUES.values()]))
    cable = lines.loc[("cable", "pixel_AUPRO")]
    single = stats.ttest_1samp(GAIN["cable"], 0).confidence_interval(0.95)
    assert cable[["difference", "low"]].to_list() == pytest.approx([np.mean(GAIN["cable"]), single.low], abs=1e-6)
    rendered = f"{100 * by_seed.mean():+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}] 6 3 seeds"
    assert " ".join(line(done.out, "image_AUROC")[3:]) == rendered
    assert "pixel_AUPRO by category" in done.out
    assert max(map(len, done.out.replace(str(tmp_path), "").splitlines())) <= 80


def test_one_seed_has_its_interval_over_categories(bench, tmp_path):
    a, b = folder(tmp_path / "a", seeds=(0,)), folder(tmp_path / "b", gain=1, seeds=(0,))
    interval = stats.ttest_1samp([0.05, -0.01], 0).confidence_interval(0.95)
    words = line(bench("compare", a, b).out, "image_AUROC")
    assert " ".join(words[4:]) == f"[{100 * interval.low:+.1f}, {100 * interval.high:+.1f}] 2 2 categories"


def test_what_changed_is_named_by_key_file_and_part(bench, two):
    def change(record):
        content = {
            "code": {"methods/winclip.py": "2", "methods/new.py": "1"},
            "data": {record.cell.part: "other"},
            "pixels": "p2",
        }
        versions = {"python": "3.12", "packages": {"torch": "2.9"}}
        return replace(record, content=content, provenance=versions, backbone={"weights_sha256": "f" * 64})

    def before(record):
        content = record.content | {"data": {record.cell.part: "one"}, "pixels": "p1"}
        versions = {"python": "3.12", "packages": {"torch": "2.4"}}
        return replace(record, content=content, provenance=versions, backbone={"weights_sha256": "e" * 64})

    a, _ = two()
    folder(a, change=before)
    folder(b := a.parent / "c", gain=1, change=change, method_settings={"temperature": 0.07})
    done = bench("compare", a, b)
    told = done.out.partition("what changed:\n")[2].partition("\n\n")[0].splitlines()
    assert [words.strip() for words in told] == [
        "method.temperature: None -> 0.07",
        "code: methods/winclip.py",
        "code of B alone: methods/new.py",
        "data (by category): bottle, cable",
        "how images decode and resize: changed",
        f"weights: {'e' * 10} -> {'f' * 10}",
        "torch: 2.4 -> 2.9",
    ]


def test_nothing_changed_is_said_too(bench, two):
    assert "what changed: nothing" in bench("compare", *two()).out


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"change": lambda r: replace(r, comparison_id="x", data={"shots_sha256": "1"})}, "other shots"),
        ({"size": 64, "comparison_id": "x"}, "other evaluation size"),
        ({"limit": 5, "comparison_id": "x"}, "other limit"),
        ({"change": lambda r: replace(r, comparison_id="x")}, "something that no record names"),
    ],
)
def test_what_does_not_compare_is_said_with_the_reason(bench, two, tmp_path, changes, reason):
    done = bench("compare", *two(**changes), "--output", tmp_path / "out.csv")
    assert f"NOT COMPARABLE: {reason}\n" in done.out
    assert not pd.read_csv(tmp_path / "out.csv")["comparable"].any()
    assert "NOT COMPARABLE" not in bench("compare", tmp_path / "a", tmp_path / "a").out


def test_cells_of_one_side_alone_are_counted_and_setups_named(bench, two):
    a, b = two(change=lambda r: None if (r.cell.part, r.cell.seed) == ("cable", 2) else r)
    folder(a, method="promptad")
    out = bench("compare", a, b).out
    assert "5 category runs in both, 1 only in A, 0 only in B" in out
    assert "only in A: promptad, mvtec_ad, few_shot, 1 shot" in out


def test_a_setup_that_failed_is_no_measurement(bench, two):
    a, b = two()
    failed = {"status": "failed", "metrics": {}, "error": {"type": "E", "message": ""}}
    folder(b, method="promptad", change=lambda record: replace(record, **failed))
    assert "promptad" not in bench("compare", a, b).out


def test_long_lists_are_wrapped_at_80_columns(bench, two):
    code = {f"methods/components/part_number_{number}.py": "2" for number in range(9)}
    a, b = two(change=lambda record: replace(record, content={"code": code | record.content["code"]}))
    out = bench("compare", a, b).out.replace(str(a), "").replace(str(b), "")
    assert out.count("part_number_") == 9
    assert max(map(len, out.splitlines())) <= 80


def test_failed_cells_and_undefined_metrics_make_no_pair(bench, two):
    def change(record):
        if record.cell.seed == 2:
            return replace(record, status="failed", metrics={}, error={"type": "E", "message": ""})
        values = record.metrics[record.cell.part] | {"image_AP": {"value": None, "reason": "no"}}
        return replace(record, metrics={record.cell.part: values})

    out = bench("compare", *two(change=change)).out
    assert "4 category runs in both, 2 only in A" in out
    assert "image_AP" not in out
    assert line(out, "image_AUROC")[-3:] == ["4", "2", "seeds"]


@pytest.mark.parametrize("other", [{"shots": 2}, {"dataset": "visa"}])
def test_where_nothing_pairs_it_is_refused_in_one_sentence(bench, two, other):
    done = bench("compare", *two(**other))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: nothing pairs, no category and seed was measured by both")
    assert done.err.count("\n") == 1


def test_two_methods_of_one_folder_by_label(bench, tmp_path):
    folder(tmp_path, method="winclip")
    folder(tmp_path, gain=1, method="promptad")
    out = bench("compare", "winclip", "promptad", "--results", tmp_path).out
    assert "winclip and promptad, mvtec_ad, few_shot, 1 shot" in out
    assert "method: winclip -> promptad" in out
    assert line(out, "image_AUROC")[3] == "+2.2"


def test_labels_that_the_folder_does_not_hold_are_refused(bench, tmp_path):
    folder(tmp_path, method="winclip")
    folder(tmp_path, method="winclip", method_settings={"temperature": 0.07})
    for words, said in ((("winclp", "winclip"), "Did you mean 'winclip'?"), (("winclip", "winclip"), "twice")):
        done = bench("compare", *words, "--results", tmp_path)
        assert done.code == 2
        assert said in done.err
    done = bench("compare", "winclip", "winclip(temperature=0.07)", "--results", tmp_path)
    assert "method.temperature: None -> 0.07" in done.out


def test_a_setup_with_several_partners_is_not_guessed(bench, two):
    a, b = two(method_settings={"temperature": 0.5})
    folder(b, method_settings={"temperature": 0.7})
    done = bench("compare", a, b)
    assert done.code == 2
    assert "1 setups in A and 2 in B, none of which agree" in done.err


def test_a_folder_without_records_is_refused(bench, tmp_path):
    done = bench("compare", folder(tmp_path / "a"), tmp_path / "nothing")
    assert (done.code, "is not a results folder" in done.err) == (2, True)
