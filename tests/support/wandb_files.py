"""Runs of W&B on disk, read back with W&B's own reader."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

WANDB = Path(sys.executable).with_name("wandb")


def inspect(run: Path, *options: str) -> str:
    done = subprocess.run(
        [WANDB, "leet", "inspect", *options, "--json", run], capture_output=True, text=True, check=True
    )
    return done.stdout


def read(run: Path) -> dict[str, Any]:
    """The summary of a run, group and job type of its opening record, its history, and where its files lie."""
    lines = [json.loads(line) for line in inspect(run).splitlines()]
    opening = next(line["run"] for line in lines if line["type"] == "run")
    history = [line["history"]["item"] for line in lines if line["type"] == "history"]
    more = {"history": history, "files": run.parent / "files", "lines": lines}
    return json.loads(inspect(run, "--summary")) | {name: opening[name] for name in ("job_type", "run_group")} | more


def runs(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Every offline run below a results folder by its job type, the oldest first."""
    found = [read(path) for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]
    return {kind: [run for run in found if run["job_type"] == kind] for kind in ("cell", "leaderboard")}


def table(run: dict[str, Any], key: str) -> dict[str, Any]:
    """The columns and rows of a table that a run has logged."""
    return json.loads((run["files"] / run["summary"][key]["path"]).read_text())
