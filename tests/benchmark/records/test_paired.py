"""Rows are compared with the best of their comparison in pairs, and what cannot be told is not marked."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from made_records import MVTEC, made
from scipy import stats
from statsmodels.stats.multitest import multipletests

from benchmark.records.display import displays, legend
from benchmark.records.leaderboard import long_table, markdown, wide_table
from benchmark.records.paired import ALPHA, compare_with_best, holm, needed, pair, signed_rank


@pytest.mark.parametrize("count", range(6, 20))
def test_without_ties_it_is_the_exact_test_of_scipy(count):
    values = np.random.default_rng(count).normal(0.3, 1, count)
    assert signed_rank(values) == pytest.approx(stats.wilcoxon(values, method="exact").pvalue, rel=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_with_ties_and_zeros_it_counts_every_choice_of_signs(seed):
    values = np.random.default_rng(seed).integers(-3, 5, 10) / 10
    ranks = stats.rankdata(np.abs(kept := values[values != 0]))
    sums = np.array([ranks[np.array(signs)].sum() for signs in product([False, True], repeat=len(kept))])
    seen = ranks[kept > 0].sum()
    wanted = min(1, 2 * min((sums <= seen + 1e-9).mean(), (sums >= seen - 1e-9).mean()))
    assert signed_rank(values) == pytest.approx(wanted, rel=1e-12)


def test_differences_that_are_rounded_apart_are_tied():
    values = np.array([0.1 + 0.2 - 0.3, 0.3 - 0.2, 0.1, -0.1, 0.5, 0.6])
    assert signed_rank(values) == signed_rank(np.array([0.0, 0.1, 0.1, -0.1, 0.5, 0.6]))


def test_no_difference_is_no_evidence():
    assert signed_rank(np.zeros(9)) == signed_rank(np.array([])) == 1


@pytest.mark.parametrize("seed", range(4))
def test_the_correction_is_that_of_statsmodels(seed):
    values = np.random.default_rng(seed).random(7) ** 4
    assert holm(list(values)) == pytest.approx(multipletests(values, method="holm")[1])


@pytest.mark.parametrize("tests", [1, 2, 3, 7, 14, 30])
def test_with_the_needed_pairs_and_no_fewer_a_winner_of_all_can_be_told(tests):
    least = needed(tests)
    smallest = [stats.wilcoxon(np.arange(1.0, 1 + count), method="exact").pvalue for count in (least, least - 1)]
    assert smallest[0] * tests < ALPHA <= smallest[1] * tests


def sweep(methods, categories=MVTEC, seeds=(0, 1), **changes):
    """Records of methods whose values are a function of category number and seed."""
    return [
        made(method, category, seed, value(number, seed), **changes)
        for method, value in methods.items()
        for number, category in enumerate(categories)
        for seed in seeds
    ]


NOISE = np.random.default_rng(0).normal(0, 0.03, (3, 15, 8))
THREE = {
    "best": lambda c, s: 0.80 + NOISE[0, c, s],
    "near": lambda c, s: 0.795 + NOISE[1, c, s],
    "worse": lambda c, s: 0.6 + NOISE[2, c, s],
}


def tables(records):
    long = long_table(records)
    wide = wide_table(long)
    return wide[wide["kind"] == "all"].set_index("method"), compare_with_best(wide, long)


def test_what_is_near_the_best_is_marked_and_what_is_worse_is_not():
    wide, lines = tables(sweep(THREE))
    wanted = "image_AUROC, pixel_AUPRO"
    assert wide["not_distinguishable"].to_dict() == {"best": wanted, "near": wanted, "worse": ""}
    assert set(wide["compared_over"]) == {"15 categories"}
    lines = lines[lines["metric"] == "image_AUROC"].set_index("method")
    means = {name: np.array([np.mean([of(c, s) for s in (0, 1)]) for c in range(15)]) for name, of in THREE.items()}
    plain = [stats.wilcoxon(means[name] - means["best"], method="exact").pvalue for name in ("near", "worse")]
    assert lines.loc[["near", "worse"], "p"].to_list() == pytest.approx(plain)
    assert lines.loc[["near", "worse"], "p_holm"].to_list() == pytest.approx(multipletests(plain, method="holm")[1])
    interval = stats.ttest_rel(means["worse"], means["best"]).confidence_interval(0.95)
    assert lines.loc["worse", ["low", "high"]].to_list() == pytest.approx([interval.low, interval.high])
    assert lines.loc["worse", "difference"] == pytest.approx(np.mean(means["worse"] - means["best"]))
    assert pd.isna(lines.loc["best", "p"])


def test_the_mark_stands_in_the_rendered_table_with_its_meaning():
    table = wide_table(long_table(sweep(THREE)))
    text = markdown(table)
    (shown,) = displays(table)
    names = [column.name for column in shown.columns]
    kind, method = names.index("kind"), names.index("method")
    marked = {line[method]: sum("≈" in word for word in line) for line in shown.lines if line[kind] == "all"}
    assert marked == {"best": 2, "near": 2, "worse": 0}
    assert "≈ not distinguishable from the best of its comparison: Wilcoxon" in text
    assert not any("≈" in word for line in shown.lines for word in line if line[kind] != "all")


def test_the_best_alone_has_no_mark():
    wide, _ = tables(sweep({name: THREE[name] for name in ("best", "worse")}))
    assert set(wide["not_distinguishable"]) == {""}
    assert "≈" not in " ".join(legend(wide))


def test_too_few_pairs_mark_nothing_and_the_legend_says_how_many_are_needed():
    wide, lines = tables(sweep(THREE, ("bottle",), range(3), dataset="plugin_set"))
    assert set(wide["not_distinguishable"]) == {""}
    assert set(wide["compared_over"]) == {"too few pairs: 3 draws, at least 7 are needed"}
    assert lines[["p", "not_distinguishable"]].isna().all(axis=None)
    words = "Rows were not tested against the best in 1 of 1 comparisons, for too few pairs: 3 draws, at least 7 are"
    assert words in " ".join(legend(wide.reset_index()))


def test_fewer_than_six_categories_are_paired_draw_by_draw():
    wide, lines = tables(sweep(THREE, MVTEC[:2], range(8), dataset="plugin_set"))
    assert set(wide["compared_over"]) == {"16 draws"}
    line = lines[(lines["method"] == "worse") & (lines["metric"] == "image_AUROC")].squeeze()
    values = [THREE["worse"](c, s) - THREE[line["best"]](c, s) for c in range(2) for s in range(8)]
    assert (line["unit"], line["p"]) == ("draws", pytest.approx(stats.wilcoxon(values, method="exact").pvalue))


def test_a_draw_of_one_row_alone_makes_no_pair():
    one, other = {("a", "1"): 0.5, ("a", "2"): 0.7, ("b", "1"): 0.9}, {("a", "1"): 0.25, ("c", "1"): 0.1}
    assert pair(one, other) == ("categories", [0.25])


def test_seeds_of_a_fit_on_one_draw_are_averaged():
    fitted = sweep({"fitted": THREE["best"]}, seeds=range(3), shots=0)
    plain = sweep({"plain": THREE["near"]}, seeds=(0,), shots=0)
    wide, lines = tables([*fitted, *plain])
    assert set(wide["compared_over"]) == {"15 categories"}
    line = lines[(lines["metric"] == "image_AUROC") & lines["p"].notna()].squeeze()
    means = {"fitted": [np.mean([THREE["best"](c, s) for s in range(3)]) for c in range(15)]}
    means["plain"] = [THREE["near"](c, 0) for c in range(15)]
    differences = np.subtract(means[line["method"]], means[line["best"]])
    assert line["p"] == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)


def test_rows_of_other_comparisons_and_leaks_are_not_compared():
    one = sweep({"best": THREE["best"]})
    other = sweep({"near": THREE["near"]}, shots=2)
    assert tables([*one, *other])[1].empty
    fewer = sweep({"near": THREE["near"]}, seeds=(0,))
    assert tables([*one, *fewer])[1].empty
    leaked = sweep({"near": THREE["near"]}, leaks={"tested": 5, "shots": ["a.png"]})
    assert tables([*one, *leaked])[1].empty


def test_a_metric_without_a_mean_is_not_compared():
    records = sweep(THREE)
    for record in records:
        for measured in record.metrics.values():
            measured["pixel_AUPRO"] = {"value": None, "reason": "no masks"}
    wide, lines = tables(records)
    assert set(lines["metric"]) == {"image_AUROC"}
    assert wide.loc["near", "not_distinguishable"] == "image_AUROC"
