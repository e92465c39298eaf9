"""The spread of a mean is told by what causes it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_records import MVTEC, made, scored
from sklearn.metrics import roc_auc_score

from benchmark.records.leaderboard import make_tables
from benchmark.records.store import Store
from benchmark.records.uncertainty import FILES, Scored, auroc, resample, wins, write_uncertainty

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("decimals", [0, 6])
def test_the_auroc_of_a_resample_is_that_of_scikit_learn_with_weights(decimals):
    rng = np.random.default_rng(3)
    normal, anomalous = np.round(rng.normal(0, 1, 30), decimals), np.round(rng.normal(1, 1, 20), decimals)
    counts = rng.multinomial(30, np.full(30, 1 / 30), 5), rng.multinomial(20, np.full(20, 1 / 20), 5)
    labels, scores = np.repeat([0, 1], [30, 20]), np.concatenate([normal, anomalous])
    wanted = [roc_auc_score(labels, scores, sample_weight=np.concatenate(pair)) for pair in zip(*counts, strict=True)]
    assert auroc(wins(normal, anomalous), *counts) == pytest.approx(wanted, abs=1e-12)


def delong(normal, anomalous):
    """Variance of an AUROC after DeLong, DeLong and Clarke-Pearson (1988), from its structural components."""
    wins = (anomalous[:, None] > normal).astype(float) + 0.5 * (anomalous[:, None] == normal)
    return wins.mean(1).var(ddof=1) / len(anomalous) + wins.mean(0).var(ddof=1) / len(normal)


def scores(seed, shift=1.0, sizes=(120, 90), decimals=2):
    rng = np.random.default_rng(seed)
    return np.round(rng.normal(0, 1, sizes[0]), decimals), np.round(rng.normal(shift, 1, sizes[1]), decimals)


def of_images(normal, anomalous):
    return Scored([str(number) for number in range(len(normal) + len(anomalous))], normal, anomalous)


@pytest.mark.parametrize("seed", range(3))
def test_the_deviation_over_test_images_is_delongs(seed):
    its = scores(seed)
    assert resample({"a": [of_images(*its)]}).std() == pytest.approx(delong(*its) ** 0.5, rel=0.08)


def test_categories_are_resampled_independently():
    its = scores(0)
    four = {name: [of_images(*its)] for name in "abcd"}
    assert resample(four).std() == pytest.approx((delong(*its) / 4) ** 0.5, rel=0.08)


def test_seeds_share_the_resampled_images():
    its = scores(0)
    one, three = resample({"a": [of_images(*its)]}), resample({"a": [of_images(*its)] * 3})
    assert three == pytest.approx(one)
    assert np.array_equal(one, resample({"a": [of_images(*its)]}))  # the resamples are the same each time


def test_other_images_or_one_kind_alone_are_not_resampled():
    one, other = of_images(*scores(0)), of_images(*scores(0, sizes=(121, 89)))
    assert resample({"a": [one, other]}) is None
    assert resample({"a": [one, one._replace(names=one.names[::-1])]}) is None
    assert resample({"a": [of_images(np.array([]), np.array([0.5]))]}) is None


def table(tmp_path, records, keep=lambda record: True):
    store = Store(tmp_path)
    for number, record in enumerate(records):
        store.save(record)
        if keep(record):
            scored(tmp_path, record, *scores(number))
    said = write_uncertainty(tmp_path, make_tables(store.all_current()))
    assert {*FILES} <= {path.name for path in tmp_path.iterdir()}
    return pd.read_csv(tmp_path / FILES[0]).set_index(["method", "metric"]), said


def runs(method, values, category="bottle", **changes):
    return [made(method, category, seed, value, dataset="plugin_set", **changes) for seed, value in enumerate(values)]


def test_the_spread_is_named_by_what_a_seed_decides(tmp_path):
    records = [
        *runs("winclip", (0.5, 0.7)),  # fits nothing: other shots
        *runs("promptad", (0.5, 0.8)),  # fits on them
        *runs("gone", (0.5, 0.6)),  # of a plug-in that is no longer installed: cannot be told
        *runs("coop", (0.5, 0.9), shots=0),
    ]
    found, _ = table(tmp_path, records)
    spreads = found.xs("image_AUROC", level="metric")[["std_shots", "std_fit", "std_shots_and_fit"]]
    assert spreads.stack().dropna().to_dict() == pytest.approx({
        ("winclip", "std_shots"): 0.2 / 2**0.5,
        ("promptad", "std_shots_and_fit"): 0.3 / 2**0.5,
        ("gone", "std_shots_and_fit"): 0.1 / 2**0.5,
        ("coop", "std_fit"): 0.4 / 2**0.5,
    }, abs=1e-6)  # fmt: skip


def test_seeds_that_saw_the_same_shots_differ_in_the_fit_alone(tmp_path):
    found, _ = table(tmp_path, runs("promptad", (0.5, 0.8), draw=0))
    assert found.loc[("promptad", "image_AUROC"), "std_fit"] == pytest.approx(0.3 / 2**0.5)
    assert pd.isna(found.loc[("promptad", "image_AUROC"), "std_shots_and_fit"])


def test_test_images_are_resampled_where_all_predictions_of_a_row_are_kept(tmp_path):
    records = [*runs("winclip", (0.5, 0.7)), *runs("promptad", (0.5, 0.8))]
    found, _ = table(tmp_path, records, keep=lambda r: (r.cell.method, r.cell.seed) != ("promptad", 1))
    seeds = [of_images(*scores(number)) for number in (0, 1)]
    assert found.loc[("winclip", "image_AUROC"), "std_test"] == pytest.approx(
        resample({"bottle": seeds}).std(ddof=1), abs=2e-6
    )
    assert found.loc[("winclip", "image_AUROC"), "test_images"] == 210
    assert found["std_test"].notna().sum() == 1


def test_a_category_without_predictions_leaves_the_row_out(tmp_path):
    records = [*runs("winclip", (0.5,)), *runs("winclip", (0.6,), "cable")]
    found, _ = table(tmp_path, records, keep=lambda record: record.cell.part == "bottle")
    assert found["std_test"].isna().all()


def test_predictions_of_other_categories_than_were_measured_are_not_resampled(tmp_path):
    record = runs("winclip", (0.5,))[0]
    found, _ = table(tmp_path, [record])
    assert found["std_test"].notna().sum() == 1
    scored(tmp_path, record, *scores(0), category="cable")
    write_uncertainty(tmp_path, make_tables(Store(tmp_path).all_current()))
    assert pd.read_csv(tmp_path / FILES[0])["std_test"].isna().all()


def test_the_comparison_with_the_best_stands_beside_the_spread(tmp_path):
    records = [
        made(method, category, 0, value + number / 100)
        for method, value in (("winclip", 0.5), ("promptad", 0.7))
        for number, category in enumerate(MVTEC)
    ]
    found, said = table(tmp_path, records, keep=lambda record: False)
    line = found.loc[("winclip", "image_AUROC")]
    assert (line["best"], line["pairs"], line["unit"]) == ("promptad", 15, "categories")
    assert line[["difference", "p_holm"]].to_list() == pytest.approx([-0.2, 2 / 2**15], abs=1e-6)
    measured = ["image_AUROC", "pixel_AUPRO"]
    assert (found.loc[("winclip", measured), "not_distinguishable"] == False).all()  # noqa: E712  (none is None)
    assert pd.isna(found.loc[("winclip", "image_AP"), "not_distinguishable"])
    assert "No ranks over data sets: 2 methods share 1 data set;" in said[0]


def test_an_empty_folder_has_tables_without_lines(tmp_path):
    found, said = table(tmp_path, [])
    assert found.empty
    assert said == ["No ranks over data sets: no two methods have a row of one comparison."]


def test_neither_tables_nor_comparisons_load_torch_or_the_whole_of_scipy():
    code = "import sys, benchmark.commands.report, benchmark.commands.compare\n"
    code += "print({'torch', 'scipy.stats'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
