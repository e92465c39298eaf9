"""Eight nodes of eight GPUs, imagined by Ray on this machine: `python -m tests.perf.cluster`, about a quarter hour.

2,000 cells of random length are placed by the real driver, whose memory is watched; then 400 while nodes are killed.
Cells wait instead of computing. Promises: 90 % of the GPUs' time is filled, the driver's memory grows by what records
take and no more, and a node that is killed loses nothing.
"""

import argparse
import contextlib
import io
import os
import pickle
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NODES, GPUS = 8, 8
SHORTEST, LONGEST = 5.0, 20.0  # seconds of a cell
EVERY = 250  # cells between two looks at the driver's memory


class _LightJob:
    """What a job becomes where nothing of ours is loaded but plain data."""


class _Light(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _LightJob if module == "benchmark.execution.attempt" else super().find_class(module, name)


class Sleeper:
    """Stands in the place of `remote.Runner`: 64 processes that load torch do not fit this machine."""

    def run(self, job: bytes, threads: int) -> bytes:
        from benchmark.metrics.table import metric_names
        from benchmark.records.store import Record

        its: Any = _Light(io.BytesIO(job)).load()
        seconds = random.Random(its.cell.id).uniform(SHORTEST, LONGEST)
        time.sleep(seconds)
        values = {name: {"value": 0.5, "reason": ""} for name in metric_names()}
        record = Record(its.cell.id, its.number, "ok", its.sweep, list(its.argv), its.cell, "2026-01-01T00:00:00",
                        metrics=dict.fromkeys(its.cell.categories, values), seconds={"test": seconds})  # fmt: skip
        return pickle.dumps(record)


def main() -> None:
    """Print what was filled, what the driver took, and what a killed node lost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=2_000)
    parser.add_argument("--killed-cells", type=int, default=400)
    parser.add_argument("--kills", type=int, default=4)
    asked = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    from benchmark.execution.executors import remote

    remote.Runner = Sleeper  # type: ignore[misc,assignment]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=GPUS, num_gpus=GPUS) for _ in range(NODES)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            fill(cluster, Path(folder) / "a", asked.cells)
            kill(cluster, nodes, Path(folder) / "b", asked.killed_cells, asked.kills)
    finally:
        cluster.shutdown()


def fill(cluster: Any, folder: Path, count: int) -> None:
    """Place cells and watch."""
    seen: list[tuple[int, float]] = []
    done = Counter[str]()

    def look(*_: object) -> None:
        done["cells"] += 1
        if done["cells"] % EVERY == 0:
            seen.append((done["cells"], resident()))

    spent, records = sweep(cluster, folder, count, look)
    busy = sum(record.seconds["test"] for record in records)
    print(
        f"{len(records)} cells on {NODES} x {GPUS} GPUs: {spent:.0f} s, {busy / spent / NODES / GPUS:.1%} of the GPUs' "
        f"time is filled (promised 90 %)",
        flush=True,
    )
    print("memory of the driver after cells: " + ", ".join(f"{cells}: {mib:.0f} MiB" for cells, mib in seen))


def kill(cluster: Any, nodes: Sequence[Any], folder: Path, count: int, kills: int) -> None:
    """Kill a node each time that so many cells have ended, and let another one come."""
    alive, dice, statuses = list(nodes), random.Random(0), Counter[str]()
    due = sorted(dice.sample(range(1, count), kills))

    def strike(_: object, record: Any) -> None:
        statuses[record.status] += 1
        if due and statuses.total() >= due[0]:
            del due[0]
            cluster.remove_node(alive.pop(dice.randrange(len(alive))), allow_graceful=False)
            alive.append(cluster.add_node(num_cpus=GPUS, num_gpus=GPUS))

    spent, records = sweep(cluster, folder, count, strike)
    print(
        f"{kills} nodes killed in {spent:.0f} s: {len(records)} of {count} cells are there, attempts "
        f"{dict(statuses)} (promised: nothing lost)",
        flush=True,
    )


def sweep(cluster: Any, folder: Path, count: int, report: Any) -> tuple[float, list[Any]]:
    """Seconds from the first cell to the last, and the records of those that succeeded."""
    from benchmark.execution.sweep import Sweep, run_sweep
    from benchmark.records.store import Store
    from benchmark.request.groups import ExecutorSettings, RaySettings
    from benchmark.request.merging import Layer
    from benchmark.request.plan import make_plan
    from benchmark.request.settings import compose

    asked = {"methods": ["trivial_colour_knn"], "datasets": ["mvtec_ad"], "shots": [1], "seeds": [*range(200)]}
    layers = [Layer("perf", {"sweep": asked, "trainer": {"accelerator": "gpu"}})]
    cells = make_plan(compose(layers), {}).cells[:count]
    store = Store(folder)
    how = Sweep(
        "perf", ["bench"], store, ExecutorSettings(name="ray", cores=1, retries=5), RaySettings(address=cluster.address)
    )
    begin = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()):
        run_sweep(how, cells, report, lambda running: None)
    spent = time.monotonic() - begin
    return spent, [record for cell in cells if (record := store.current(cell.id)) and record.status == "ok"]


def resident() -> float:
    """MiB of this process in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
