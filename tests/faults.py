"""A sweep under random kills and a bad disk: `make faults`, about a quarter hour for each executor.

The same command again and again: killed at random, driver or worker; on a disk that is full, in a folder that becomes
read-only; after a clock that was set back by a day. Then once to its end. What is asked: tables equal to an undisturbed
run's to the byte, no finished cell run twice, no torn record, no claim and no process left. Bad disks need Linux and
the right to mount; where that lacks, the line says so. Cells that crash, hang, leave or leak: `test_deaths.py`.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.support.twins import write_mvtec_ad

ROOT = Path(__file__).parents[1]
TABLES = ("results.csv", "leaderboard.csv", "leaderboard_by_category.csv", "leaderboard.md")
EXECUTORS = {
    "local": ["executor=local"],
    "pool": ["executor=pool", "executor.workers=2", "executor.retries=3"],
    "ray": ["executor=ray", "executor.cores=1", "executor.retries=3"],
}


def main() -> int:
    """Print a line for each executor; 1 if one broke a promise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--executors", default="local,pool,ray")
    arguments = parser.parse_args()
    broken = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_mvtec_ad(place / "mvtec_ad")
        finish(start(place, "undisturbed", EXECUTORS["local"]))
        for name in arguments.executors.split(","):
            dice, kills, runs = random.Random(name), Counter[str](), 0
            began = time.monotonic()
            while sum(kills.values()) < arguments.kills:
                process = start(place, name, EXECUTORS[name])
                runs += 1
                what = disturb(process, dice)
                kills[what] += 1
                finish(process)
                if not missing(place / name) and sum(kills.values()) < arguments.kills:
                    start_anew(place / name)
            runs += spoil_disk(place, name, kills)
            set_clock_back(place / name, kills)
            while finish(start(place, name, EXECUTORS[name])) != 0:
                runs += 1
            faults = look(place, name)
            broken += bool(faults)
            words = ", ".join(f"{count} {what}" for what, count in sorted(kills.items()))
            print(
                f"{name:<6} {words}; {runs} runs, {time.monotonic() - began:.0f} s: {faults or 'nothing lost'}",
                flush=True,
            )
    return 1 if broken else 0


def start(place: Path, name: str, words: list[str]) -> subprocess.Popen:
    """The sweep of 24 cells."""
    asked = ["--methods", "toy_mean", "--datasets", "mvtec_ad", "--categories", "bottle,metal_nut", "--shots", "1,2"]
    asked += ["--seeds", "0,1,2,3,4,5", "protocol.evaluation_size=24", "trainer.batch_size=2", "method.pause=0.1"]
    paths = os.pathsep.join([str(ROOT / "tests" / "plugin"), str(ROOT)])
    variables = {**os.environ, "PYTHONPATH": paths, "BENCH_DATA": str(place), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from benchmark.cli import main; main()", "run", *asked]
    command += ["--results", str(place / name), *words]
    return subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(process: subprocess.Popen) -> int:
    """The exit code of a sweep."""
    return process.wait(timeout=600)


def disturb(process: subprocess.Popen, dice: random.Random) -> str:
    """Kill the driver, or one of the processes that it started, at a random time; says which."""
    time.sleep(dice.uniform(4, 18))  # a sweep begins after some six seconds
    below = descendants(process.pid)
    if below and dice.random() < 0.5:
        victim, what = dice.choice(below), "kills of workers"
    else:
        victim, what = process.pid, "kills of the driver"
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return "kills too late"
    return what


def spoil_disk(place: Path, name: str, faults: Counter[str]) -> int:
    """Run on a disk that is full, then in a folder that becomes read-only halfway; how many runs that took."""
    folder, kept = place / name, place / f"{name}-kept"
    start_anew(folder)
    folder.rename(kept)
    folder.mkdir()
    if mount("-t", "tmpfs", "-o", f"size={size_of(kept) + 40_000}", "tmpfs", str(folder)):
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        faults["full disks"] += finish(start(place, name, EXECUTORS[name])) != 0
        mount("-o", "remount,size=100M", str(folder))
        process, before = start(place, name, EXECUTORS[name]), missing(folder)
        while missing(folder) == before and process.poll() is None:
            time.sleep(0.2)
        cells = str(folder / "cells")  # the folder itself holds an open lock, so that the kernel refuses
        mount("--bind", cells, cells)
        mount("-o", "remount,bind,ro", cells)
        faults["folders made read-only"] += finish(process) != 0
        subprocess.run(["umount", cells], check=True)
        shutil.rmtree(kept)
        shutil.copytree(folder, kept)
        subprocess.run(["umount", folder], check=True)
    else:
        faults["disks not tried: no right to mount"] += 1
    folder.rmdir()
    kept.rename(folder)
    return 2


def mount(*words: str) -> bool:
    """Whether the kernel does it."""
    return subprocess.run(["mount", *words], check=False, capture_output=True).returncode == 0


def size_of(folder: Path) -> int:
    """Bytes that a folder takes, by whole pages of memory."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


def set_clock_back(folder: Path, faults: Counter[str]) -> None:
    """Leave files a day in the future, as a clock that is set back does."""
    start_anew(folder)
    for path in folder.rglob("*"):
        os.utime(path, (time.time() + 86_400,) * 2)
    faults["clocks set back"] += 1


def descendants(pid: int) -> list[int]:
    """The processes below one, on Linux."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, todo = [], [pid]
    while todo:
        its = children.get(todo.pop(), [])
        found += its
        todo += its
    return found


def missing(folder: Path) -> int:
    """How many of the 24 cells have no success."""
    done = {path.parent.name for path in folder.glob("cells/*/attempt-*.json") if '"status": "ok"' in path.read_text()}
    return 24 - len(done)


def start_anew(folder: Path) -> None:
    """All cells are there and kills are left: remove some of the records."""
    for number, path in enumerate(sorted(folder.glob("cells/*/attempt-*.json"))):
        if number % 2:
            path.unlink()


def look(place: Path, name: str) -> str:
    """Which promises a folder breaks, in words; "" if none."""
    folder, whole = place / name, place / "undisturbed"
    found = [f"{each} differs" for each in TABLES if (folder / each).read_bytes() != (whole / each).read_bytes()]
    records = [json.loads(path.read_text()) for path in folder.glob("cells/*/attempt-*.json")]
    successes = Counter(record["cell_id"] for record in records if record["status"] == "ok")
    found += [f"{cell} ran {count} times" for cell, count in successes.items() if count > 1]
    found += [f"{path.name} is torn" for path in folder.rglob("*.corrupt")]
    found += [f"{path.name} is left" for pattern in ("*.started", ".tmp-*") for path in folder.rglob(pattern)]
    time.sleep(3)
    return "; ".join(found + [f"process {pid} is left" for pid in processes_of(place)])


def processes_of(place: Path) -> list[int]:
    """The processes whose environment names the data of this campaign, on Linux; this one's does not."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"BENCH_DATA={place}".encode() in environment.read_bytes():
                found.append(int(environment.parent.name))
        except OSError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
