"""W&B without a key: offline runs, one per cell and one for the leaderboard, read back with W&B's own reader."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.execution.loggers import resolve_wandb_mode
from benchmark.request.groups import LoggerSettings

WANDB = Path(sys.executable).with_name("wandb")


def inspect(run: Path, *options: str) -> str:
    done = subprocess.run(
        [WANDB, "leet", "inspect", *options, "--json", run], capture_output=True, text=True, check=True
    )
    return done.stdout


def read(run: Path) -> dict:
    """The summary of a run and what its opening record says of group and job type."""
    lines = [json.loads(line) for line in inspect(run).splitlines()]
    opening = next(line["run"] for line in lines if line["type"] == "run")
    return json.loads(inspect(run, "--summary")) | {name: opening[name] for name in ("job_type", "run_group")}


@pytest.fixture
def _no_key(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, "set so that monkeypatch removes what the code sets")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.slow
@pytest.mark.usefixtures("_no_key")
def test_one_run_per_cell_and_one_for_the_leaderboard(bench, data, cells, tmp_path):
    words = ("run", "--methods", "toy_mean,toy_breaks", "--shots", "1", "--seeds", "0", "logger=wandb")
    assert bench(*words, *cells, "--results", tmp_path / "r").code == 1  # toy_breaks fails for one category
    runs = [read(path) for path in sorted((tmp_path / "r").rglob("*.wandb"))]
    by_type = {kind: [run for run in runs if run["job_type"] == kind] for kind in ("cell", "leaderboard")}
    assert [len(by_type["cell"]), len(by_type["leaderboard"])] == [4, 1]
    assert len({run["run_group"] for run in runs}) == 1
    assert sorted(run["exit_code"] for run in by_type["cell"]) == [0, 0, 0, 1]
    good = next(run for run in by_type["cell"] if run["config"]["method"]["name"] == "toy_mean")
    assert good["summary"]["test/image_AUROC"] == 1.0
    assert {"toy_mean", "mvtec_ad", "shots:1", "protocol:few_shot"} <= set(good["tags"])
    assert "leaderboard" in by_type["leaderboard"][0]["summary"]


@pytest.mark.usefixtures("_no_key")
def test_the_mode_is_asked_or_found(monkeypatch):
    settings = LoggerSettings(name="wandb")
    assert resolve_wandb_mode(settings).mode == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve_wandb_mode(settings).mode == "disabled"
    assert resolve_wandb_mode(LoggerSettings(name="wandb", mode="online")).mode == "online"
    assert resolve_wandb_mode(LoggerSettings()).mode is None
