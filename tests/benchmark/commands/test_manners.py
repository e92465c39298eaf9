"""How `bench` behaves towards shells, pipes and other programs."""

import importlib
import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pandas as pd
import pytest
from twins import write_mvtec_ad

from benchmark import cli
from benchmark.commands import listing, report
from benchmark.metrics.table import metric_names
from benchmark.records import leaderboard
from benchmark.records.store import Store
from benchmark.request import registry, version
from benchmark.request.settings import choices

ROOT = Path(__file__).parents[3]
PLUGIN = ROOT / "tests" / "plugin"
TWIN = ("--datasets", "mvtec_ad", "--categories", "bottle,metal_nut", "protocol.evaluation_size=24")
TOYS = ("--methods", "toy_mean,toy_breaks", "--shots", "1", "--seeds", "0", "method.toy_breaks.how=raise")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a twin's data, and `results` of a sweep one of whose methods fails."""
    place = tmp_path_factory.mktemp("manners")
    write_mvtec_ad(place / "data" / "mvtec_ad")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PLUGIN))
        importlib.invalidate_caches()
        registry._modules.cache_clear()
        registry._facts.cache_clear()
        patch.setenv("BENCH_DATA", str(place / "data"))
        patch.setattr(sys, "argv", ["bench", "run", *TOYS, *TWIN, "--results", str(place / "results")])
        with pytest.raises(SystemExit):
            cli.main()
    return place


@pytest.fixture
def results(place, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(place / "data"))
    return place / "results"


def sweep_of(results):
    (path,) = (results / "sweeps").glob("toy_mean-toy_breaks-*.json")
    return path


@pytest.mark.slow
def test_status_as_json_counts_what_the_words_count(bench, results):
    done = bench("status", results, "--json")
    told = json.loads(done.out)
    (sweep,) = told["sweeps"]
    counts = [sweep[key] for key in ("cells", "done", "failed", "missing", "running", "stale")]
    assert (done.code, done.err, counts) == (1, "", [4, 3, 1, 0, 0, 0])
    words = bench("status", results)
    assert words.code == 1
    assert f"{sweep['name']}: 3 done, 1 failed, 0 missing of 4" in words.out
    assert "go on with: bench run --methods" in words.out
    for failed in sweep["failed_cells"]:
        assert json.loads(Path(failed["record"]).read_text())["cell_id"] == failed["cell"]
        assert f"  failed {failed['cell']}: {failed['reason']}" in words.out


@pytest.mark.slow
def test_the_leaderboard_as_json_holds_each_number_as_it_was_measured(bench, results):
    rows = json.loads((done := bench("leaderboard", results, "--json")).out)
    assert (done.code, done.err) == (0, "")
    (row,) = [row for row in rows if (row["method"], row["kind"]) == ("toy_mean", "all")]
    records = [record for record in Store(results).all_current() if record.cell.method == "toy_mean"]
    for name in metric_names():
        values = [its[name]["value"] for record in records for its in record.metrics.values()]
        assert row[name] == sum(values) / len(values)
    assert row["image_AUROC_std"] is None  # of one seed
    assert json.loads(bench("leaderboard", results, "--format", "json").out) == rows
    assert bench("leaderboard", results, "--json", "--format", "csv").code == 2


@pytest.mark.slow
def test_notes_stand_beside_the_json_and_not_in_it(bench, results):
    path = next((results / "cells").glob("toy_mean*/attempt-1.json"))
    whole = path.read_text()
    path.write_text("{")
    try:
        done = bench("leaderboard", results, "--json")
        assert isinstance(json.loads(done.out), list)
        assert done.err == f"corrupt record: {path}\n"
        assert json.loads(bench("status", results, "--json").out)["corrupt"] == [str(path)]
    finally:
        path.write_text(whole)


