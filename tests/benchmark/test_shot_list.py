"""A published list of shots in records and requests."""

import json

import pytest

from datamodules.components.published_shots import LIST_FILE, LIST_RULE, NAMES_RULE
from datamodules.components.shots import SHOT_RULE


@pytest.fixture
def run(bench, tmp_path, data):
    """Runs one cell with two shots and returns its record."""

    def call(name, *words):
        folder = tmp_path / name
        request = ("--datasets", "mvtec_ad", "--categories", "bottle", "--protocols", "few_shot", "--seeds", "0")
        finished = bench(
            *("run", "--methods", "trivial_colour_knn", *request, "--shots", "2", "--results", folder),
            *("protocol.evaluation_size=24", *words),
        )
        assert finished.code == 0, finished
        (path,) = folder.glob("cells/*/attempt-1.json")
        return json.loads(path.read_text())

    return call


@pytest.fixture
def write(tmp_path):
    def call(name, line):
        file = tmp_path / name / "bottle" / LIST_FILE
        file.parent.mkdir(parents=True)
        file.write_text(line)
        return f"dataset.shot_list={tmp_path / name}"

    return call


@pytest.mark.slow
def test_the_rule_and_the_names_are_compared_and_the_path_is_not(run, write):
    own = run("own")
    words = [write("a", "#2: 000 001\n"), write("b", "#2: 000 001\n"), write("c", "#2: 001 000\n")]
    one, moved, other = (run(f"results-{word[-1]}", word) for word in words)
    assert own["data"]["shot_rule"] == SHOT_RULE
    assert {record["data"]["shot_rule"] for record in (one, moved, other)} == {LIST_RULE}
    assert [shot["path"][-7:] for shot in one["data"]["shots"]["bottle"]] == ["000.png", "001.png"]
    assert one["comparison_id"] == moved["comparison_id"]
    assert len({record["comparison_id"] for record in (own, one, other)}) == 3
    assert one["cell_id"] == moved["cell_id"]  # equal lists in two places
    assert len({record["cell_id"] for record in (own, one, other)}) == 3


@pytest.mark.slow
def test_the_rule_alone_is_another_protocol(run, write):
    own = run("own")
    sampled = [shot["path"][-7:-4] for shot in own["data"]["shots"]["bottle"]]
    listed = run("listed", write("lists", f"#2: {' '.join(sampled)}\n"))
    assert listed["data"]["shots_sha256"] == own["data"]["shots_sha256"]
    assert listed["comparison_id"] != own["comparison_id"]
    assert listed["metrics"] == own["metrics"]


def test_ambiguous_lists_and_other_data_sets_are_refused_before_anything_runs(bench, tmp_path, data, write):
    word = write("lists", "#1: 007\n")
    request = (
        "run",
        "--methods",
        "trivial_colour_knn",
        "--protocols",
        "few_shot",
        "--shots",
        "1",
        "--results",
        tmp_path,
    )
    finished = bench(*request, "--datasets", "mvtec_ad", "--categories", "bottle", word)
    assert finished.code == 2
    assert "lists 7, which is no certain image of 5" in " ".join(finished.err.split())
    finished = bench(*request, "--datasets", "procedural", word)
    assert finished.code == 2
    assert "unknown configuration key" in finished.err
    assert "shot_list" in finished.err
    assert not (tmp_path / "cells").exists()


@pytest.mark.slow
def test_a_list_of_files_counts_by_its_content(run, tmp_path):
    records = []
    for place, stems in (("a", "01"), ("b", "01"), ("c", "10")):
        (tmp_path / place).write_text("".join(f"bottle: bottle/train/good/00{stem}.png\n" for stem in stems))
        records.append(run(f"results-{place}", f"dataset.shot_list={tmp_path / place}"))
    one, moved, other = records
    assert {record["data"]["shot_rule"] for record in records} == {NAMES_RULE}
    assert [shot["path"][-7:] for shot in other["data"]["shots"]["bottle"]] == ["001.png", "000.png"]
    assert one["cell_id"] == moved["cell_id"] != other["cell_id"]
    assert one["comparison_id"] == moved["comparison_id"] != other["comparison_id"]
