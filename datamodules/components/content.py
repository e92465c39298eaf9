"""What files hold, as sha256: hashed once per content and remembered between runs, without importing torch.

A digest is taken from memory only where size, inode, time of change and time of the inode's change are all the same.
The kernel alone sets the last one, so that a file whose old time was put back is hashed again. The database is worth
nothing but time: where it is damaged it is made anew, where it is locked or cannot be written one does without.
"""

import atexit
import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeVar

from datamodules.components.roots import cache_folder
from datamodules.components.sample import DataError

DATABASE = "digests.sqlite"
BATCH = 256  # new digests that are written together
QUIET = 2 * 10**9  # ns since the last touch: a later write shows in the times, whose grain is 2 s at most
WAIT = 2.0  # seconds for the lock of another process
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)  # the last: a table of other columns
TABLE = (
    "CREATE TABLE IF NOT EXISTS digests"
    "(folder BLOB, name BLOB, stamp BLOB, digest BLOB, proof BLOB, PRIMARY KEY (folder, name)) WITHOUT ROWID"
)
T = TypeVar("T")


class _Known(NamedTuple):
    """What was found in a file, and its stamp when it was read."""

    stamp: bytes
    digest: bytes  # 64 hexadecimal digits


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hexadecimal digits; links are followed.

    A file that was touched in the last two seconds, or whose times lie in the future, is hashed but not remembered:
    the clock of a file system is too coarse to tell a second write from the first.

    Raises:
        DataError: the file is missing, no regular file or cannot be read.
    """
    try:
        return _store().digest(os.path.abspath(path))  # noqa: PTH100 (slower, and dots do not matter here)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def folder_digest(path: Path) -> str:
    """The sha256 over the sorted relative posix names and the digests of all regular files of a folder.

    Files at any depth count, hidden ones too, and links are followed; times, modes and empty folders do not count.

    Raises:
        DataError: the folder is missing or no folder, a link in it leads nowhere or back to a folder around it, or
            something in it cannot be read.
    """
    try:
        files = sorted(name for name, _ in entries(path) if not name.endswith(b"/"))
    except OSError as error:
        where = os.fsdecode(error.filename or path)
        raise DataError(f"the folder {path} cannot be read: {error.strerror or error} ({where}).") from error
    total = hashlib.sha256()
    for name in files:
        total.update(name + b"\0" + file_digest(path / os.fsdecode(name)).encode() + b"\n")
    return total.hexdigest()


def entries(root: Path) -> Iterator[tuple[bytes, os.stat_result]]:
    """Files and folders at any depth, hidden ones too, links followed: names relative to `root`, a folder's with "/".

    Raises:
        OSError: something cannot be read, or a link leads nowhere or back to a folder around it.
    """
    return _entries(os.fsencode(root), b"", ())


def flush() -> None:
    """Write the digests that are not yet on disk; happens by itself at the end of a process."""
    for store in _stores.values():
        store.write()


class _Store:
    """Digests in memory before a database; nothing of it is open between two calls, so a process may fork."""

    def __init__(self, database: Path) -> None:
        self.database, self.usable = database, True
        self.known: dict[bytes, dict[bytes, _Known]] = {}  # by folder, by name
        self.pending: dict[tuple[bytes, bytes], _Known] = {}

    def digest(self, path: str) -> str:
        """The digest of the file at an absolute path; OSError if it cannot be read."""
        found = os.stat(path)  # noqa: PTH116 (a Path costs more than the look)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"it is no regular file (mode {stat.filemode(found.st_mode)})")
        folder, name = os.path.split(os.fsencode(path))
        if folder not in self.known:
            self.known[folder] = self._load(folder)
        known = self.known[folder].get(name)
        if known is None or known.stamp != _stamp(found):
            known, settled = _read(path)
            if settled:
                self._keep(folder, name, known)
        return known.digest.decode()

    def write(self) -> None:
        """Put what is pending into the database."""
        rows = [(*key, *known, _proof(*key, *known)) for key, known in list(self.pending.items())]
        self.pending = {}
        if rows:
            self._attempt(lambda base: base.executemany("REPLACE INTO digests VALUES (?, ?, ?, ?, ?)", rows))

    def _keep(self, folder: bytes, name: bytes, known: _Known) -> None:
        self.known[folder][name] = self.pending[folder, name] = known
        if len(self.pending) >= BATCH:
            self.write()

    def _load(self, folder: bytes) -> dict[bytes, _Known]:
        query = "SELECT name, stamp, digest, proof FROM digests WHERE folder = ?"
        there = self.database.exists()  # asking makes an empty one
        rows = self._attempt(lambda base: base.execute(query, (folder,)).fetchall()) if there else None
        return {
            name: _Known(stamp, digest)
            for name, stamp, digest, proof in rows or ()
            if proof == _proof(folder, name, stamp, digest)
        }

    def _attempt(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """What `work` gives, or None; a damaged database is thrown away once, after another error none is used."""
        for turn in range(2 * self.usable):
            try:
                self.database.parent.mkdir(parents=True, exist_ok=True)
                with closing(sqlite3.connect(self.database, timeout=WAIT)) as base, base:
                    base.text_factory = bytes
                    base.execute(TABLE)
                    return work(base)
            except (sqlite3.Error, OSError) as error:
                damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED
                self.usable = turn == 0 and damaged and self._remove()
                if not self.usable:
                    break
        return None

    def _remove(self) -> bool:
        try:
            for ending in ("-journal", ""):  # a journal left behind would be played back into the next one
                self.database.with_name(self.database.name + ending).unlink(missing_ok=True)
        except OSError:
            return False
        return True


def _read(path: str) -> tuple[_Known, bool]:
    """What a file holds, and whether that may be remembered; a change from here on shows in the times."""
    now = time.time_ns()
    with open(path, "rb") as file:  # noqa: PTH123
        found = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest().encode()
    return _Known(_stamp(found), digest), now - max(found.st_mtime_ns, found.st_ctime_ns) >= QUIET


def _stamp(found: os.stat_result) -> bytes:
    return b"%d %d %d %d" % (found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


def _proof(*row: object) -> bytes:
    """Shows a row that the disk has altered: the database holds no sums of its own."""
    return hashlib.blake2b(repr(row).encode(), digest_size=8).digest()


def _entries(root: bytes, below: bytes, around: tuple[tuple[int, int], ...]) -> Iterator[tuple[bytes, os.stat_result]]:
    """What the folder `below` relative to `root` holds; `around` are the folders that hold it."""
    folder = os.path.join(root, below)  # noqa: PTH118
    found = os.stat(folder)  # noqa: PTH116
    own = (found.st_dev, found.st_ino)
    if own in around:
        raise OSError(0, "a link leads back to a folder around it", os.fsdecode(folder))
    with os.scandir(folder) as there:
        for entry in there:
            name, found = below + entry.name, os.stat(entry.path)  # noqa: PTH116 (entry.is_file hides a dead link)
            if stat.S_ISDIR(found.st_mode):
                yield name + b"/", found
                yield from _entries(root, name + b"/", (*around, own))
            elif stat.S_ISREG(found.st_mode):
                yield name, found


def _store() -> _Store:
    database = cache_folder().absolute() / DATABASE
    return _stores.get(database) or _stores.setdefault(database, _Store(database))


_stores: dict[Path, _Store] = {}
atexit.register(flush)
