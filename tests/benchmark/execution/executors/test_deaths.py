"""A cell that takes its process with it, hangs or leaves is one failed record, whatever runs it; the sweep goes on."""

import json
import os
import re
import signal
import time

import pytest

from benchmark.records import claims

RUN = ("run", "--methods", "toy_breaks", "--shots", "1", "--seeds", "0")
POOL = ("executor=pool", "executor.workers=2")
ASIDE = {
    "pool": (*POOL, "executor.retries=0"),
    "ray": ("executor=ray", "executor.retries=0", "executor.cores=1"),
    "cold ray": ("executor=ray", "executor.retries=0", "executor.cores=1", "ray.warm=false"),
}
DEATHS = {
    "segfault": "ended by SIGSEGV",
    "abort": "ended by SIGABRT",
    "killed": "ended by SIGKILL, perhaps by the kernel for want of memory",
    "hard exit": "ended by itself with exit code 3",
    "exit": "the method leaves",
    "hang": "it ran longer than executor.timeout=30 s and was ended.",
    "leak": "",
}
TYPES = {"exit": "SystemExit", "leak": "MemoryError", "hang": "TimeoutError"}
TABLES = ("results.csv", "leaderboard.csv", "leaderboard_by_category.csv", "leaderboard.md")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]


def finish(process):
    out, _ = process.communicate(timeout=270)
    return process.returncode, out


def attempts(folder, category="metal_nut"):
    files = sorted(folder.glob(f"cells/*-{category}-*/attempt-*.json"))
    return [json.loads(path.read_text()) for path in files]


