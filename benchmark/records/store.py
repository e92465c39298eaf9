"""Records on disk: each attempt at a cell is one JSON file, written once and atomically."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmark.request.cell import Cell, Where, canonical, differences, from_json
from datamodules.components.sample import UserError

SCHEMA = 2
ROUNDED = 1e-9  # by which a sum of floats may leave [0, 1]
LOCK = ".lock"
MOST = 2**53  # of a number that tables hold exactly
_PARTIAL = re.compile(r"\.tmp-\d+-.+|\.tmp-probe")
DIED = "ProcessDied"  # type of the error of an attempt whose process has ended without a record
#: Fields that neither states nor tables read, so that they are not kept in memory.
UNHELD = ("argv", "data", "counts", "regions", "remarks", "provenance")


class StoreError(UserError):
    """The results folder cannot be read or written."""


class NotKept(StoreError):
    """The record of a cell that ran cannot be written; those of cells before it are there."""


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
    cost: dict[str, Any] = field(default_factory=dict)  # parameters trained, images per second and how it was timed
    knows: list[str] | None = None  # see `benchmark.request.knowledge`; None where it was not recorded
    adopted: dict[str, Any] = field(default_factory=dict)  # by `bench recertify`: what vouches for newer code
    provenance: dict[str, Any] = field(default_factory=dict)
    error: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA


class Store:
    """The records below `folder`/cells. Those in memory lack the fields `UNHELD`; `whole` reads them from disk."""

    def __init__(self, folder: Path, *, mend: bool = False, only: str = "*") -> None:
        """Read the records of a folder, or `only` those of one cell.

        `mend` renames those that are corrupt, else nothing on disk is changed.
        """
        self.folder = folder
        self._mend, self._own = mend, _identity(folder)
        self.set_aside: list[Path] = []  # corrupt records
        self.outdated = 0  # records of another schema: kept on disk, read by none
        self._records: dict[str, list[Record]] = {}
        self._shared: dict[str, Any] = {}  # parts that many records have in common, held once
        for path in sorted((folder / "cells").glob(f"{only}/attempt-*.json")):
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

    def save(self, record: Record) -> Record:
        """Write a record, whole or not at all; returns what was written.

        A record that holds what JSON cannot becomes a failed one that says so.

        Raises:
            StoreError: it cannot be written, or the folder is another one than when it was opened.
        """
        if self._own is not None and _identity(self.folder) != self._own:
            raise StoreError(f"{self.folder} was removed or replaced while this command ran.")
        try:
            fields = asdict(record)
            text = json.dumps(fields | {"checksum": checksum(fields)}, indent=1, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            told = {"type": "UnwritableRecord", "message": f"the record cannot be kept: {error}", "traceback": ""}
            if record.error.get("type") == told["type"]:
                raise
            failed = Record(
                record.cell_id,
                record.attempt,
                "failed",
                record.sweep,
                record.argv,
                record.cell,
                record.started,
                error=told,
            )
            return self.save(failed)
        write_atomic(self.path(record), text + "\n")
        self._own = self._own or _identity(self.folder)
        self._hold(record)
        return record

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
            check_record(record)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError):
            aside = path.with_name(f"{path.name}.corrupt") if self._mend else path
            with suppress(OSError):
                path.replace(aside)
            self.set_aside.append(aside)
            return None
        return record

    def _share(self, value: Any) -> Any:
        """An equal value seen before, if any: thousands of records hold the same lists of files and versions."""
        return self._shared.setdefault(repr(value), value)


TEXTS = ("cell_id", "status", "sweep", "started", "comparison_id")
LISTS = ("argv", "remarks", "knows")  # of texts
MAPPINGS = (
    "content", "data", "backbone", "metrics", "counts", "regions", "leaks", "seconds", "features", "fit", "adopted",
    "provenance", "error", "cost",
)  # fmt: skip
OPTIONAL = ("knows", "features")
CELL_TEXTS = ("method", "dataset", "variant", "protocol", "label")


def check_record(record: Record) -> None:
    """ValueError unless the parts of a record that tables are made of have the shapes that they must have."""
    cell = record.cell
    good = [isinstance(getattr(record, name), str) for name in TEXTS]
    good += [isinstance(getattr(cell, name), str) for name in CELL_TEXTS]
    good += [_are_texts(its) for name in LISTS if (its := getattr(record, name)) is not None or name not in OPTIONAL]
    good += [_are_texts([*cell.categories]), _are_texts([*cell.fitted]), isinstance(cell.joint, bool)]
    good += [type(number) is int for number in (record.attempt, cell.shots, cell.seed)]
    good += [cell.limit is None or type(cell.limit) is int]
    for name in MAPPINGS:
        its = getattr(record, name)
        good.append(isinstance(its, dict) or (its is None and name in OPTIONAL))
    if not all(good):
        raise ValueError("a field of another type")
    _check_numbers(record)
    _check_cost(record)
    asdict(cell.settings), cell.words, cell.backbone_label, cell.method_label, cell.protocol_label  # are made of texts


def _are_texts(its: Any) -> bool:
    return isinstance(its, list) and all(isinstance(text, str) for text in its)


def _check_numbers(record: Record) -> None:
    values = [its["value"] for metrics in record.metrics.values() for its in metrics.values()]
    if not all(v is None or (isinstance(v, int | float) and -ROUNDED <= v <= 1 + ROUNDED) for v in values):
        raise ValueError("a metric that is no share")
    numbers = [number for counts in record.counts.values() for number in counts.values()]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a count")
    if not all(isinstance(number, int | float) for number in record.seconds.values()):
        raise ValueError("seconds")
    tested, leaked = record.leaks.get("tested", 0), [record.leaks.get(name, []) for name in ("shots", "auxiliary")]
    if type(tested) is not int or not all(map(_are_texts, leaked)):
        raise ValueError("leaks")
    if not all(isinstance(text, str) for text in (*record.error.values(), *record.backbone.get("arithmetic", {}))):
        raise ValueError("a text of the error")


COST = {"trained_parameters": int, "images_per_s": float, "batch_size": int, "device": str, "warm": bool}


def _check_cost(record: Record) -> None:
    peak, cost = record.peak_memory_mib, record.cost
    if not (peak is None or type(peak) in (int, float)) or abs(peak or 0) > MOST:
        raise ValueError("a peak of memory")
    if not all(type(number) is int and abs(number) < MOST for number in (record.features or {}).values()):
        raise ValueError("what the feature store did")
    if cost and {name: type(value) for name, value in cost.items()} != COST:
        raise ValueError("a cost")
    if cost and not all(0 <= cost[name] < MOST for name in ("trained_parameters", "images_per_s")):
        raise ValueError("a cost out of range")


def read_sweep(path: Path) -> dict[str, Any] | None:
    """A sweep's file; None if it is none of this suite's."""
    try:
        sweep = json.loads(path.read_text(encoding="utf-8"))
        trials = [trial for its in sweep.get("trials", {}).values() for trial in its]
        lists = [sweep["cells"], sweep["argv"], *([*trial["cells"], *trial["cells"].values()] for trial in trials)]
        texts = [trial[key] for trial in trials for key in ("dataset", "protocol", "backbone", "note")]
        numbers = [trial[key] for trial in trials for key in ("shots", "seed")]
        good = all(map(_are_texts, [*lists, texts, *(trial["categories"] for trial in trials)]))
        good = good and all(type(number) is int for number in numbers) and isinstance(sweep.get("settings", {}), dict)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return sweep if good else None


def _identity(folder: Path) -> tuple[int, int] | None:
    """By what a folder is known, whatever its name; None if there is none yet."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


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
            file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise StoreError(f"cannot write {path}: {error.strerror or error}. The previous content is kept.") from error


def sweep_up(folder: Path) -> None:
    """Remove the partial files of killed writers, where the suite writes and by the names that it gives them."""
    for place in (folder, folder / "sweeps", folder / "fits", *(folder / "cells").glob("*")):
        for partial in place.glob(".tmp-*"):
            if _PARTIAL.fullmatch(partial.name) and partial.is_file():
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
