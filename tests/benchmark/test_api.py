"""`benchmark.run` and `benchmark.leaderboard` do what the command does, as a script or a notebook expects it."""

import io
import json
import os
import random
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import benchmark
from benchmark.api import _words
from benchmark.records.store import Store, StoreError

ROOT = Path(__file__).parents[2]
SIZE = {"protocol": {"evaluation_size": 24}}


@pytest.fixture
def ask(data, tmp_path):
    """Ask for cells of the twin, in a folder of the test's own."""

    def call(methods="toy_mean", **arguments):
        asked = {"categories": ["bottle"], "shots": 1, "seeds": 0, "settings": SIZE, "results": str(tmp_path / "r")}
        return benchmark.run(methods, f"parts={data}", **asked | arguments)

    return call


def test_the_frame_is_the_leaderboard_of_the_command(ask, bench, data, cells, tmp_path):
    frame = ask("toy_mean,toy_learns", categories=["bottle", "metal_nut"], seeds=range(2), results=tmp_path / "api")
    asked = (
        "--methods",
        "toy_mean,toy_learns",
        "--datasets",
        f"parts={data}",
        *cells[2:],
        "--shots",
        "1",
        "--seeds",
        "0,1",
    )
    assert bench("run", *asked, "--results", tmp_path / "cli").code == 0
    written = pd.read_csv(io.StringIO(frame.to_csv(index=False)))  # an empty text is nothing there
    pd.testing.assert_frame_equal(written, pd.read_csv(tmp_path / "cli/leaderboard.csv"), check_dtype=False, atol=1e-6)
    ids = [sorted(path.name for path in (tmp_path / name / "cells").iterdir()) for name in ("api", "cli")]
    assert ids[0] == ids[1]
    assert (tmp_path / "api/leaderboard.html").is_file()
    assert frame.attrs == {"results": str(tmp_path / "api"), "failed": []}
    assert frame["image_AUROC"].dtype == float


def test_a_call_returns_what_it_asked_for_and_leaderboard_the_whole_folder(ask, tmp_path):
    first, second = ask(), ask(["toy_learns"], overwrite="never")
    assert (list(first["method"]), list(second["method"])) == (["toy_mean"], ["toy_learns"])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "r").rglob("*")}
    whole = benchmark.leaderboard(tmp_path / "r", metrics=["image_AUROC"], costs=True)
    assert sorted(whole["method"]) == ["toy_learns", "toy_mean"]
    assert "pixel_AUROC" not in whole
    assert whole["images_per_s"].notna().all()
    by_category = benchmark.leaderboard(str(tmp_path / "r"), by_category=True)
    assert list(by_category["category"]) == ["bottle", "bottle"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "r").rglob("*")} == before


def test_a_second_call_runs_nothing_and_the_words_go_on_in_a_shell(ask, bench, tmp_path):
    ask()
    ask()
    (record,) = (tmp_path / "r").glob("cells/*/attempt-*.json")
    argv = json.loads(record.read_text())["argv"]
    assert argv[:2] == ["bench", "run"]
    done = bench(*argv[1:])
    assert (done.code, "1 cells: 1 done; 0 to run" in done.out) == (0, True)


def test_some_that_fail_are_a_warning_and_none_that_is_there_an_error(ask, tmp_path):
    breaks = {"method.toy_breaks.category": "bottle", "method.toy_breaks.how": "raise", **SIZE}
    with pytest.warns(
        RuntimeWarning, match=r"1 requested cells .*\n.*RuntimeError: broken on purpose .*attempt-1"
    ) as said:
        frame = ask(["toy_mean", "toy_breaks"], settings=breaks)
    assert said[0].filename == __file__
    (failed,) = frame.attrs["failed"]
    assert (failed.status, failed.reason) == ("failed", "RuntimeError: broken on purpose")
    assert "broken on purpose" in Path(failed.record).read_text()
    rows = frame.set_index(frame["method"].str.partition("(")[0])
    assert rows.loc["toy_mean", "status"] == "ok"
    assert rows.loc["toy_breaks", "status"].startswith("partial: 0 of 1")
    assert np.isnan(rows.loc["toy_breaks", "image_AUROC"])
    with pytest.raises(benchmark.CellsFailed, match="broken on purpose") as caught:
        ask("toy_breaks", settings=breaks)
    assert [its.cell for its in caught.value.failed] == [failed.cell]
    assert isinstance(caught.value, benchmark.UserError)
    with pytest.raises(benchmark.CellsFailed, match="it was not run"):
        ask("toy_breaks,toy_mean", settings=breaks, fail_fast=True, results=tmp_path / "fast")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"methods": "toy_maen"}, "unknown method 'toy_maen'. Did you mean 'toy_mean'?"),
        ({"shots": "one"}, "--shots must be whole numbers like 1,2,4; got 'one'."),
        ({"settings": {"protocol": {"evaluation_sise": 1}}}, "evaluation_sise"),
        ({"settings": ["protocol"]}, "expected key=value, got 'protocol'."),
        ({"settings": "protocol.evaluation_size=24"}, "settings must be a mapping or a list of key=value words"),
        ({"settings": {"protocol.evaluation_size": object()}}, "protocol.evaluation_size must be a number, a text"),
        ({"overwrite": "sometimes"}, "unknown overwrite 'sometimes'. Allowed: never, failed, always."),
        ({"categories": ["bottle,nut"]}, "a value of a list must hold no comma, got 'bottle,nut'."),
        ({"config": "absent.yaml"}, "no configuration file absent.yaml."),
        ({"categories": "tile_"}, "tile_"),
    ],
)
def test_what_is_wrong_is_an_exception_and_nothing_is_written(ask, capfd, tmp_path, arguments, why):
    with pytest.raises(benchmark.UserError) as caught:
        ask(**arguments)
    assert why in str(caught.value)
    assert not (tmp_path / "r").exists()
    assert capfd.readouterr() == ("", "")