@pytest.mark.slow
def test_a_quiet_run_prints_errors_and_where_its_files_are(bench, results, tmp_path):
    done = bench("run", *TOYS, *TWIN, "--results", tmp_path / "r", "--quiet")
    assert done.code == 1
    paths = done.out.splitlines()
    assert [Path(path).is_file() for path in paths] == [True] * len(paths)
    assert {"leaderboard.md", "leaderboard.html", "uncertainty.csv"} <= {Path(path).name for path in paths}
    assert "1 cells failed:" in done.err
    assert done.err.count("toy_breaks-mvtec_ad-few_shot-metal_nut") == 2  # the cell, and the path of its record
    assert bench("leaderboard", tmp_path / "r", "-q").out.splitlines() == paths


@pytest.mark.slow
def test_a_sweep_s_file_asks_for_its_cells_again(bench, results, tmp_path):
    file, before = sweep_of(results), {path: path.read_bytes() for path in (results / "cells").rglob("*.json")}
    copy = tmp_path / "copy-of.json"
    copy.write_text(file.read_text())
    cells = json.loads(file.read_text())["cells"]
    for config in (file, copy):
        out = bench("run", "--config", config, "--results", results, "--dry-run").out
        assert [line.split()[1] for line in out.splitlines() if line.startswith(("done", "failed"))] == cells
    done = bench("run", "--config", file, "--results", results, "--overwrite", "never")
    assert "3 done, 1 failed; 0 to run" in done.out
    assert {path: path.read_bytes() for path in (results / "cells").rglob("*.json")} == before
    assert [path.name for path in (results / "sweeps").glob("*.json")] == [file.name]
    out = bench("run", "--config", file, "--results", results, "--categories", "bottle", "--dry-run").out
    assert "2 cells: 2 done" in out
    out = bench("run", "--config", file, "--results", results, "--backbone", "vit_l_14_336", "--dry-run").out
    assert "4 cells: 4 missing" in out


def test_a_sweep_of_variants_of_an_own_set_and_of_a_chosen_file_is_the_same_again(bench, tmp_path, monkeypatch):
    from benchmark.commands.run import _write_request
    from benchmark.request.compose import AXES, plan, read_request

    write_mvtec_ad(tmp_path / "parts")
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    words = ["executor=pool", "executor.cores=1", "method.winclip.temperature=1e-05"]
    axes = dict.fromkeys(AXES) | {"methods": ["anople", "winclip"], "datasets": f"parts={tmp_path / 'parts'}"}
    axes |= {"methods": "anople,winclip", "shots": "1"}
    asked = read_request("anople-ablation", None, axes, "vit_l_14_336", 3, words)
    planned = plan(asked, data_needed=True)
    _write_request(tmp_path / "r", asked, planned, ["bench"])
    file = tmp_path / "r" / "sweeps" / f"{asked.sweep}.json"
    again = read_request(None, file, dict.fromkeys(AXES), None, None, [])
    assert again.sweep == asked.sweep
    assert [cell.id for cell in plan(again, data_needed=True).cells] == [cell.id for cell in planned.cells]
    assert again.settings.values == asked.settings.values
    assert len({cell.label for cell in planned.cells}) > 3
    other = read_request(None, file, dict.fromkeys(AXES), "embedded", None, ["executor=local"])
    assert (other.settings.backbone.image_size, other.settings.executor.name) == (None, "local")


def test_a_default_of_that_time_stays_where_it_is_another_one_today(bench, tmp_path):
    from benchmark.commands.run import _write_request
    from benchmark.request.compose import AXES, plan, read_request

    axes = dict.fromkeys(AXES) | {"methods": "winclip", "datasets": "procedural"}
    asked = read_request(None, None, axes, None, None, [])
    _write_request(tmp_path / "r", asked, plan(asked, data_needed=False), ["bench"])
    file = tmp_path / "r" / "sweeps" / f"{asked.sweep}.json"
    told = json.loads(file.read_text())
    assert told["origins"]["protocol.evaluation_size"] == "configs/base.yaml"
    told["settings"]["protocol"]["evaluation_size"] = 240
    told["settings"]["backbone"]["position_resize"] = "open_clip"
    file.write_text(json.dumps(told))
    again = read_request(None, file, dict.fromkeys(AXES), None, None, []).settings
    assert (again.protocol.evaluation_size, again.backbone.position_resize) == (240, "open_clip")
    assert again.origins["protocol.evaluation_size"] == str(file)
    assert again.origins["protocol.regions"] == "configs/base.yaml"


