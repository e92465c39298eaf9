"""What knowing every number's identity costs: a second run, a large plan, and the tables of a large sweep.

Promises: a second run over a finished folder of 1,000 cells on a data set of 5,000 images takes under 3 CPU seconds
with warm hashes, since it loads no torch; a plan of 40,000 cells under 20 s; rewriting tables under 1 % of a sweep's
time. Run as `python -m tests.perf.identity [--images 5000] [--cells 1000]`; whole processes, wall and CPU seconds.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.execution.content import Contents
from benchmark.execution.sweep import EVERY, SHARE
from benchmark.metrics.table import metric_names
from benchmark.records.leaderboard import write_tables
from benchmark.records.store import Record, Store
from benchmark.request.cell import Cell
from benchmark.request.merging import Layer
from benchmark.request.plan import make_plan
from benchmark.request.settings import compose

CATEGORIES = 10
SHOTS = (1, 2, 4, 8)
TABLES = (1_000, 5_000, 20_000)


def main() -> None:
    """Print each figure beside its promise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--cells", type=int, default=1_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["BENCH_CACHE"] = str(folder / "cache")
        second_run(folder, asked.images, asked.cells)
        large_plan(folder)
        tables(folder)


def second_run(folder: Path, images: int, cells: int) -> None:
    """Time `bench run` on a finished folder, hashes cold and warm."""
    write_images(folder / "parts", images)
    seeds = range(cells // CATEGORIES // len(SHOTS))
    words = ["--methods", "trivial_colour_knn", "--datasets", "folder", f"dataset.root={folder / 'parts'}"]
    words += ["--shots", ",".join(map(str, SHOTS)), "--seeds", ",".join(map(str, seeds))]
    finish(folder / "parts", folder / "results", seeds)
    for state in ("cold", "warm"):
        wall, cpu, out = timed("run", *words, "--results", folder / "results")
        done = next(line for line in out.splitlines() if " cells: " in line)
        print(f"second run, hashes {state}: {wall:.1f} s, {cpu:.1f} CPU s ({images} images, {done.partition(';')[0]})")
    print("  promised: under 3 CPU s warm")


def write_images(root: Path, images: int) -> None:
    """Ten categories in MVTec layout, half of each for training; about 12 kB an image."""
    rng = np.random.default_rng(0)
    for category in range(CATEGORIES):
        for number in range(images // CATEGORIES):
            split = "train/good" if number % 2 else "test/good" if number % 4 else "test/broken"
            path = root / f"part{category}" / split / f"{number:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(path, compress_level=0)


def finish(root: Path, results: Path, seeds: range) -> None:
    """A results folder in which every cell has a record; the numbers are made up, all else is real."""
    sweep = {"methods": ["trivial_colour_knn"], "datasets": ["folder"], "shots": list(SHOTS), "seeds": list(seeds)}
    settings = compose([Layer("perf", {"sweep": sweep, "dataset": {"folder": {"root": str(root)}}})])
    names = tuple(f"part{number}" for number in range(CATEGORIES))
    store, contents = Store(results), Contents({})
    for cell in make_plan(settings, {"folder": names}).cells:
        store.save(replace(made_up(cell), content=contents.of(cell)))


def made_up(cell: Cell) -> Record:
    """A record of `cell` with numbers that mean nothing."""
    values = {name: {"value": 0.5 + 0.001 * (cell.seed % 7), "reason": ""} for name in metric_names()}
    return Record(cell.id, 1, "ok", "perf", ["bench"], cell, "2026-01-01T00:00:00", comparison_id=f"{cell.shots}",
                  metrics=dict.fromkeys(cell.categories, values), counts={}, seconds={"test": 1.0})  # fmt: skip


def large_plan(folder: Path) -> None:
    """Time `bench run --dry-run` of 40,000 cells and more."""
    methods = "winclip,nearest_patch,trivial_colour_knn,trivial_pixel_difference,promptad"
    words = ["--methods", methods, "--datasets", "mvtec_ad,visa,procedural", "--protocols", "few_shot"]
    words += ["--shots", "1,2,4,8", "--seeds", ",".join(map(str, range(58))), "--results", str(folder / "none")]
    wall, cpu, out = timed("run", *words, "--dry-run")
    print(f"plan: {wall:.1f} s, {cpu:.1f} CPU s ({out.splitlines()[-1].partition(';')[0]}); promised: under 20 s")


def tables(folder: Path) -> None:
    """Time the rewriting of the tables and watch the memory of what they are made of."""
    sweep = {
        "methods": ["trivial_colour_knn"],
        "datasets": ["mvtec_ad", "visa"],
        "shots": [1],
        "seeds": list(range(750)),
    }
    cells = make_plan(compose([Layer("perf", {"sweep": sweep})]), {}).cells
    contents = Contents({"mvtec_ad": "", "visa": ""})
    store, before = Store(folder / "tables"), memory()
    for number, cell in enumerate(cells[: max(TABLES)], start=1):
        store.save(replace(made_up(cell), content=contents.of(cell)))
        if number in TABLES:
            grown, start = memory() - before, time.perf_counter()
            write_tables(folder / "tables", store.all_current())
            cost = time.perf_counter() - start
            pause = max(EVERY, cost / SHARE)
            print(
                f"tables of {number} cells: {cost:.2f} s every {pause:.0f} s, {100 * cost / (cost + pause):.2f} % of "
                f"the time (promised: under 1 %); {grown:.0f} MiB of records held"
            )


def memory() -> float:
    """Peak MiB of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def timed(*words: object) -> tuple[float, float, str]:
    """Wall and CPU seconds of `bench` in a process of its own, and what it printed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-c", "from benchmark.cli import main; main()", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr or done.stdout)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


if __name__ == "__main__":
    main()
