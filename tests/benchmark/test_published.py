"""Published figures: the files are sound, and a measured row stands beside what its conditions allow."""

import dataclasses
import math

import pandas as pd
import pytest

from benchmark.metrics.table import metric_names
from benchmark.records import beside as besides
from benchmark.records.beside import beside, differences
from benchmark.records.leaderboard import long_table, wide_table
from benchmark.records.store import Record
from benchmark.request import registry
from benchmark.request.merging import Layer
from benchmark.request.plan import make_plan
from benchmark.request.published import Figure, figures
from benchmark.request.settings import compose, parse_words

#: Data sets that papers use and the suite does not have.
ELSEWHERE = {"ksdd2", "goods", "real_iad_variety", "covid19", "cvc300"}
VISA = Figure(
    "AnomalyCLIP", "visa", "zero_shot", "0", "ViT-L-14-336 openai", 518, "image_AUROC", 82.1, None, "S", "read", ""
)


def test_the_files_are_sound():
    assert len(figures()) > 2500
    for figure in figures():
        assert figure.dataset in {*registry.names("dataset")} | ELSEWHERE, figure
        assert figure.protocol in ("zero_shot", "few_shot", "multi_class", "full"), figure
        assert figure.metric in metric_names(), figure
        assert 0 <= figure.value <= 100, figure
        assert figure.std is None or 0 <= figure.std < 30, figure
        assert figure.certainty in ("read", "second_hand"), figure  # recalled ones are left out
        assert "" not in (figure.source, figure.method), figure
        assert figure.shots in ("", "full") or figure.shots.isdigit(), figure
    keys = [(f.method, f.dataset, f.protocol, f.shots, f.backbone, f.metric, f.value, f.source) for f in figures()]
    assert len(keys) == len(set(keys))


def test_every_name_that_a_method_is_filed_under_has_figures():
    there = {figure.method for figure in figures()}
    for name in registry.names("method"):
        assert {*registry.method(name).published} <= there, name


def test_the_figures_of_the_source():
    found = [f for f in figures() if (f.method, f.dataset, f.metric) == ("AnomalyCLIP", "visa", "image_AUROC")]
    assert 82.1 in {figure.value for figure in found}  # AnomalyCLIP, Table 1
    assert {figure.certainty for figure in figures()} == {"read", "second_hand"}


def cells(method="anomalyclip", dataset="visa", words=("backbone=vit_l_14_336",), **sweep):
    asked = {"methods": [method], "datasets": [dataset], "seeds": [0, 1, 2], **sweep}
    return make_plan(compose([Layer("test", {"sweep": asked}), parse_words(words)]), {}).cells


def board(values, **request):
    """The leaderboard of a request whose image AUROC is `values` by seed in every category, and its records."""
    records = []
    for cell in cells(**request):
        if cell.seed < len(values):
            its = {name: {"value": None, "reason": "none"} for name in metric_names()}
            its["image_AUROC"] = {"value": values[cell.seed], "reason": ""}
            records.append(
                Record(cell.id, 1, "ok", "s", [], cell, "2026-01-01", metrics=dict.fromkeys(cell.categories, its))
            )
    return wide_table(long_table(records)), records


@pytest.fixture
def claim(monkeypatch):
    def make(*changes):
        made = tuple(VISA._replace(**change) for change in changes or ({},))
        monkeypatch.setattr(besides, "figures", lambda: made)

    return make


def verdict(values, **request):
    (line,) = beside(*board(values, **request)).to_dict("records")
    return line


def test_equal_to_the_printed_digit_is_reproduced(claim):
    claim()
    line = verdict([0.8206, 0.8212, 0.8216])
    assert line["verdict"] == "reproduced"
    assert line["difference"] == pytest.approx(0.0004 / 3)


def test_within_twice_the_noise_of_both_means(claim):
    claim()
    values = [0.81, 0.83, 0.85]  # 2 points of deviation: noise 2 * hypot(2 / sqrt(3), 2)
    edge = 2 * math.hypot(0.02 / math.sqrt(3), 0.02)
    line = verdict(values)
    assert line["verdict"] == "within noise"
    claim({"value": 100 * (0.83 - edge) - 0.2})
    assert verdict(values)["verdict"] == "gap"
    claim({"value": 100 * (0.83 - edge) + 0.2})
    assert verdict(values)["verdict"] == "within noise"


def test_the_deviation_that_a_source_prints_counts(claim):
    claim({"value": 75.0, "std": 0.1})
    assert verdict([0.81, 0.83, 0.85])["verdict"] == "gap"
    claim({"value": 75.0, "std": 5.0})
    assert verdict([0.81, 0.83, 0.85])["verdict"] == "within noise"


