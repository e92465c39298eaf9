"""kill -9 at any moment, then the same command: the same leaderboard as an undisturbed run."""

import os
import random
import signal
import time

import pytest

WORDS = (
    "run",
    "--methods",
    "toy_mean",
    "--shots",
    "1,2,4",
    "--seeds",
    "0,1",
    "method.pause=0.05",
    "trainer.batch_size=2",
)
TABLES = ("results.csv", "leaderboard.csv", "leaderboard_by_category.csv", "leaderboard.md")


def finish(process):
    out, _ = process.communicate(timeout=280)
    return process.returncode, out


def records(folder):
    return len(list(folder.glob("cells/*/attempt-*.json")))


def wait_for(folder, count, process):
    while records(folder) < count and process.poll() is None:
        time.sleep(0.01)


def survive(bench_process, data, cells, tmp_path, delays):
    root = {"BENCH_DATA": str(data.parent), "CUDA_VISIBLE_DEVICES": ""}
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    code, out = finish(bench_process(*WORDS, *cells, "--results", undisturbed, **root))
    assert code == 0, out
    for count, delay in delays:
        process = bench_process(*WORDS, *cells, "--results", killed, **root)
        wait_for(killed, count, process)
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert records(killed) < 12, "the kills came too late to disturb anything"
    code, out = finish(bench_process(*WORDS, *cells, "--results", killed, **root))
    assert code == 0, out
    for name in TABLES:
        assert (killed / name).read_bytes() == (undisturbed / name).read_bytes()
    assert not list(killed.rglob(".tmp-*"))


@pytest.mark.campaign
@pytest.mark.timeout(280)
def test_two_kills(bench_process, data, cells, tmp_path):
    survive(bench_process, data, cells, tmp_path, [(1, 0.0), (4, 0.07)])


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_many_kills(bench_process, data, cells, tmp_path):
    dice = random.Random(0)
    survive(bench_process, data, cells, tmp_path, [(count // 2, dice.uniform(0, 0.4)) for count in range(20)])
