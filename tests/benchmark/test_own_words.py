"""Own categories run without words for their defects, and words that come later make no false row."""

import json

import pandas as pd
import pytest
from steps import shorten_fits
from twins import write_mvtec_category

from benchmark.request import inputs
from benchmark.request.plan import make_plan
from benchmark.request.settings import Layer, compose

NOTE = "no defect words for nut: generic states"


@pytest.fixture
def run(bench, tmp_path, monkeypatch):
    """Run PromptAD on one own category in one results folder; returns the output."""
    shorten_fits(monkeypatch)
    write_mvtec_category(tmp_path / "part" / "nut", seed=0)

    def call(*words):
        axes = ("--methods", "promptad", "--datasets", "folder", "--shots", "1", "--seeds", "0")
        own = (f"dataset.folder.root={tmp_path / 'part'}", "protocol.evaluation_size=24", "--results", tmp_path / "r")
        done = bench("run", *axes, *own, *words)
        assert done.code == 0, done
        return done.out

    return call


def known(folder):
    """Column `knows` of the rows of all categories."""
    wide = pd.read_csv(folder / "leaderboard.csv", keep_default_na=False)
    return wide.loc[wide["kind"] == "all", "knows"].tolist()


@pytest.mark.slow
def test_a_category_that_gets_words_later_is_another_cell_and_supersedes_the_row_without(run, tmp_path):
    file = tmp_path / "states.json"
    word = f"method.promptad.states_file={file}"
    file.write_text('{"pin": ["with rust"]}')
    out = run(word)
    assert f"note: promptad: {NOTE}" in out
    assert f"\nnote: {NOTE}" in out
    assert known(tmp_path / "r") == ["nothing"]
    file.write_text('{"nut": ["with a scratch"]}')
    out = run(word)
    assert "1 missing; 1 to run" in out
    assert NOTE not in out
    assert known(tmp_path / "r") == ["defect words"]
    made = [json.loads(path.read_text()) for path in (tmp_path / "r").glob("cells/*/attempt-*.json")]
    made.sort(key=lambda record: record["started"])
    assert [(record["remarks"], record["knows"]) for record in made] == [([NOTE], []), ([], ["defect words"])]


def test_words_of_the_suite_belong_to_the_code_of_who_reads_them_and_of_no_other():
    for method, reads in (("promptad", True), ("finegrainedad", True), ("winclip", False)):
        layer = Layer("test", {"sweep": {"methods": [method], "datasets": ["folder"]}})
        (cell, *_) = make_plan(compose([layer]), {"folder": ("nut",)}).cells
        assert ("methods/components/promptad_states.json" in inputs.code(cell)) == reads
