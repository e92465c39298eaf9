"""Own data sets by name: several in one command, each with rows of its own, also as what a method is fitted on."""

import json
import re
import shutil

import pandas as pd
import pytest
from twins import write_mvtec_category

from benchmark.request import registry
from benchmark.request.compose import plan, read_request

AXES = dict.fromkeys(("methods", "datasets", "protocols", "categories", "shots", "seeds"))


@pytest.fixture
def places(tmp_path):
    write_mvtec_category(tmp_path / "parts" / "nut")
    for number, name in enumerate(("bolt", "cap")):
        write_mvtec_category(tmp_path / "cells" / name, seed=300 + 100 * number)
    return tmp_path


@pytest.fixture
def run(bench, places):
    def call(*words, methods="toy_mean", datasets=None):
        asked = datasets or f"parts={places / 'parts'},cells={places / 'cells'}"
        some = ("--shots", "1", "--seeds", "0", "protocol.evaluation_size=24", "--results", places / "r")
        return bench("run", "--methods", methods, "--datasets", asked, *some, *words)

    return call


def cells_of(datasets, *words):
    request = read_request(None, None, AXES | {"methods": "toy_mean", "datasets": datasets}, None, None, words)
    return plan(request, data_needed=True).cells


def test_two_own_sets_have_rows_of_their_own_and_are_done_at_the_second_command(run, bench, places):
    assert run().code == 0
    table = pd.read_csv(places / "r" / "leaderboard.csv")
    assert sorted(table["dataset"]) == ["folder-cells", "folder-parts"]
    assert "3 cells: 3 done; 0 to run" in run().out
    assert bench("status", places / "r").code == 0
    assert bench("leaderboard", places / "r").out.count("folder-parts") >= 1


def test_a_set_counts_by_its_name_and_content_not_by_its_place(run, places):
    run()
    shutil.move(places / "parts", places / "elsewhere")
    moved = f"parts={places / 'elsewhere'},cells={places / 'cells'}"
    assert "3 cells: 3 done" in run(datasets=moved).out
    swapped = f"parts={places / 'cells'},cells={places / 'elsewhere'}"
    assert "3 missing" in run(datasets=swapped).out.replace("3 cells: ", "")
    table = pd.read_csv(places / "r" / "leaderboard.csv")
    assert len(table) == 2  # the newer content of each name


def test_settings_are_given_by_either_name(places):
    asked = f"parts={places / 'parts'}"
    for name in ("parts", "folder-parts"):
        cell, *_ = cells_of(asked, f"dataset.{name}.layout=mvtec")
        assert cell.settings.dataset["layout"] == "mvtec"
        assert cell.dataset == "folder-parts"
    renamed, *_ = cells_of("folder", f"dataset.folder.root={places / 'parts'}", "dataset.folder.name=parts",
                          "dataset.folder.layout=mvtec")  # fmt: skip
    assert renamed.id == cell.id


def test_the_nameless_folder_keeps_its_name(places):
    cell, *_ = cells_of("folder", f"dataset.folder.root={places / 'parts'}")
    assert cell.dataset == "folder"


def test_an_own_set_may_be_fitted_on(run, places):
    asked = f"parts={places / 'parts'}"
    done = run(f"protocol.auxiliary=cells={places / 'cells'}", methods="toy_transfers", datasets=asked)
    assert done.code == 0, done.err
    (record,) = [json.loads(path.read_text()) for path in places.glob("r/cells/*/attempt-1.json")]
    assert record["data"]["auxiliary"]["dataset"] == "folder-cells"
    assert {*record["data"]["auxiliary"]["fingerprints"]} == {"bolt", "cap"}
    again = run(f"protocol.auxiliary=cells={places / 'cells'}", methods="toy_transfers", datasets=asked)
    assert "1 cells: 1 done" in again.out


def test_a_missing_auxiliary_set_is_named_as_such(run):
    done = run(methods="toy_transfers")
    assert done.code == 2
    assert "error: toy_transfers is fitted on an auxiliary data set, mvtec_ad. no data for 'mvtec_ad'" in done.err
    assert "protocol.auxiliary=NAME chooses another one; procedural_auxiliary needs no download." in done.err


def test_what_an_own_set_cannot_measure_is_said_before_the_run(run, places):
    shutil.rmtree(places / "parts" / "nut" / "test" / "good")
    shutil.rmtree(places / "cells" / "cap" / "ground_truth")
    done = run("--protocols", "zero_shot")
    assert done.code == 0
    for words in (
        "note: folder-parts/nut has no normal test images: image metrics are undefined, a dash in tables",
        "note: folder-cells/cap has no masks: pixel metrics are undefined, a dash in tables",
    ):
        assert words in done.out
        assert done.out.index(words) < done.out.index("ok     toy_mean")
    assert done.out.count("has no ") == 2


def test_a_test_image_among_the_shots_is_a_leak(run, places):
    for path in (places / "parts" / "nut" / "train" / "good").iterdir():
        shutil.copy(places / "parts" / "nut" / "test" / "good" / "000.png", path)
    assert run().code == 0
    table = pd.read_csv(places / "r" / "leaderboard.csv").set_index("dataset")
    assert table.loc["folder-parts", "status"].startswith("leak: 1 of 7 test images")
    assert table.loc["folder-cells", "status"] == "ok"


WRONG = {
    "visa={0}": r"cannot be named 'visa': `bench list datasets` has one of that name",
    "A B={0}": r"must be named by 1 to 40 of a-z, 0-9, _ and -.*got 'A B'",
    "../x={0}": r"must be named by 1 to 40 of a-z",
    "parts=": r"'parts=' \(command line\) must be NAME=PATH",
    "a={0},b={0}": r"a and b are one folder, .*: name it once",
    "a={0},a={1}": r"a \(command line\) names two folders",
    "a={0},a={0}": r"--datasets must name each one once",
    "a=/absent": r"no data for 'folder-a': looked at /absent",
}


@pytest.mark.parametrize("asked", WRONG)
def test_names_that_cannot_be(run, places, asked):
    done = run(datasets=asked.format(places / "parts", places / "cells"))
    assert done.code == 2
    assert re.search(WRONG[asked], done.err), done.err
    assert not (places / "r" / "cells").exists()


def test_facts_of_an_own_set_need_no_declaration():
    facts = registry.dataset("folder-anything")
    assert (facts.module, facts.folder_name) == (registry.dataset("folder").module, "anything")
