"""What the page tells: the rows of the leaderboard, the records behind each, and what was published, as plain data."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from statistics import fmean
from typing import Any

import pandas as pd

from benchmark.records.display import BELOW, legend
from benchmark.records.leaderboard import LeaderboardTables, by_kind, long_table
from benchmark.records.paired import TIED
from benchmark.records.rows import FACTS, ROW, SETUP, category_table
from benchmark.records.store import Record, Store, StoreError

#: What the rows of one group share; only these compare.
GROUP = ("backbone", "note", "dataset", "kind", "protocol", "shots", "comparison")
#: What a row shares with the lines of `benchmark.records.beside` that tell of it.
BESIDE = ("method", "dataset", "protocol", "shots", "backbone", "setup")
PUBLISHED = ("metric", "published_low", "published_high", "difference", "verdict", "certainty", "sources")
#: What a record is in the page; its file, to which the page links, holds all.
RECORD = (
    "id",
    "attempt",
    "status",
    "part",
    "seed",
    "started",
    "tested",
    "seconds",
    "memory",
    "machine",
    "said",
    "values",
)
PHASES = ("load", "fit", "test", "metrics")
CHANGED = ("method", "dataset", "auxiliary", "protocol")  # groups of settings that may differ from their defaults
SAID = 300  # characters of an error or of remarks
DIGITS = 8  # a page rounds as the other tables do, once


def behind(made: LeaderboardTables) -> list[list[Record]]:
    """The records of each row of the leaderboard, failed ones too."""
    known = {record.cell_id: record for record in made.records}
    groups = by_kind(made.long).groupby(list(ROW), sort=False)
    cells = {key: list(dict.fromkeys(its)) for key, its in groups["cell"]}
    return [[known[cell] for cell in cells[_key(line, ROW)]] for line in made.wide.to_dict("records")]


def describe(
    store: Store, wide: pd.DataFrame, rows: Sequence[Sequence[Record]], published: pd.DataFrame
) -> dict[str, Any]:
    """All that the page shows but its gallery.

    Args:
        store: where the records lie.
        wide: the leaderboard.
        rows: the records `behind` each of its rows.
        published: the lines of `benchmark.records.beside`.

    Returns:
        Values are fractions; None is what is undefined or not measured. A row names its group, its setup and its
        records by their places in the lists of these names.
    """
    names = [str(name) for name in wide if f"{name}_std" in wide]
    records = {record.cell_id: record for its in rows for record in its}
    places = {cell: place for place, cell in enumerate(records)}
    setups, groups, machines = _setups(wide, rows, names), _Places(), _Places()
    order = {key: place for place, key in enumerate(setups)}
    claims = {key: _published(its) for key, its in published.groupby(list(BESIDE), sort=False)}
    told = [
        _row(line, names)
        | {"group": groups.of(_key(line, GROUP)), "setup": order[_key(line, SETUP)], "cost": _cost(its)}
        | {"cells": [places[record.cell_id] for record in its]}
        | {"published": claims.get(_key(line, BESIDE), []) if line["kind"] == "all" else []}
        for line, its in zip(wide.to_dict("records"), rows, strict=True)
    ]
    return {
        "title": store.folder.resolve().name,
        "metrics": names,
        "legend": " ".join(legend(wide)),
        "facts": [fact.heading for fact in _facts()],
        "groups": [dict(zip(GROUP, map(plain, key), strict=True)) for key in groups],
        "rows": told,
        "setups": [*setups.values()],
        "record": RECORD,
        "records": [_record(_whole(store, record), names, machines) for record in records.values()],
        "machines": [*machines],
    }


def plain(value: Any) -> Any:
    """A number or a text as JSON has it; None for what pandas takes for missing."""
    if pd.isna(value):
        return None
    value = value.item() if hasattr(value, "item") else value
    return round(value, DIGITS) if isinstance(value, float) else value


class _Places(dict[Any, int]):
    """Things in the order in which they are first asked for."""

    def of(self, key: Any) -> int:
        return self.setdefault(key, len(self))


def _key(line: Mapping[Any, Any], names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(line[name] for name in names)


def _facts() -> list[Any]:
    """The facts in rendered tables but the comparison, which is that of a row's group."""
    return [fact for fact in FACTS if fact.heading and fact.name != "comparison"]