@pytest.mark.parametrize("settings", [3, {"sweep": 3}, {"variants": {"winclip": 3}}])
def test_a_damaged_sweep_s_file_is_refused(bench, tmp_path, settings):
    file = tmp_path / "s.json"
    file.write_text(json.dumps({"argv": [], "cells": [], "origins": {}, "settings": settings}))
    done = bench("run", "--config", file, "--results", tmp_path / "r")
    assert (done.code, done.out) == (2, "")
    assert str(file) in done.err
    assert done.err.count("\n") == 1


FOLDERS = [
    ("run", "--methods", "winclip", "--datasets", "procedural", "--results"),
    ("run", "--methods", "winclip", "--datasets", "procedural", "--dry-run", "--results"),
    ("status",),
    ("leaderboard",),
    ("rescore",),
    ("rescore", "results", "--output"),
    ("compare", "a", "b", "--results"),
    ("compare", "a"),
    ("published", "--results"),
    ("recertify",),
    ("doctor", "--results"),
]


@pytest.mark.parametrize("words", FOLDERS, ids=" ".join)
@pytest.mark.parametrize("folder", ["", " ", "file"])
def test_what_is_no_results_folder_is_refused_before_anything_runs(bench, tmp_path, monkeypatch, words, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    done = bench(*words, folder)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: a results folder must ")
    assert done.err.count("\n") == 1
    assert ("the file file" if folder == "file" else repr(folder)) in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_results_folder_that_cannot_be_written_is_refused_in_a_sentence(bench, results):
    done = bench("run", *TOYS, *TWIN, "--results", "/proc/nowhere/r")
    assert done.code == 2
    assert done.err.startswith("error: cannot write /proc/nowhere/r")
    assert done.err.count("\n") == 1


def test_an_option_that_is_said_twice_is_told_what_to_do(bench):
    assert "several values stand in one" in bench("run", "--methods", "a", "--methods", "b").err
    assert "keep one of the two" in bench("run", "--config", "a", "--config", "b").err


def test_the_costs_of_wide_tables_are_computed_once(bench, results, monkeypatch):
    calls = []
    for module in (leaderboard, report):
        real = module.cost_table
        monkeypatch.setattr(module, "cost_table", lambda *given, real=real: (calls.append(1), real(*given))[1])
    done = bench("leaderboard", results, "--wide")
    assert (done.code, len(calls)) == (0, 1)
    costs = pd.read_csv(results / "cost.csv")
    (row,) = [line.split() for line in done.out.splitlines() if "toy_mean" in line]
    (wanted,) = costs.loc[costs["method"] == "toy_mean", "fit_s"]
    assert f"{wanted:.1f}" in row


def test_the_version_is_that_of_the_code_that_runs(bench, tmp_path, monkeypatch):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(version, "version", absent)  # a checkout that nobody installed
    assert bench("--version").out == f"clip-ad-bench {declared}\n"
    monkeypatch.setattr(version, "version", lambda name: "9.9")
    assert version.suite_version() == declared  # beside an installation of another version
    monkeypatch.setattr(version, "ROOT", tmp_path)
    assert version.suite_version() == "9.9"  # an installation


def test_an_interrupt_ends_with_130_and_no_traceback(bench, monkeypatch):
    def interrupt(*given, **named):
        raise KeyboardInterrupt

    for module, name in ((listing, "print_list"), (cli, "app")):
        monkeypatch.setattr(module, name, interrupt)
        assert bench("list", "methods") == (130, "", "")


PROBE = """
import sys
from benchmark import cli
for words in {lines}:
    sys.argv = ["bench", *words]
    try:
        cli.main()
    except SystemExit as stop:
        assert stop.code in (None, 0, {code}), (words, stop.code)
    heavy = [name for name in {heavy} if name in sys.modules]
    assert not heavy, (words, heavy)
"""


def probe(tmp_path, lines, heavy, code=0):
    text = PROBE.format(lines=[[*map(str, line)] for line in lines], heavy=heavy, code=code)
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PLUGIN), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", text], env=variables, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_status_loads_neither_torch_nor_tables_and_version_and_completion_nothing_heavy(results, tmp_path):
    lines = [["--version"], ["list", "methods", "--json"], ["show", "method", "anople", "--json"]]
    lines += [["status", results], ["status", results, "--json"]]
    probe(tmp_path, lines, ("torch", "lightning", "pandas", "wandb", "open_clip", "scipy", "cv2"), code=1)