def test_a_folder_without_records_and_an_unknown_metric(tmp_path):
    with pytest.raises(benchmark.UserError, match="is not a results folder"):
        benchmark.leaderboard(tmp_path)
    with pytest.raises(benchmark.UserError, match="unknown metric 'AUROC'"):
        benchmark.leaderboard(tmp_path, metrics="AUROC")


def test_it_prints_progress_to_stderr_or_nothing_and_leaves_the_process_as_it_was(ask, capfd):
    filters, errors, program = list(warnings.filters), sys.stdout.errors, dict(vars(sys.modules["__main__"]))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    drawn = random.random(), np.random.rand(), float(torch.rand(()))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    ask(progress=False)
    assert capfd.readouterr() == ("", "")
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == drawn
    assert (warnings.filters, sys.stdout.errors) == (filters, errors)
    assert vars(sys.modules["__main__"]) == program
    ask(seeds=1)
    out, err = capfd.readouterr()
    assert out == ""
    assert "ok     toy_mean folder-parts/bottle few_shot k=1 seed=1" in err


def test_an_interrupt_is_one_and_the_same_call_goes_on(ask):
    breaks = {"method.toy_breaks.category": "bottle", "method.toy_breaks.how": "interrupt", **SIZE}
    with pytest.raises(KeyboardInterrupt):
        ask("toy_breaks,toy_mean", settings=breaks)
    assert list(ask("toy_mean")["status"]) == ["ok"]


def test_a_second_interrupt_leaves_an_interactive_session_alive(monkeypatch):
    from benchmark.execution import stopping

    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    monkeypatch.setattr(stopping.os, "kill", lambda *_: pytest.fail("the session ends"))
    with stopping.stoppable():
        stopping._ask(2, None)
        with pytest.raises(KeyboardInterrupt):
            stopping._ask(2, None)


def test_a_record_that_cannot_be_written_is_an_error_and_exit_code_1(ask, bench, data, tmp_path, monkeypatch):
    def full(self, record):
        raise StoreError("the disk is full.")

    monkeypatch.setattr(Store, "save", full)
    with pytest.raises(benchmark.UserError, match=r"the disk is full\. Make room, then run the same command"):
        ask()
    asked = ("--methods", "toy_mean", "--datasets", f"parts={data}", "--categories", "bottle", "--shots", "1")
    done = bench("run", *asked, "--seeds", "0", "--results", tmp_path / "other")
    assert (done.code, "error: the disk is full. Make room, then" in done.out) == (1, True)


def test_it_runs_in_a_thread_that_may_not_handle_signals(ask):
    found = []
    thread = threading.Thread(target=lambda: found.append(ask()))
    thread.start()
    thread.join()
    assert list(found[0]["status"]) == ["ok"]


def test_settings_are_words():
    mapping = {
        "trainer": {"batch_size": np.int64(3), "accelerator": "cpu"},
        "method.toy_mean.scale": 1e-05,
        "method": {"toy_mean": {"sides": (1, 2), "kind": "a b: ü"}},
        "dataset.mvtec_ad.root": Path("/a b"),
        "protocol.auxiliary": None,
        "features.enabled": True,
        "backbone": "embedded",
    }
    assert _words(mapping) == [
        "trainer.batch_size=3",
        'trainer.accelerator="cpu"',
        "method.toy_mean.scale=1e-05",
        "method.toy_mean.sides=[1, 2]",
        'method.toy_mean.kind="a b: ü"',
        'dataset.mvtec_ad.root="/a b"',
        "protocol.auxiliary=null",
        "features.enabled=true",
        'backbone="embedded"',
    ]


SCRIPT = """
import sys
print("begins")
import benchmark
assert not {"torch", "pandas", "numpy", "lightning", "rich"} & {*sys.modules}, sorted(sys.modules)
assert {"run", "leaderboard"} <= {*dir(benchmark)}
try:
    benchmark.runs
except AttributeError as error:
    print(error)
settings = {"protocol.evaluation_size": 24, "executor": "pool"}
asked = {"categories": "bottle", "shots": 1, "seeds": 0, "settings": settings}
frame = benchmark.run("toy_mean", "parts=data/mvtec_ad", **asked, progress=False)
print(*frame["status"], frame.attrs["results"], __file__)
"""


@pytest.mark.campaign
def test_a_script_without_a_guard_also_with_processes_of_its_own(data, tmp_path):
    """Importing the suite loads nothing heavy, and a process that is spawned does not run the script again."""
    (tmp_path / "script.py").write_text(SCRIPT)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "plugin")])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = [
        "begins",
        "module 'benchmark' has no attribute 'runs'; it offers Detector, run, leaderboard, CellsFailed, UserError.",
    ]
    assert done.stdout.splitlines() == [*lines, f"ok results/main {tmp_path / 'script.py'}"], done.stderr
    assert done.stderr == ""