def test_one_seed_leaves_the_noise_unknown(claim):
    claim()
    assert verdict([0.7], seeds=[0])["verdict"] == "gap, of one seed: noise unknown"


def test_a_range_where_sources_conflict_and_the_runners_before_those_who_quote(claim):
    claim({"value": 80.0}, {"value": 84.0}, {"value": 99.0, "certainty": "second_hand"})
    line = verdict([0.82, 0.83, 0.825])
    assert (line["published_low"], line["published_high"], line["certainty"]) == (0.80, 0.84, "read")
    assert (line["difference"], line["verdict"]) == (0.0, "reproduced")
    assert verdict([0.851, 0.85, 0.849])["difference"] == pytest.approx(0.01)


DIFFERENCES = {
    "another backbone: ViT-L-14-336 openai there": {"words": ("backbone=embedded",)},
    "240 px instead of 518": {"words": ("backbone=vit_l_14_336", "backbone.image_size=240")},
    "other method (depth=3)": {"words": ("backbone=vit_l_14_336", "method.depth=3")},
    "other protocol (evaluation_size=64)": {"words": ("backbone=vit_l_14_336", "protocol.evaluation_size=64")},
    "run with gelu": {"words": ("backbone=vit_l_14_336_gelu",)},
}


@pytest.mark.parametrize(("words", "request_"), DIFFERENCES.items(), ids=[*DIFFERENCES])
def test_what_differs_is_named_and_nothing_is_concluded(claim, words, request_):
    claim()
    assert verdict([0.821, 0.821, 0.821], **request_)["verdict"] == f"not comparable: {words}"


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        ({"metric": "pixel_AUPRO"}, "exact AUPRO instead of AUPRO by 200 score steps, with FPR rescaled"),
        ({"metric": "pixel_AUPRO", "method": "X"}, "exact AUPRO, and it is not known how it was computed there"),
        ({"note": "image score min-max normalised over the category"}, "image scores scaled over the test set there"),
        ({"shots": ""}, "how many shots there were is not stated"),
        ({"method": "PromptAD"}, "the last step instead of the epoch that was best on the test set there"),
    ],
)
def test_what_a_source_did_otherwise_is_named(figure, words):
    (cell, *_) = cells()
    assert differences(VISA, cell) == []
    assert differences(VISA._replace(**figure), cell) == [words]


def test_a_row_that_is_not_ok_compares_with_nothing(claim):
    claim()
    assert verdict([0.821], limit=3)["verdict"] == "not comparable: limited"


def test_other_shots_protocols_and_methods_are_no_claim(claim):
    claim({"shots": "4"}, {"protocol": "few_shot"}, {"method": "FAPrompt"}, {"dataset": "mvtec_ad"})
    assert beside(*board([0.8, 0.8, 0.8])).empty


def test_what_is_published_is_printed_with_its_source(bench):
    done = bench("published", "--method", "winclip", "--dataset", "visa", "--metric", "image_AUROC")
    assert done.code == 0
    assert "\t78.10\tsecond_hand\t" in done.out
    assert bench("published", "--method", "annople").code == 2
    assert "Did you mean 'visa'?" in bench("published", "--dataset", "visaa").err
    assert bench("published", "--metric", "auroc").code == 2
    assert "\n0 figures; " in bench("published", "--method", "trivial_pixel_difference").out


def test_a_folder_beside_what_is_published(bench, monkeypatch, data, cells, tmp_path):
    figure = VISA._replace(method="Toy", dataset="mvtec_ad", backbone="", image_size=None)
    monkeypatch.setattr(besides, "figures", lambda: (figure,))
    facts = registry.method("toy_mean")
    monkeypatch.setattr(besides.registry, "method", lambda name: dataclasses.replace(facts, published=("Toy",)))
    words = ("--methods", "toy_mean", *cells, "--protocols", "zero_shot", "--results", tmp_path / "r")
    assert bench("run", *words).code == 0
    table = pd.read_csv(tmp_path / "r" / "published.csv")
    assert table["published_low"].tolist() == [0.821]
    out = bench("published", "--results", tmp_path / "r").out
    assert out.splitlines()[0].split("\t")[-3:] == ["measured", "difference", "verdict"]
    assert "not comparable: " in out
    assert "cells/" in bench("published", "--results", tmp_path / "none").err
    assert bench("published", "--results", tmp_path / "r", "--method", "winclip").code == 2
