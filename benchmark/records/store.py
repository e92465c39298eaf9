"""Records on disk: each attempt at a cell is one JSON file, written once and atomically."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmark.request.cell import Cell, Where, canonical, differences, from_json
from datamodules.components.sample import UserError

SCHEMA = 2
LOCK = ".lock"
DIED = "ProcessDied"  # type of the error of an attempt whose process has ended without a record
#: Fields that neither states nor tables read, so that they are not kept in memory.
UNHELD = ("argv", "data", "counts", "regions", "remarks", "provenance")


class StoreError(UserError):
    """The results folder cannot be read or written."""


@dataclass(frozen=True)
class Record:
    """One attempt at one cell; results/README.md explains every field."""

    cell_id: str
    attempt: int
    status: str  # ok, failed, interrupted
    sweep: str
    argv: list[str]
    cell: Cell
    started: str  # UTC, ISO 8601
    content: dict[str, Any] = field(
        default_factory=dict
    )  # code, data and pixels behind it, see benchmark.execution.content
    comparison_id: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    backbone: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)  # category, metric, value and reason
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    regions: dict[str, dict[str, Any]] = field(default_factory=dict)  # of the masks; those that vanished by image
    leaks: dict[str, Any] = field(default_factory=dict)  # test images that were seen before the test
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_mib: float | None = None
    features: dict[str, int] | None = None  # what the feature store did; None when it is off
    fit: dict[str, Any] = field(default_factory=dict)  # terms of the loss at its end
    remarks: list[str] = field(default_factory=list)  # of the method
    knows: list[str] | None = None  # see `benchmark.request.knowledge`; None where it was not recorded
    adopted: dict[str, Any] = field(default_factory=dict)  # by `bench recertify`: what vouches for newer code
    provenance: dict[str, Any] = field(default_factory=dict)
    error: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA


class Store:
    """The records below `folder`/cells. Those in memory lack the fields `UNHELD`; `whole` reads them from disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.set_aside: list[Path] = []  # corrupt records, renamed
        self.outdated = 0  # records of another schema: kept on disk, read by none
        self._records: dict[str, list[Record]] = {}
        self._shared: dict[str, Any] = {}  # parts that many records have in common, held once
        for path in sorted((folder / "cells").glob("*/attempt-*.json")):
            record = self._read(path)
            if record:
                self._hold(record)
        for attempts in self._records.values():
            attempts.sort(key=lambda record: record.attempt)

    def current(self, cell_id: str) -> Record | None:
        """The last success by the code and data of the last attempt, else the last attempt."""
        attempts = self._records.get(cell_id, [])
        if not attempts:
            return None
        newest = attempts[-1]
        good = (r for r in reversed(attempts) if r.status == "ok" and not differences(r.content, newest.content))
        return next(good, newest)

    def last(self, cell_id: str) -> Record | None:
        """The last attempt at a cell."""
        return next(reversed(self._records.get(cell_id, [])), None)

    def all_current(self) -> list[Record]:
        """The current record of every cell, in the order of their ids."""
        return [record for cell_id in sorted(self._records) if (record := self.current(cell_id))]

    def all_records(self) -> list[Record]:
        """Every attempt, cell by cell."""
        return [record for cell_id in sorted(self._records) for record in self._records[cell_id]]

    def whole(self, record: Record) -> Record:
        """The record with all fields, read from disk.

        Raises:
            StoreError: it is gone or altered since.
        """
        read = self._read(self.path(record))
        if read is None:
            raise StoreError(f"the record {self.path(record)} was altered while this command ran; start it again.")
        return read

    def attempt_folder(self, cell_id: str) -> tuple[int, Path]:
        """Number of the next attempt at a cell and the folder of its logs."""
        folder = self.folder / "cells" / cell_id
        used = [int(path.name.split(".")[0].split("-")[1]) for path in folder.glob("attempt-*.*")]
        number = max(used, default=0) + 1
        return number, folder / f"attempt-{number}"

    def save(self, record: Record) -> Path:
        """Write a record, whole or not at all; StoreError if that fails."""
        path = self.path(record)
        fields = asdict(record)
        write_atomic(path, json.dumps(fields | {"checksum": checksum(fields)}, indent=1, allow_nan=False) + "\n")
        self._hold(record)
        return path

    def path(self, record: Record) -> Path:
        """The file of a record."""
        return self.folder / "cells" / record.cell_id / f"attempt-{record.attempt}.json"

    def _hold(self, record: Record) -> None:
        """Keep a record in memory without the fields `UNHELD`, and share equal parts, since sweeps are large."""
        cell = record.cell
        parts = {name: self._share(getattr(cell, name)) for name in ("settings", "defaults", "files", "categories")}
        light = replace(
            record,
            cell=replace(cell, **parts, fitted=self._share(cell.fitted), where=Where()),
            content={kind: self._share(value) for kind, value in record.content.items()},
            backbone=self._share(record.backbone),
            error={key: value for key, value in record.error.items() if key != "traceback"},
            **{name: type(getattr(record, name))() for name in UNHELD},
        )
        self._records.setdefault(record.cell_id, []).append(light)

    def _read(self, path: Path) -> Record | None:
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields["schema"] != SCHEMA:
                self.outdated += 1
                return None
            if fields.pop("checksum") != checksum(fields):
                raise ValueError("its checksum differs")
            record = Record(**{**fields, "cell": from_json(fields["cell"])})
            if record.cell_id != path.parent.name:
                raise ValueError(f"cell {record.cell_id!r}")
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            aside = path.with_name(f"{path.name}.corrupt")
            path.replace(aside)
            self.set_aside.append(aside)
            return None
        return record

    def _share(self, value: Any) -> Any:
        """An equal value seen before, if any: thousands of records hold the same lists of files and versions."""
        return self._shared.setdefault(repr(value), value)


def checksum(fields: dict[str, Any]) -> str:
    """SHA-256 of a record's fields, by which a flipped bit or an edited digit is found."""
    return hashlib.sha256(canonical(fields).encode()).hexdigest()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file atomically: to a reader, and after a crash, it holds the old content or the new, never a part.

    Raises:
        StoreError: if the disk is full or the place cannot be written; the old content stays.
    """
    partial = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise StoreError(f"cannot write {path}: {error.strerror or error}. The previous content is kept.") from error


def sweep_up(folder: Path) -> None:
    """Remove the partial files of killed writers."""
    for partial in folder.rglob(".tmp-*"):
        partial.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path, shard: str = "") -> Iterator[None]:
    """Hold the lock of a results folder, or of one shard "i/n" of a sweep; StoreError if another process does.

    Shards write beside each other, a whole sweep beside none of them. Where the file system knows no locks, the claims
    to single cells are left, see `benchmark.records.claims`.
    """
    whole = folder / LOCK
    own = folder / f"{LOCK}-{shard.replace('/', '-of-')}" if shard else whole
    others = [whole] if shard else sorted(folder.glob(f"{LOCK}-*"))
    try:
        with FileLock(own, timeout=0):
            for other in others:
                with FileLock(other, timeout=0):
                    pass
            yield
    except Timeout:
        raise StoreError(
            f"another `bench run` is writing to {folder}; wait for it or choose another --results."
        ) from None
    except NotImplementedError:
        yield


def check_writable(folder: Path) -> None:
    """StoreError unless files can be made in `folder`."""
    probe = folder / ".tmp-probe"
    write_atomic(probe, "")
    probe.unlink()
