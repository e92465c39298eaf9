"""Fetches the archive of a data set: goes on where it was cut, proves it by its hash, tries mirror after mirror."""

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock

from datamodules.components.sample import DataError

CHUNK = 1 << 20
PATIENCE = 30.0  # seconds without a byte
PARTIAL = ".part"
Progress = Callable[[int, int | None], None]  # bytes that are there, and of how many where the server says


def fetch(name: str, urls: Iterable[str], sha256: str, folder: Path, progress: Progress) -> Path:
    """The archive, whole, in a folder.

    A file of that name that is there already is taken if its hash is right, and gone on with if it is not whole. Of
    two processes the second waits for the first.

    Args:
        name: of the file.
        urls: where it can be had, tried in this order.
        sha256: of the file, 64 hexadecimal digits.
        folder: where it goes; made if it is missing.
        progress: called as bytes arrive.

    Raises:
        DataError: no mirror gives the file, what they give has another hash, or the disk takes no more.
    """
    file, partial = folder / name, folder / f"{name}{PARTIAL}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{name}.lock"):
            if file.is_file() and not _is(file, sha256):
                file.replace(partial)  # cut off, or another file: the hash decides once it is whole
            if not file.is_file():
                _from_some_mirror(name, urls, sha256, partial, progress)
                partial.replace(file)
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror or error}.") from error
    return file


def _from_some_mirror(name: str, urls: Iterable[str], sha256: str, partial: Path, progress: Progress) -> None:
    said = []
    for url in urls:
        try:
            for fresh in (False, True):  # what is there may be no beginning of this file
                if fresh:
                    partial.unlink(missing_ok=True)
                whole = partial.is_file() and _is(partial, sha256)
                if not whole:
                    _transfer(url, partial, progress)
                if whole or _is(partial, sha256):
                    return
            said.append(f"{url} gives a file with another sha256 than {sha256[:12]}…")
            partial.unlink(missing_ok=True)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
            said.append(f"{url}: {getattr(error, 'reason', None) or error}")
    raise DataError(f"{name} cannot be had: {'; '.join(said) or 'no address is known'}. Run the command again later.")


def _transfer(url: str, partial: Path, progress: Progress) -> None:
    """Append to a file what it lacks, beginning again where a connection is cut as long as bytes arrive."""
    while True:
        start = partial.stat().st_size if partial.is_file() else 0
        total = _request(url, partial, start, progress)
        there = partial.stat().st_size
        if total is None or there >= total:
            return
        if there == start:
            raise ConnectionError(f"it was cut after {there} of {total} bytes")


def _request(url: str, partial: Path, start: int, progress: Progress) -> int | None:
    """Append to a file from byte `start` on; returns the whole length where the server says it."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urllib.request.urlopen(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send
            return start
        raise
    with answer:
        goes_on = answer.status == 206
        length = answer.headers.get("Content-Length")
        there = start if goes_on else 0
        total = there + int(length) if length else None
        with partial.open("ab" if goes_on else "wb") as file:
            try:
                while block := answer.read(CHUNK):
                    file.write(block)
                    there += len(block)
                    progress(there, total)
            except (http.client.IncompleteRead, TimeoutError, ConnectionError) as error:
                file.write(getattr(error, "partial", b""))
    return total


def _is(file: Path, sha256: str) -> bool:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == sha256
