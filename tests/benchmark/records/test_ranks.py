"""Ranks over data sets are Friedman's and Nemenyi's, and are not made of a handful."""

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from made_records import made
from scipy import stats

from benchmark.records.critical_difference import diagram
from benchmark.records.leaderboard import long_table, wide_table
from benchmark.records.ranks import Ranking, critical_difference, friedman, rankings, sentences, table

SETS = tuple(f"set{number}" for number in range(8))  # of no data set that is installed: one category is all


def found(values, **changes):
    """Rankings of a folder whose data sets have one category; `values` by method, a number for each data set."""
    records = [
        made(method, "a", 0, value, dataset=dataset, **changes)
        for method, its in values.items()
        for dataset, value in zip(SETS, its, strict=False)
        if value is not None
    ]
    wide = wide_table(long_table(records))
    return [its for its in rankings(wide) if its.metric == "image_AUROC"]


def random(methods, sets, seed=0):
    rng = np.random.default_rng(seed)
    return {f"m{number}": list(rng.normal(0.5 + 0.1 * number, 0.12, sets).clip(0, 1)) for number in range(methods)}


@pytest.mark.parametrize(("methods", "datasets", "wanted"), [(4, 14, 1.25), (5, 30, 1.11)])
def test_the_critical_difference_is_that_of_demsar(methods, datasets, wanted):
    assert critical_difference(methods, datasets) == pytest.approx(wanted, abs=0.005)


@pytest.mark.parametrize("seed", range(3))
def test_ranks_and_differences_are_those_of_scikit_posthocs(seed):
    values = random(5, 8, seed)
    (its,) = found(values)
    matrix = pd.DataFrame(values)
    ranks = matrix.rank(axis=1, ascending=False).mean()
    assert dict(zip(its.methods, its.ranks, strict=True)) == pytest.approx(ranks.to_dict())
    assert its.friedman_p == pytest.approx(stats.friedmanchisquare(*matrix.to_numpy().T).pvalue)
    p = scikit_posthocs.posthoc_nemenyi_friedman(matrix.to_numpy())
    p.index = p.columns = list(matrix.columns)
    for one in its.methods:
        for other in its.methods:
            alike = abs(ranks[one] - ranks[other]) <= its.critical_difference
            assert alike == (p.loc[one, other] >= 0.05), (one, other)


def test_friedman_is_the_chi_squared_of_the_mean_ranks():
    ranks = pd.DataFrame(np.random.default_rng(0).random((9, 4))).rank(axis=1).to_numpy()
    chi = 12 * 9 / (4 * 5) * ((ranks.mean(0) ** 2).sum() - 4 * 25 / 4)
    assert friedman(ranks) == pytest.approx(stats.chi2.sf(chi, 3))
    assert friedman(np.full((5, 3), 2.0)) == 1


def test_ties_share_their_ranks():
    (its,) = found({"a": [0.9] * 5, "b": [0.5] * 5, "c": [0.1 + 0.4] * 4 + [0.7 - 0.2]})  # 0.49999999999999994
    assert dict(zip(its.methods, its.ranks, strict=True)) == {"a": 1, "b": 2.5, "c": 2.5}


@pytest.mark.parametrize(
    ("methods", "sets", "words"), [(3, 2, "3 methods share 2 data sets;"), (2, 8, "2 methods share 8 data sets;")]
)
def test_a_handful_is_not_ranked_and_why_is_said(methods, sets, words):
    its = found(random(methods, sets))
    assert words in its[0].why_not
    assert sentences(its)[0].startswith("No ranks over data sets: ")
    assert table(its)["why_not"].item() == its[0].why_not
    drawn = ElementTree.fromstring(diagram(its, sentences(its)))
    assert its[0].why_not in " ".join(drawn.itertext()).replace("\n", " ")


def test_a_method_that_lacks_data_sets_is_left_out_and_named():
    values = random(4, 6) | {"short": [0.9, 0.9, None, None, None, None]}
    (its,) = found(values)
    assert set(its.methods) == {"m0", "m1", "m2", "m3"}
    assert len(its.datasets) == 6
    assert sentences([its])[0].endswith("left out, for fewer data sets: short.")


def test_rows_of_other_images_and_trials_are_not_ranked_together():
    values = random(3, 5)
    assert [its.why_not for its in found(values)] == [""]
    assert found(values, limit=4) == []
    wide = wide_table(long_table(
        made(method, "a", 0, value, dataset=dataset, comparison_id=method)
        for method, its in values.items()
        for dataset, value in zip(SETS, its, strict=False)
    ))  # fmt: skip
    assert all(its.why_not for its in rankings(wide))


SETTING = {"backbone": "ViT <B>", "note": "", "protocol": "few_shot", "shots": "1"}


def ranking(ranks, critical):
    names = [f"m{number}" for number in range(len(ranks))]
    return Ranking(SETTING, "image_AUROC", SETS, names, ranks, 0.01, critical)


@pytest.mark.parametrize(
    ("ranks", "critical", "wanted"),
    [
        ((1, 2, 3), 0.5, []),
        ((1, 2, 3), 1.0, [(0, 1), (1, 2)]),
        ((1, 2, 3), 2.0, [(0, 2)]),
        ((1.2, 1.5, 3.1, 4.2), 1.2, [(0, 1), (2, 3)]),
        ((1.2, 1.5, 3.1, 4.2), 2.0, [(0, 2), (2, 3)]),
    ],
)
def test_bars_join_the_longest_runs_within_the_critical_difference(ranks, critical, wanted):
    assert ranking(ranks, critical).alike() == wanted


def test_the_diagram_holds_every_name_at_its_rank_and_a_bar_for_each_run():
    its = ranking((1.2, 1.5, 3.1, 4.2), 2.0)
    root = ElementTree.fromstring(diagram([its], []))
    space = "{http://www.w3.org/2000/svg}"
    words = [text.text for text in root.iter(f"{space}text")]
    assert [word for word in words if word.startswith("m")] == ["m0 (1.20)", "m1 (1.50)", "m2 (3.10)", "m3 (4.20)"]
    assert any("ViT <B>" in word for word in words)
    bars = [line for line in root.iter(f"{space}line") if line.get("stroke-width") == "4"]
    assert len(bars) == 2
    ends = [(float(bar.get("x1")) + 4, float(bar.get("x2")) - 4) for bar in bars]
    position = {rank: 230 + (rank - 1) / 3 * 440 for rank in (1.2, 3.1, 4.2)}  # of the axis between both margins
    assert ends == [pytest.approx((position[1.2], position[3.1]), abs=0.1),
                    pytest.approx((position[3.1], position[4.2]), abs=0.1)]  # fmt: skip


def test_a_name_that_does_not_fit_the_margin_is_cut():
    its = Ranking(SETTING, "image_AUROC", SETS, ("winclip(temperature=0.07, scale=2)", "b", "c"), (1, 2, 3), 0.01, 3)
    assert "winclip(temperature=0.0… (1.00)" in diagram([its], [])


def test_each_method_names_those_it_is_not_told_from():
    lines = table([ranking((1.2, 1.5, 3.1, 4.2), 2.0)]).set_index("method")["not_distinguishable"]
    assert lines.to_dict() == {"m0": "m1, m2", "m1": "m0, m2", "m2": "m0, m1, m3", "m3": "m2"}
