"""What executors cost: `python -m tests.perf.executors`, half an hour, most of it the cold mode of Ray.

Seconds that a cell of nothing takes by each executor, and how much of two workers' time equal cells fill. Promise:
`pool` and `ray` fill at least 90 % of it. Cells wait, they do not compute: the machine has no more cores.
"""

import calendar
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.twins import write_mvtec_ad

ROOT = Path(__file__).parents[2]
EMPTY, LONG, SECONDS, WORKERS, PROMISED = 200, 8, 10.0, 2, 0.9
EXECUTORS = {
    "local": ["executor=local"],
    "pool": ["executor=pool", f"executor.workers={WORKERS}"],
    "ray": ["executor=ray", "executor.cores=1"],
    "ray, cold": ["executor=ray", "executor.cores=1", "ray.warm=false"],
}


def main() -> None:
    """Print a line for each executor."""
    with tempfile.TemporaryDirectory() as folder:
        write_mvtec_ad(Path(folder) / "mvtec_ad")
        for name, words in EXECUTORS.items():
            once = run(folder, f"{name}-1", words, seeds=1, pause=0.0)
            empty = run(folder, f"{name}-n", words, seeds=EMPTY // 2, pause=0.0)
            each = (empty - once) / (EMPTY - 2)
            print(f"{name:<10} starts and ends in {once:5.1f} s, {each:6.3f} s per empty cell", flush=True)
        for name in ("pool", "ray"):
            spent, cells = busy(folder, name)
            share = cells * SECONDS / WORKERS / spent
            print(
                f"{name:<10} fills {share:.0%} of two workers with cells of {SECONDS:.0f} s (promised {PROMISED:.0%})"
            )


def busy(folder: str, name: str) -> tuple[float, int]:
    """Seconds from the first record's beginning to the last one's end, of cells that wait, and their number."""
    results = Path(folder) / f"{name}-long"
    run(folder, results.name, EXECUTORS[name], seeds=LONG // 2, pause=SECONDS / 4)  # 7 images in batches of 2
    records = [json.loads(path.read_text()) for path in results.glob("cells/*/attempt-1.json")]
    starts = [time.strptime(record["started"][:19], "%Y-%m-%dT%H:%M:%S") for record in records]
    ends = [path.stat().st_mtime for path in results.glob("cells/*/attempt-1.json")]
    return max(ends) - min(map(calendar_seconds, starts)), len(records)


def calendar_seconds(when: time.struct_time) -> float:
    """Seconds since 1970 of a time in UTC."""
    return calendar.timegm(when)


def run(folder: str, name: str, words: list[str], *, seeds: int, pause: float) -> float:
    """Seconds of a whole sweep of two categories, process and all."""
    asked = ["--methods", "toy_mean", "--datasets", "mvtec_ad", "--categories", "bottle,metal_nut", "--shots", "1"]
    asked += ["--seeds", ",".join(map(str, range(seeds))), "protocol.evaluation_size=24", "trainer.batch_size=2"]
    asked += [f"method.pause={pause}", "--results", f"{folder}/{name}", *words]
    paths = os.pathsep.join([str(ROOT / "tests" / "plugin"), str(ROOT)])
    variables = {**os.environ, "PYTHONPATH": paths, "BENCH_DATA": folder, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from benchmark.cli import main; main()", "run", *asked]
    start = time.perf_counter()
    subprocess.run(command, env=variables, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
