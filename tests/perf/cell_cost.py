"""Fixed cost of a cell after the first in one process: wall time of an attempt, kept, less its forward passes.

Tables are not rewritten after each cell; `tests.perf.identity` times them.

Promise: under 0.3 s. Run as `python tests/perf/cell_cost.py`; figures are seconds in this process on this machine.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmark.execution.attempt import attempt
from benchmark.execution.sweep import Sweep, next_job
from benchmark.records.store import Store
from benchmark.request.plan import make_plan
from benchmark.request.settings import Layer, compose
from methods.components.clip.backbone import CLIPBackbone

PROMISED = 0.3


def main() -> None:
    """Time each attempt and, inside it, the image and text passes of the backbone."""
    spent = [0.0]
    for name in ("encode_image", "encode_windows", "encode_text"):
        setattr(CLIPBackbone, name, timed(getattr(CLIPBackbone, name), spent))
    request = {"methods": ["winclip", "nearest_patch"], "datasets": ["procedural"], "shots": [1], "seeds": [0, 1, 2]}
    cells = make_plan(compose([Layer("perf", {"sweep": request | {"limit": 8}})]), {}).cells
    cells = [cell for cell in cells if cell.categories[0] in (cells[0].categories[0], cells[1].categories[0])]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for cell in cells:
            spent[0], start = 0.0, time.perf_counter()
            record = attempt(next_job(Sweep("perf", [], store), cell))
            store.save(record)
            if record.status != "ok":
                sys.exit(record.error["traceback"])
            rows.append((time.perf_counter() - start, spent[0]))
    for (total, forward), cell in zip(rows, cells, strict=True):
        print(
            f"{cell.method:<14} {total:6.3f} s, of it forward passes {forward:6.3f} s, fixed {total - forward:6.3f} s"
        )
    fixed = [total - forward for total, forward in rows[1:]]
    middle, worst = statistics.median(fixed), max(fixed)
    print(f"fixed cost after the first cell: median {middle:.3f} s, worst {worst:.3f} s (promised: under {PROMISED} s)")


def timed(function, spent):  # type: ignore[no-untyped-def]
    """The same function, adding its seconds to `spent`."""

    def wrapped(*arguments, **settings):  # type: ignore[no-untyped-def]
        start = time.perf_counter()
        result = function(*arguments, **settings)
        spent[0] += time.perf_counter() - start
        return result

    return wrapped


if __name__ == "__main__":
    main()