@pytest.fixture
def run(bench_process, data, cells, tmp_path):
    def call(*words, folder="r"):
        root = {"BENCH_DATA": str(data.parent), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        return finish(bench_process(*RUN, *words, *cells, "--results", tmp_path / folder, **root))

    return call


@pytest.fixture
def here(bench, data, cells, tmp_path):
    """As `run`, in this process."""

    def call(*words, folder="r"):
        done = bench(*RUN, *words, *cells, "--results", tmp_path / folder)
        return done.code, done.out

    return call


def variants(tmp_path, kinds):
    """A YAML that runs `toy_breaks` once for each way to end."""
    hows = {how.replace(" ", "_"): {"how": how} for how in kinds}
    (tmp_path / "ends.yaml").write_text(json.dumps({"variants": {"toy_breaks": hows}}))
    return ("--config", tmp_path / "ends.yaml")


def by_how(folder, category="metal_nut"):
    return {its["cell"]["settings"]["method"]["how"]: its for its in attempts(folder, category)}


@pytest.mark.campaign
@pytest.mark.parametrize(
    "hows",
    [("segfault", "hang"), ("abort", "killed", "hard exit", "exit", "leak")],
    ids=len,
)
def test_whatever_ends_a_worker_of_a_pool(run, tmp_path, hows):
    code, out = run(*variants(tmp_path, hows), "executor.timeout=30", *ASIDE["pool"])
    assert code == 1
    found = by_how(tmp_path / "r")
    assert found.keys() == {*hows}
    for how, record in found.items():
        assert record["status"] == "failed"
        assert record["error"]["type"] == TYPES.get(how, "ProcessDied")
        assert DEATHS[how] in record["error"]["message"]
        assert f"{record['cell_id']}/attempt-1.json" in out
    if "segfault" in hows:
        assert "Fatal Python error: Segmentation fault" in found["segfault"]["error"]["traceback"]
        assert "toy_breaks.py" in found["segfault"]["error"]["traceback"]
    assert [its["status"] for its in attempts(tmp_path / "r", "bottle")] == ["ok"] * len(hows)
    assert f"{len(hows)} cells failed:" in out
    assert not list((tmp_path / "r").glob("cells/*/*.started"))


@pytest.mark.campaign
@pytest.mark.parametrize("where", ["ray", "cold ray"])
def test_whatever_ends_a_task_of_ray(run, tmp_path, where):
    code, out = run(*variants(tmp_path, ["killed", "hang", "exit", "leak"]), "executor.timeout=45", *ASIDE[where])
    assert code == 1, out
    found = by_how(tmp_path / "r")
    assert found["killed"]["error"]["type"] == "ProcessDied"
    assert found["exit"]["error"]["type"] == "SystemExit"
    assert found["leak"]["error"]["type"] == "MemoryError"
    assert "longer than executor.timeout=45 s" in found["hang"]["error"]["message"]
    assert [its["status"] for its in attempts(tmp_path / "r", "bottle")] == ["ok"] * 4


def test_a_method_that_leaves_python_fails(here, tmp_path):
    assert here("method.how=exit")[0] == 1
    (record,) = attempts(tmp_path / "r")
    assert (record["status"], record["error"]["type"]) == ("failed", "SystemExit")
    assert record["error"]["message"] == "the method leaves"


def test_a_dead_worker_is_tried_again(run, tmp_path):
    run("method.how=killed", "executor=pool", "executor.workers=1", "executor.retries=1")
    assert [its["attempt"] for its in attempts(tmp_path / "r")] == [1, 2]


@pytest.mark.campaign
def test_a_cell_that_took_the_sweep_with_it_is_alone_at_the_next_run(run, tmp_path):
    code, _ = run("method.how=segfault")
    assert code == -signal.SIGSEGV
    assert [path.name for path in tmp_path.glob("r/cells/*-metal_nut-*/*")] != []
    assert attempts(tmp_path / "r") == []
    code, out = run("method.how=segfault", "executor.retries=0")
    assert code == 1, out
    first, second = attempts(tmp_path / "r")
    assert "has ended without a record: killed, out of memory, or crashed" in first["error"]["message"]
    assert "ended by SIGSEGV" in second["error"]["message"]
    assert not list((tmp_path / "r").glob("cells/*/*.started"))


def test_a_cell_that_was_killed_by_accident_succeeds_at_the_next_run(bench_process, run, data, cells, tmp_path):
    words = ("run", "--methods", "toy_mean", "--shots", "1", "--seeds", "0", "method.pause=1.0")
    root = {"BENCH_DATA": str(data.parent), "CUDA_VISIBLE_DEVICES": ""}
    process = bench_process(*words, *cells, "--results", tmp_path / "k", **root)
    while not list(tmp_path.glob("k/cells/*/*.started")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    code, out = finish(bench_process(*words, *cells, "--results", tmp_path / "k", **root))
    assert code == 0, out
    assert re.search(r"note: toy_mean-.*: process \d+ on .* has ended without a record", out)
    assert finish(bench_process(*words, *cells, "--results", tmp_path / "u", **root))[0] == 0
    for name in TABLES:
        assert (tmp_path / "k" / name).read_bytes() == (tmp_path / "u" / name).read_bytes()


def test_less_memory_than_the_batch_wants(here, tmp_path):
    code, out = here("method.how=memory", "trainer.batch_size=8")
    assert code == 0, out
    (record,) = attempts(tmp_path / "r")
    assert record["remarks"][-1] == "Out of memory: the test ran with 2 images per batch."
    assert here("method.how=raise", "method.category=none", "trainer.batch_size=2", folder="s")[0] == 0
    assert attempts(tmp_path / "s")[0]["metrics"] == record["metrics"]


@pytest.mark.parametrize(
    ("number", "where"),
    [
        (signal.SIGTERM, ()),
        (signal.SIGINT, POOL),
        pytest.param(signal.SIGINT, (), marks=pytest.mark.campaign),
        pytest.param(signal.SIGTERM, POOL, marks=pytest.mark.campaign),
    ],
)
def test_a_sweep_that_is_asked_to_stop(bench_process, data, cells, tmp_path, number, where):
    words = ("run", "--methods", "toy_mean", "--shots", "1", "--seeds", "0,1,2", "method.pause=1.0", *where)
    root = {"BENCH_DATA": str(data.parent), "CUDA_VISIBLE_DEVICES": ""}
    process = bench_process(*words, *cells, "trainer.batch_size=1", "--results", tmp_path / "r", **root)
    while not list(tmp_path.glob("r/cells/*/*.started")) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(1.0)
    os.kill(process.pid, number)
    code, out = finish(process)
    assert code == 130, out
    statuses = [its["status"] for category in ("bottle", "metal_nut") for its in attempts(tmp_path / "r", category)]
    assert statuses.count("interrupted") in (1, 2)
    assert not list((tmp_path / "r").glob("cells/*/*.started"))


def test_a_cell_that_another_process_runs_is_left_to_it(here, tmp_path):
    assert here("method.how=raise", "method.category=none")[0] == 0
    for path in (tmp_path / "r" / "cells").glob("*-bottle-*/attempt-1.json"):
        path.unlink()
        assert claims.take(path.with_suffix(".started"))
    code, out = here("method.how=raise", "method.category=none")
    assert code == 1, out
    assert attempts(tmp_path / "r", "bottle") == []