@pytest.mark.slow
def test_a_finished_sweep_runs_without_torch_in_whatever_words_it_is_asked_for(bench, results, tmp_path):
    import time

    time.sleep(2.1)  # what was touched a moment ago is not remembered
    toy = ["--methods", "toy_mean", "--shots", "1", "--seeds", "0", *TWIN, "--results", tmp_path / "r"]
    preset = ["run", "--preset", "smoke", *toy, "--protocols", "few_shot"]
    assert bench(*preset).code == 0
    (sweep,) = (tmp_path / "r" / "sweeps").glob("*.json")
    config = ["run", "--config", sweep, "--results", tmp_path / "r"]
    lines = [preset, ["run", *toy], [*preset, "--shard", "0/2"], config, [*config, "--dry-run"], [*config, "-q"]]
    out = probe(tmp_path, lines, ("torch", "lightning", "wandb", "open_clip"))
    assert out.count("2 cells: 2 done; 0 to run") == 3


def has_driver():
    from ctypes import CDLL

    try:
        return bool(CDLL("libcuda.so.1"))
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(has_driver(), reason="torch is loaded where there may be a GPU")
def test_the_doctor_loads_no_torch_where_it_could_see_no_gpu_and_no_clip_anywhere(tmp_path):
    out = probe(tmp_path, [["doctor"]], ("torch", "open_clip", "torchvision", "lightning", "pandas", "wandb", "scipy"))
    assert "no GPU: " in out


def test_why_there_is_no_gpu_agrees_with_torch(monkeypatch, tmp_path):
    import torch

    from benchmark.commands import doctor

    why = doctor.why_no_gpu()
    assert not (why and torch.cuda.is_available())
    assert (torch.version.cuda or "CPU alone") in why or not why

    def built(text):
        (tmp_path / "version.py").write_text(text)
        spec = doctor.find_spec("torch")
        monkeypatch.setattr(spec, "origin", str(tmp_path / "__init__.py"))
        monkeypatch.setattr(doctor, "find_spec", lambda name: spec)
        return doctor.why_no_gpu()

    def absent(name):
        raise OSError(name)

    monkeypatch.setattr(doctor, "CDLL", absent)
    assert built("cuda: Optional[str] = None\nhip: Optional[str] = None\n") == "this torch is built for the CPU alone"
    assert "CUDA 12.4, and this machine has no driver" in built("cuda: Optional[str] = '12.4'\nhip = None\n")
    assert built("cuda = None\nhip: Optional[str] = '6.2'\n") == ""
    assert built("") == ""
    monkeypatch.setattr(doctor, "CDLL", lambda name: name)
    assert built("cuda = '12.4'\nhip = None\n") == ""


@pytest.mark.slow
def test_where_the_doctor_looks_for_weights_is_where_open_clip_does():
    import open_clip

    from benchmark.commands import doctor
    from benchmark.request.groups import BackboneSettings

    for (name, tag), hub in doctor.HUBS.items():
        assert open_clip.get_pretrained_cfg(name, tag)["hf_hub"].rstrip("/") == hub
    assert doctor._hub(BackboneSettings(name="ViT-B-32", pretrained="openai")).startswith("timm/")
    assert {its.partition("/")[0] for its in choices("backbone")} >= {"vit_b_16_plus_240", "vit_l_14_336"}


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])  # what is said is lost at the end, or at once
@pytest.mark.parametrize("words", [("list", "methods"), ("--help",)], ids=" ".join)
def test_a_pipe_that_nobody_reads_ends_it_without_a_word(tmp_path, words, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "benchmark", *words]
    done = subprocess.run(command, env=variables, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")
