"""Who is at work on which cell: a small file beside its records, `cells/ID/attempt-N.started`.

It is made by whoever begins an attempt and is gone once the record is there. So it is a lock, which one process can
make (a link is made or its name exists, also where `flock` does nothing); a sign of life, its time of change; and,
where the process has ended without a record, what remains of a cell that took its process with it.
"""

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from benchmark.records.store import StoreError

BEAT = 5.0  # seconds between two signs of life
SILENT = 120.0  # seconds without one after which a process of another host counts as dead
ENDING = ".started"
PROGRESS = "progress.json"  # in the folder of the attempt's logs


@dataclass(frozen=True)
class Claim:
    """What the file says of the process that has begun an attempt."""

    host: str
    pid: int
    born: str  # when the process began, by the kernel's clock: a number may be that of another one by now
    started: float  # seconds since 1970

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def path_of(logs: Path) -> Path:
    """The claim to the attempt whose logs lie in the folder `attempt-N`."""
    return logs.with_name(logs.name + ENDING)


def take(path: Path) -> bool:
    """Claim an attempt for this process; False if another one has.

    Raises:
        StoreError: the disk is full or the place cannot be written.
    """
    claim = Claim(socket.gethostname(), os.getpid(), _born(os.getpid()), time.time())
    whole = path.with_name(f".tmp-{os.getpid()}-{uuid4().hex}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole.write_text(json.dumps(asdict(claim)), encoding="utf-8")
        path.hardlink_to(whole)  # it is there with what it says, or it is not there: a kill leaves nothing between
    except OSError as error:
        if isinstance(error, FileExistsError) and path.exists():
            return False
        raise StoreError(f"cannot write {path}: {error.strerror or error}.") from error
    finally:
        release(whole)
    return True


def beat(path: Path) -> None:
    """Show that the process that made a claim is alive; nothing if the claim is gone."""
    with suppress(OSError):
        os.utime(path)


def release(path: Path) -> None:
    """Give a claim back."""
    with suppress(OSError):
        path.unlink()


def holder(path: Path) -> Claim | None:
    """Whoever is at work by this claim; None if there is no such claim, or nobody is alive to keep it."""
    try:
        fresh = time.time() - path.stat().st_mtime < SILENT
    except OSError:
        return None
    claim = read(path) or Claim("?", 0, "", 0.0)  # damaged
    if claim.host == socket.gethostname():
        return claim if _born(claim.pid) == claim.born else None
    return claim if fresh else None


def claims_of(folder: Path, cell_id: str = "*") -> list[Path]:
    """The claims of a results folder, or to one cell of it, that are not followed by a record, in order."""
    found = (folder / "cells").glob(f"{cell_id}/attempt-*{ENDING}")
    return sorted(path for path in found if not path.with_suffix(".json").exists())


def progress(path: Path) -> str:
    """What the attempt of a claim says of itself, such as ": fit 12/100, loss 0.3"; "" if it says nothing."""
    try:
        told = json.loads((path.with_suffix("") / PROGRESS).read_text(encoding="utf-8"))
        loss = "" if told["loss"] is None else f", loss {told['loss']:.4g}"
        return f": {told['phase']} {told['batch']}/{told['batches'] or '?'}{loss}"
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def number_of(path: Path) -> int:
    """The number of the attempt that a claim is to."""
    return int(path.stem.split("-")[1])


def read(path: Path) -> Claim | None:
    """What a claim says; None if it is gone or says nothing."""
    try:
        return Claim(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _born(pid: int) -> str:
    """When a process of this host began; "" for one that is gone, "?" where the kernel does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "?"
