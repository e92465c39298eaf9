"""After a refactoring a few cells vouch for all; after a change of numbers none does."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmark.metrics import table
from benchmark.request import code, inputs, registry

pytestmark = pytest.mark.slow

PLUGIN = Path(__file__).parents[2] / "plugin"


@pytest.fixture
def method(tmp_path, monkeypatch):
    """The file of a third party's method that the test may edit; `refresh` makes this process see it."""
    shutil.copytree(PLUGIN, tmp_path / "plugin", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(PLUGIN)])
    monkeypatch.syspath_prepend(str(tmp_path / "plugin"))
    refresh()
    yield tmp_path / "plugin" / "toy_methods" / "toy_mean.py"
    monkeypatch.undo()
    refresh()


def refresh():
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy_methods"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    for cached in (
        code._closure,
        code._read,
        code._digest,
        code._homes,
        inputs._code,
        registry._modules,
        registry._facts,
    ):
        cached.cache_clear()


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    refresh()


@pytest.fixture
def run(bench, method, data, cells, tmp_path):
    words = ("run", "--methods", "toy_mean", "--shots", "1,2", "--seeds", "0,1", *cells)

    def call(*more):
        return bench(*words, *more, "--results", tmp_path / "r")

    assert call().code == 0
    return call


def records(folder):
    made = [json.loads(path.read_text()) for path in sorted(folder.glob("cells/*/attempt-*.json"))]
    return sorted(made, key=lambda record: record["started"])


def tables(folder):
    """The leaderboard, and the codes of what it was made of."""
    return (folder / "leaderboard.csv").read_text(), set(pd.read_csv(folder / "results.csv")["code"])


def test_equal_numbers_adopt_the_rest_and_say_so(run, bench, method, tmp_path):
    before, code_before = tables(tmp_path / "r")
    edit(method, "distance.amax(dim=(1, 2))", "distance.flatten(1).amax(dim=1)")
    assert "8 stale" in run("--dry-run").out
    done = bench("recertify", tmp_path / "r", "--cells", "2")
    assert done.code == 0, done
    assert "2 cells measured again, 6 adopted" in done.out
    assert "8 done; 0 to run" in run().out
    made = records(tmp_path / "r")
    assert len(made) == 16
    again = [record for record in made if record["attempt"] == 2 and not record["adopted"]]
    adopted = [record for record in made if record["adopted"]]
    assert (len(again), len(adopted)) == (2, 6)
    for record in adopted:
        (old,) = [r for r in made if (r["cell_id"], r["attempt"]) == (record["cell_id"], 1)]
        assert record["metrics"] == old["metrics"]
        said = record["adopted"]
        assert sorted(said["remeasured"]) == sorted(r["cell_id"] for r in again)
        assert (said["attempt"], said["measured"]) == (1, old["started"])
        assert said["old_code"] == code.hash_code(old["content"]["code"]) != said["new_code"]
        assert said["new_code"] == code.hash_code(record["content"]["code"])
    after, code_after = tables(tmp_path / "r")
    assert before == after
    assert len({*code_before, *code_after}) == 2


def test_one_other_digit_adopts_nothing_and_names_the_cell(run, bench, method, tmp_path):
    edit(
        method,
        "return Prediction(distance.amax(dim=(1, 2)), distance)",
        "return Prediction(-distance.amax(dim=(1, 2)), distance)",
    )
    done = bench("recertify", tmp_path / "r", "--cells", "3")
    assert done.code == 1
    assert "nothing adopted: toy_mean-mvtec_ad-few_shot-" in done.out
    assert "has image_AUROC" in done.out
    assert len(records(tmp_path / "r")) == 8
    assert "8 stale" in run("--dry-run").out


def test_a_metric_that_one_suite_alone_knows_is_named_and_hinders_nothing(run, bench, method, tmp_path, monkeypatch):
    edit(method, "distance.amax(dim=(1, 2))", "distance.flatten(1).amax(dim=1)")
    line = table.Metric("image_New", "image", lambda ranking: 1 / ranking.normals, table.IMAGES)
    kept = tuple(line for line in table.TABLE if line.name != "pixel_AUPRO")
    monkeypatch.setattr(table, "TABLE", (*kept, line))
    done = bench("recertify", tmp_path / "r", "--cells", "2")
    assert done.code == 0, done
    assert "not compared, known to the older or to the newer code alone: image_New, pixel_AUPRO" in done.out
    long = pd.read_csv(tmp_path / "r" / "results.csv")
    assert (long.loc[long["metric"] == "image_New", "status"] == "not measured").sum() == 6
    assert (long["metric"] == "pixel_AUPRO").sum() == 6


def test_a_record_that_shares_no_metric_vouches_for_nothing(run, bench, method, tmp_path, monkeypatch):
    edit(method, "distance.amax(dim=(1, 2))", "distance.flatten(1).amax(dim=1)")
    line = table.Metric("image_New", "image", lambda ranking: 1 / ranking.normals, table.IMAGES)
    monkeypatch.setattr(table, "TABLE", (line,))
    monkeypatch.setattr("benchmark.commands.recertify.write_tables", None)
    done = bench("recertify", tmp_path / "r", "--cells", "1")
    assert done.code == 1
    assert "has no metric in common with its record" in done.out


def test_a_cell_that_fails_adopts_nothing(run, bench, method, tmp_path):
    edit(method, "        time.sleep(self.config.pause)", "        raise RuntimeError('gone')")
    done = bench("recertify", tmp_path / "r")
    assert done.code == 1
    assert "is failed: RuntimeError: gone" in done.out
    assert len(records(tmp_path / "r")) == 8


def test_changed_data_are_never_adopted(run, bench, method, data, tmp_path):
    edit(method, "distance.amax(dim=(1, 2))", "distance.flatten(1).amax(dim=1)")
    next((data / "bottle" / "test" / "good").iterdir()).unlink()
    assert bench("recertify", tmp_path / "r").code == 0
    assert {r["cell"]["categories"][0] for r in records(tmp_path / "r") if r["attempt"] == 2} == {"metal_nut"}
    out = run("--dry-run").out
    assert "4 done, 4 stale" in out


def test_records_of_a_plug_in_that_is_gone_hinder_nobody(run, bench, method, tmp_path):
    edit(method, "distance.amax(dim=(1, 2))", "distance.flatten(1).amax(dim=1)")
    points = tmp_path / "plugin" / "toy_methods-1.0.dist-info" / "entry_points.txt"
    edit(points, "toy_mean = toy_methods.toy_mean\n", "")
    done = bench("recertify", tmp_path / "r")
    assert (done.code, "nothing to recertify" in done.out) == (0, True)
    assert bench("leaderboard", tmp_path / "r").code == 0


def test_nothing_stale_is_nothing_to_do_and_a_strange_folder_is_refused(run, bench, tmp_path):
    done = bench("recertify", tmp_path / "r")
    assert (done.code, "nothing to recertify" in done.out) == (0, True)
    assert bench("recertify", tmp_path / "nowhere").code == 2
    assert bench("recertify", tmp_path / "r", "--cells", "0").code == 2
