"""How often `shots` and a category change rooms from the command line to the row: `python -m tests.perf.walk`.

One cell is run and traced. A call counts where a file of one folder calls a file of another one and hands it the value,
in an argument or inside one (settings, a cell, a datamodule); a property of an object that holds it hands nothing over.
Printed are the different calls (what a reader follows) and all of them.
"""

import contextlib
import io
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from benchmark.cli import main
from benchmark.request.code import FLOORS, ROOT
from datamodules.procedural import Procedural

SOUGHT = {"shots": 13, "category": "zipper"}  # values that mean nothing else
SET = {"size": 32, "train": 14, "normal": 2, "per_defect": 1}
REQUEST = ["run", "--methods", "winclip", "--datasets", "procedural", "--protocols", "few_shot", "--seeds", "0"]
DEEP, MANY = 4, 60  # levels and elements that are looked into


def holds(given: Any, value: Any, levels: int = DEEP) -> bool:
    """Whether something is a value, or holds it in containers and objects of the suite."""
    if isinstance(given, str | int):
        return type(given) is type(value) and given == value
    if not levels:
        return False
    parts: list[Any] = []
    if isinstance(given, dict):
        parts = [*given, *given.values()]
    elif isinstance(given, list | tuple | set | frozenset):
        parts = list(given)
    elif type(given).__module__.partition(".")[0] in FLOORS and hasattr(given, "__dict__"):
        parts = list(vars(given).values())
    return len(parts) < 2 * MANY and any(holds(part, value, levels - 1) for part in parts)


class Walk:
    """Counts calls between rooms that hand over a value of `SOUGHT`."""

    def __init__(self) -> None:
        self.calls: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in SOUGHT}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        here, caller = place(frame), frame.f_back
        if event != "call" or here is None:
            return
        while caller is not None and place(caller) is None:
            caller = caller.f_back
        there = place(caller) if caller else None
        if there is None or there.parent == here.parent or caller is None:
            return
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        given = [frame.f_locals.get(name) for name in names if name not in ("self", "cls")]
        for sought, value in SOUGHT.items():
            if any(holds(each, value) for each in given):
                self.calls[sought][f"{there} {caller.f_code.co_name}", f"{here} {code.co_name}"] += 1


def place(frame: FrameType) -> Path | None:
    """The file of a frame below the suite's root; None where it is not the suite's."""
    path = Path(frame.f_code.co_filename)
    inside = path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in FLOORS
    return path.relative_to(ROOT) if inside else None


def measure() -> Walk:
    """Trace one cell; what the run prints is left out."""
    walk = Walk()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BENCH_CACHE"] = folder
        Procedural(None, Procedural.categories, image_size=8, config=Procedural.Config(**SET)).prepare_data()
        words = [f"dataset.procedural.{key}={value}" for key, value in SET.items()]
        sought = ["--shots", str(SOUGHT["shots"]), "--categories", str(SOUGHT["category"])]
        sys.argv = ["bench", *REQUEST, *sought, *words, "--results", f"{folder}/results"]
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
            sys.setprofile(walk)
            main()
        sys.setprofile(None)
        if not list(Path(folder, "results").glob("leaderboard.csv")):
            raise SystemExit(printed.getvalue())
    return walk


if __name__ == "__main__":
    shown = "--calls" in sys.argv
    for name, calls in measure().calls.items():
        if shown:
            print("\n".join(f"{count:4} {' → '.join(call)}" for call, count in sorted(calls.items())))
        print(f"{name}: {len(calls)} different calls change rooms, {sum(calls.values())} in all")
