"""`bench recertify`: after a refactoring, a few cells measured again vouch for all whose code alone has changed.

A record is written once, so an adopted one is a new attempt: the old measurement under the new code, with what vouches
for it. One metric that differs in its last digit adopts nothing. A metric that only the older or only the newer code
knows is not compared, but named.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from benchmark.commands.status import open_store, reason
from benchmark.commands.terminal import loud
from benchmark.execution import kept_fit
from benchmark.execution.attempt import attempt
from benchmark.execution.content import Contents
from benchmark.execution.states import absent_data
from benchmark.execution.sweep import Sweep, next_job
from benchmark.records import superseding
from benchmark.records.leaderboard import write_tables
from benchmark.records.predictions import path_of
from benchmark.records.store import Record, Store, alone, write_atomic
from benchmark.request import registry
from benchmark.request.cell import Cell, differences
from benchmark.request.code import hash_code
from benchmark.request.inputs import code

DONE, DIFFERENT = 0, 1


def recertify(folder: Path, count: int, argv: Sequence[str], console: Console) -> int:
    """Measure `count` stale cells of each method again and adopt the others if every metric is equal.

    Returns:
        0 if all was adopted or nothing is stale by its code alone, else 1.
    """
    open_store(folder)
    with alone(folder):
        store = Store(folder)
        stale = stale_by_code(store)
        if not stale:
            console.print("nothing to recertify: no record is stale by its code alone")
            return DONE
        chosen = {method: _spread(records, count) for method, records in _by_method(stale).items()}
        measured = []
        unknown: set[str] = set()
        for record in (record for its in chosen.values() for record in its):
            again = _measure(record, Sweep("recertify", argv, store))
            if problem := _difference(record, again):
                loud(console).print(f"nothing adopted: {record.cell_id} {problem}", markup=False, soft_wrap=True)
                return DIFFERENT
            console.print(f"equal  {record.cell_id}", markup=False, soft_wrap=True)
            measured.append(again)
            unknown |= _names(record) ^ _names(again)
        for again in measured:
            store.save(again)
        done = {record.cell_id for record in measured}
        for record in stale:
            if record.cell_id not in done:
                witnesses = [each.cell_id for each in measured if each.cell.method == record.cell.method]
                _keep_predictions(store.folder, record, store.save(_adopt(record, witnesses, store)))
        write_tables(folder, store.all_current())
        console.print(f"{len(measured)} cells measured again, {len(stale) - len(measured)} adopted")
        if unknown:
            names = ", ".join(sorted(unknown))
            console.print(f"not compared, known to the older or to the newer code alone: {names}", soft_wrap=True)
        return DONE


def stale_by_code(store: Store) -> list[Record]:
    """Successful records, whole, that stand in the tables and differ from today in their code alone."""
    standing = [record for record in superseding.standing(store.all_current()) if record.status == "ok"]
    records = [store.whole(record) for record in standing if _is_installed(record.cell)]
    contents = Contents(absent_data([record.cell for record in records]))
    return [
        record
        for record in records
        if [words.partition(":")[0] for words in differences(record.content, contents.of(record.cell))] == ["code"]
    ]


def _is_installed(cell: Cell) -> bool:
    """Whether the files of a cell's method and data sets are there and whole; a plug-in's may be gone."""
    datasets = {cell.dataset, cell.settings.protocol.auxiliary or cell.dataset}
    broken = (registry.why_broken("dataset", name) for name in datasets)
    return not registry.why_broken("method", cell.method) and not any(broken)


def _by_method(records: Sequence[Record]) -> Mapping[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.cell.method, []).append(record)
    return found


def _spread(records: Sequence[Record], count: int) -> list[Record]:
    """`count` of the records in an order that their ids alone decide, not a kind of cell."""
    return sorted(records, key=lambda record: hashlib.sha256(record.cell_id.encode()).hexdigest())[:count]


def _measure(record: Record, sweep: Sweep) -> Record:
    cell: Cell = record.cell
    where = replace(cell.where, logger=replace(cell.where.logger, name="csv"), results=str(sweep.store.folder))
    return attempt(next_job(sweep, replace(cell, where=where)))


def _difference(before: Record, after: Record) -> str:
    """In what a second measurement differs, in words; empty if in no metric that both hold."""
    if after.status != "ok":
        return f"is {after.status}: {reason(after)}"
    if before.comparison_id != after.comparison_id or before.counts != after.counts:
        return "was measured on other data"
    if not _names(before) & _names(after):
        return "has no metric in common with its record"
    for category, metrics in before.metrics.items():
        for name, value in metrics.items():
            now = after.metrics[category].get(name, value)
            if now != value:
                return f"has {name} {now} of {category}, recorded was {value}"
    return ""


def _names(record: Record) -> set[str]:
    return {name for metrics in record.metrics.values() for name in metrics}


def _keep_predictions(folder: Path, record: Record, adopted: Record) -> None:
    """Lay what was kept of a measurement beside the record that adopts it, too."""
    for place in (path_of, kept_fit.path_of):
        kept = place(folder, record)
        if kept.is_file():
            write_atomic(place(folder, adopted), kept.read_bytes())


def _adopt(record: Record, witnesses: Sequence[str], store: Store) -> Record:
    now = datetime.now(UTC).isoformat()
    newer = code(record.cell)
    return replace(
        record,
        attempt=store.attempt_folder(record.cell_id)[0],
        started=now,
        content={**record.content, "code": newer},
        adopted={
            "attempt": record.attempt,
            "measured": record.started,
            "when": now,
            "remeasured": list(witnesses),
            "old_code": hash_code(record.content["code"]),
            "new_code": hash_code(newer),
        },
    )
