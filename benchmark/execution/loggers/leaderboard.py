"""One W&B run per sweep that holds its tables, written offline first, so that no service can hold up a sweep."""

import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.execution.loggers import reach
from benchmark.execution.loggers.wandb_run import in_folder, quiet
from benchmark.records.leaderboard import FILES
from benchmark.request.groups import LoggerSettings

TABLES = ("leaderboard", "leaderboard_by_category")
PAGE = "leaderboard.html"
LIMIT = 8.0  # seconds that all of it may take, a service that hangs included


def log_leaderboard(settings: LoggerSettings, folder: Path, sweep: str) -> str:
    """Tell W&B the tables of a results folder; whatever happens, the sweep goes on.

    Args:
        settings: with the mode decided.
        folder: of the results, its tables written.
        sweep: whose run it is; a later end of the same sweep goes on with the same run.

    Returns:
        why the service does not have it, in one sentence, or "".
    """
    if settings.mode == "disabled":
        return ""
    end = time.monotonic() + LIMIT
    try:
        run = _write(settings, folder, sweep)
        if settings.mode == "offline":
            return ""
        why = reach.ask() or ("" if _uploaded(run, folder, end) else f"did not take the leaderboard in {LIMIT:g} s")
    except Exception as error:  # noqa: BLE001  (a dashboard is no reason to lose a sweep's exit code)
        return f"W&B has no leaderboard of this sweep ({type(error).__name__}: {error})."
    return f"W&B {why}: `wandb sync {shlex.quote(str(run))}` uploads it later." if why else ""


def _write(settings: LoggerSettings, folder: Path, sweep: str) -> Path:
    """The folder of an offline run with the tables and, as an artifact, the files."""
    import wandb  # noqa: PLC0415

    name = re.sub(r"[^\w.-]", "-", f"leaderboard-{sweep}")
    with wandb.init(
        project=settings.project,
        entity=settings.entity,
        id=name,
        group=sweep,
        job_type="leaderboard",
        name=f"leaderboard {sweep}",
        dir=in_folder(folder),
        mode="offline",
        settings=quiet(),
    ) as run:
        run.log({table: _table(folder / f"{table}.csv") for table in TABLES})
        files = wandb.Artifact(name, type="leaderboard")
        for path in (folder / file for file in (*FILES, PAGE)):
            if path.is_file():
                files.add_file(str(path))
        run.log_artifact(files)
    return Path(run.dir).parent.absolute()


def _table(path: Path) -> Any:
    import wandb  # noqa: PLC0415

    table = pd.read_csv(path)
    return wandb.Table(dataframe=table.astype(object).where(table.notna(), None))


def _uploaded(run: Path, folder: Path, end: float) -> bool:
    """Whether `wandb sync` has uploaded a run before `end` of the monotonic clock; what it logs lies in `folder`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "wandb", "sync", str(run)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return process.wait(max(0.0, end - time.monotonic())) == 0 and any(run.glob("*.wandb.synced"))
    except subprocess.TimeoutExpired:
        return False
    finally:
        if process.poll() is None:
            process.kill()  # its helper ends when it is gone
            process.wait()