def _row(line: Mapping[Any, Any], names: Sequence[str]) -> dict[str, Any]:
    return {
        "method": line["method"],
        "facts": [plain(line[fact.name]) for fact in _facts()],
        "values": [plain(line[name]) for name in names],
        "std": [plain(line[f"{name}_std"]) for name in names],
        "marks": [
            BELOW * (name in line["below_chance"].split(", "))
            + TIED * (name in line["not_distinguishable"].split(", "))
            for name in names
        ],
        "status": line["status"],
    }


def _cost(records: Sequence[Record]) -> dict[str, float | None]:
    """Mean seconds of the test per image, and of a whole cell without the loading; None where nothing was measured."""
    done = [record for record in records if record.status == "ok" and record.seconds]
    tested = sum(record.leaks.get("tested", 0) for record in done)
    test = sum(record.seconds.get("test", 0.0) for record in done)
    whole = [sum(record.seconds.get(phase, 0.0) for phase in PHASES[1:]) for record in done]
    return {"image": plain(test / tested) if tested else None, "cell": plain(fmean(whole)) if whole else None}


def _published(lines: pd.DataFrame) -> list[dict[str, Any]]:
    return [{name: plain(line[name]) for name in PUBLISHED} for line in lines.to_dict("records")]


def _setups(
    wide: pd.DataFrame, rows: Sequence[Sequence[Record]], names: Sequence[str]
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What the kinds of one row share: what was asked for, and the mean of each category over seeds."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line, (record, *_) in zip(wide.to_dict("records"), rows, strict=True):
        changed = {group: words for group in CHANGED if (words := record.cell.changed(group))}
        auxiliary = record.cell.settings.protocol.auxiliary or ""
        facts = {name: plain(line[name]) for name in ("variant", "setup", "code", "weights", "limit")}
        found.setdefault(_key(line, SETUP), {**facts, "auxiliary": auxiliary, "changed": changed, "categories": []})
    every = {record.cell_id: record for its in rows for record in its}.values()
    for line in category_table(long_table(every)).to_dict("records"):
        means = [[plain(line.get(f"{name}{end}")) for name in names] for end in ("", "_std")]
        found[_key(line, SETUP)]["categories"].append([line["category"], *means])
    return found


def _whole(store: Store, record: Record) -> Record:
    """The record with the fields that are not held in memory, unless its file is gone meanwhile."""
    with suppress(StoreError):
        return store.whole(record)
    return record


def _record(record: Record, names: Sequence[str], machines: _Places) -> list[Any]:
    """The parts `RECORD` of a record; its values are means over the categories of the cell."""
    values = [[its[name]["value"] for its in record.metrics.values() if name in its] for name in names]
    said = f"{record.error['type']}: {record.error.get('message', '')}" if record.error else " ".join(record.remarks)
    return [
        record.cell_id,
        record.attempt,
        record.status,
        record.cell.part,
        record.cell.seed,
        record.started[:19],
        record.leaks.get("tested", 0),
        [record.seconds.get(phase) for phase in PHASES],
        record.peak_memory_mib,
        machines.of(_machine(record.provenance)),
        said if len(said) <= SAID else f"{said[:SAID]}…",
        [_mean([value for value in its if value is not None]) for its in values],
    ]


def _mean(values: Sequence[float]) -> float | None:
    return plain(fmean(values)) if values else None


def _machine(provenance: Mapping[str, Any]) -> str:
    """What a record ran on and by which code, in words."""
    packages = provenance.get("packages") or {}
    commit = str(provenance.get("commit") or "")[:12]
    words = [
        *(str(provenance[name]) for name in ("device", "host", "platform") if provenance.get(name)),
        *([f"Python {provenance['python']}"] if provenance.get("python") else []),
        *([f"torch {packages['torch']}"] if "torch" in packages else []),
        *([f"commit {commit}{' with edits' if provenance.get('dirty') else ''}"] if commit else []),
    ]
    return ", ".join(words) or "not recorded"
