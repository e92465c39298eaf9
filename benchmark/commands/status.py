"""`bench status`: what a results folder holds and misses, from its records alone, without torch and without tables."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmark.commands.columns import plain
from benchmark.records import claims
from benchmark.records.store import Record, Store, StoreError, read_sweep
from benchmark.request import registry
from benchmark.request.cell import differences
from benchmark.request.inputs import code

Running = Mapping[str, tuple[Path, claims.Claim]]  # cell → the claim to it


def open_store(folder: Path) -> Store:
    """The records of a results folder; StoreError if it holds none."""
    if not (folder / "cells").is_dir():
        raise StoreError(f"{folder} is not a results folder: it has no cells/. `bench run` makes one below results/.")
    return Store(folder)


def print_status(folder: Path, *, as_json: bool = False) -> int:
    """Print each sweep's progress and failures; 0 if every requested cell is there, else 1."""
    store = open_store(folder)
    running = {path.parent.name: (path, claim) for path in claims.claims_of(folder) if (claim := claims.holder(path))}
    files = {path: read_sweep(path) for path in sorted((folder / "sweeps").glob("*.json"))}
    sweeps = [_sweep(path.stem, sweep, store, running) for path, sweep in files.items() if sweep is not None]
    unreadable = [str(path) for path, sweep in files.items() if sweep is None]
    if as_json:
        told: dict[str, Any] = {"folder": str(folder), "sweeps": sweeps, "unreadable": unreadable}
        told |= {"corrupt": [str(path) for path in store.set_aside], "outdated": store.outdated}
        print(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        for line in (line for sweep in sweeps for line in _lines(sweep)):
            print(line)
        for path in unreadable:
            print(f"{path} is no sweep of this suite: left out")
        for line in left_out(store):
            print(line)
    return 1 if any(sweep["done"] < sweep["cells"] for sweep in sweeps) else 0


def reason(record: Record) -> str:
    """Why an attempt failed, in one line of printable characters."""
    return plain(f"{record.error.get('type')}: {str(record.error.get('message', '')).partition(chr(10))[0]}")


def left_out(store: Store) -> Iterator[str]:
    """A line on each record that counts for nothing, or on all of an older version."""
    for path in store.set_aside:
        yield f"corrupt record{' set aside' if path.name.endswith('.corrupt') else ''}: {path}"
    if store.outdated:
        yield f"{store.outdated} records of an older version of the suite are kept on disk and left out of all tables."


def _sweep(name: str, sweep: Mapping[str, Any], store: Store, running: Running) -> dict[str, Any]:
    """Where a sweep stands, as plain data."""
    records = {cell: store.current(cell) for cell in sweep["cells"]}
    done = [record for record in records.values() if record is not None and record.status == "ok"]
    at_work = {cell: running[cell] for cell in records if cell in running}
    failed = [its for cell, its in records.items() if its and its.status != "ok" and cell not in at_work]
    absent = len(records) - len(done) - len(failed) - len(at_work)
    return {
        "name": name,
        "argv": sweep["argv"],
        "cells": len(records),
        "done": len(done),
        "failed": len(failed),
        "missing": absent,
        "running": len(at_work),
        "stale": sum(map(_is_stale, done)),
        "hours_left": _hours_left(done, absent, len(at_work)) if at_work and done else None,
        "running_cells": [
            {"cell": cell, "process": str(claim), "progress": claims.progress(path).removeprefix(": ")}
            for cell, (path, claim) in at_work.items()
        ],
        "failed_cells": [
            {"cell": its.cell_id, "status": its.status, "reason": reason(its), "record": str(store.path(its))}
            for its in failed
        ],
    }


def _lines(its: Mapping[str, Any]) -> Iterator[str]:
    """Where a sweep stands, in words."""
    words = [f"{its['done']} done", f"{its['failed']} failed", f"{its['missing']} missing of {its['cells']}"]
    words += [f"{its['running']} running"] if its["running"] else []
    words += [f"{its['stale']} done by other code"] if its["stale"] else []
    words += [f"about {its['hours_left']:.1f} h left"] if its["hours_left"] else []
    yield f"{its['name']}: {', '.join(words)}"
    for cell in its["running_cells"]:
        yield f"  running {cell['cell']}: {cell['process']}" + (f": {cell['progress']}" if cell["progress"] else "")
    for cell in its["failed_cells"]:
        yield f"  {cell['status']} {cell['cell']}: {cell['reason']}"
    if its["done"] < its["cells"]:
        yield f"  go on with: {shlex.join(its['argv'])}"


def _is_stale(record: Record) -> bool:
    """Whether other code than today's has made a record; `bench run` looks at the data too."""
    names = [("method", record.cell.method), *(("dataset", name) for name in record.cell.datasets)]
    if any(registry.why_broken(kind, name) for kind, name in names):
        return True
    return bool(differences({"code": record.content.get("code", {})}, {"code": code(record.cell)}))


def _hours_left(done: Sequence[Record], absent: int, workers: int) -> float:
    """Hours for the cells that are missing if each takes what those that are done took on average."""
    return fmean(sum(record.seconds.values()) for record in done) * absent / workers / 3600
