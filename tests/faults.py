"""A sweep under random kills: `make faults`, some minutes for each executor.

The same command again and again, killed at random, driver or worker; then once to its end. What is asked: tables equal
to an undisturbed run's to the byte, no finished cell run twice, no torn record, no claim and no process left.
"""

import argparse
import json
import os
import random
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
            while finish(start(place, name, EXECUTORS[name])) != 0:
                runs += 1
            faults = look(place, name)
            broken += bool(faults)
            words = ", ".join(f"{count} of the {what}" for what, count in sorted(kills.items()))
            print(
                f"{name:<6} kills: {words}; {runs} runs, {time.monotonic() - began:.0f} s: {faults or 'nothing lost'}",
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
        victim, what = dice.choice(below), "workers"
    else:
        victim, what = process.pid, "driver"
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return "dead"
    return what


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
