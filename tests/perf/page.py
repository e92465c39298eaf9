"""What a large page costs: 50 methods on 25 data sets, written, and opened in headless Chromium.

Promise: the page opens in under 1 s. Run as `python -m tests.perf.page [--methods 50] [--datasets 25] [--categories 10]
[--seeds 1]`; "opened" is the time from the request until the rows in sight are painted, the middle one of five.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmark.metrics.table import metric_names
from benchmark.records.page.write import write_page
from benchmark.records.store import Record

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from chromium import MISSING, browsing, chromium
from made_up_results import made_up, results

TIMES = 5
PAINTED = """() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(performance.now()))))"""


def main() -> None:
    """Print each figure beside its promise."""
    parser = argparse.ArgumentParser()
    for name, count in (("methods", 50), ("datasets", 25), ("categories", 10), ("seeds", 1)):
        parser.add_argument(f"--{name}", type=int, default=count)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        store, made = results(Path(place), records(asked.methods, asked.datasets, asked.categories, asked.seeds))
        start = time.perf_counter()
        page = write_page(store, made)
        first, start = time.perf_counter() - start, time.perf_counter()
        write_page(store, made)
        again = time.perf_counter() - start
        size = page.stat().st_size / 2**20
        print(f"page of {len(made.wide)} rows: {first:.1f} s to write, {again:.2f} s where it is there, {size:.1f} MiB")
        if chromium() is None:
            print(MISSING)
            return
        with browsing() as browser:
            opened = sorted(open_once(browser, page) for _ in range(TIMES))
        print(f"opened in {median(opened):.0f} ms, from {opened[0]:.0f} to {opened[-1]:.0f} (promised: under 1,000)")


def records(methods: int, datasets: int, categories: int, seeds: int) -> list[Record]:
    """A cell for each method, data set, category and seed."""
    rng = np.random.default_rng(0)
    return [
        made_up(f"method_{method:02}", f"data_set_{dataset:02}", (f"category_{category}",), seed=seed,
                values={name: float(rng.uniform(0.4, 1)) for name in metric_names()}, seconds=float(rng.uniform(1, 60)))
        for method in range(methods) for dataset in range(datasets)
        for category in range(categories) for seed in range(seeds)
    ]  # fmt: skip


def open_once(browser: object, page: Path) -> float:
    """Milliseconds from the request of a page to the painting of its first rows."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(page.as_uri(), wait_until="domcontentloaded")
    shown = float(tab.evaluate(PAINTED))
    tab.close()
    return shown


if __name__ == "__main__":
    main()
