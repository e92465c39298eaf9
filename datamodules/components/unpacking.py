"""Unpacks the archive of a data set where it belongs: whole or not at all, and nothing outside of the folder."""

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from datamodules.components.sample import DataError

#: Images hardly shrink; an archive that holds more than so many times its size would fill the disk.
MOST = 100
CHUNK = 1 << 20
UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


class _Member(NamedTuple):
    """A regular file of an archive."""

    name: str
    content: IO[bytes]


def unpack(archive: Path, root: Path) -> None:
    """Unpack an archive so that its content is the folder `root`, which must be missing or empty.

    A single folder that holds everything becomes the root itself. Until it is whole it lies beside it, so a process
    that is killed leaves no half of a data set.

    Raises:
        DataError: the archive is no .zip or .tar, is damaged, holds a name that leads elsewhere, a link or a device, or
            would grow beyond `MOST` times its size; the disk is full.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root} must be missing or empty for {archive.name} to be unpacked there.")
    beside = root.with_name(f".unpacking-{root.name}")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        _extract(archive, beside)
        tops = list(beside.iterdir())
        if root.exists():
            root.rmdir()
        (tops[0] if len(tops) == 1 and tops[0].is_dir() else beside).replace(root)
    except UNREADABLE as error:
        raise DataError(f"{archive} is damaged or no archive: {error}. Remove it and run the command again.") from error
    except OSError as error:
        raise DataError(f"{archive} cannot be unpacked to {root}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _extract(archive: Path, target: Path) -> None:
    left = MOST * archive.stat().st_size
    seen: set[str] = set()
    for member in _zip(archive) if zipfile.is_zipfile(archive) else _tar(archive):
        path = target / _inside(archive, member.name)
        if member.name.casefold() in seen:
            raise DataError(f"{archive} holds {member.name!r} twice.")
        seen.add(member.name.casefold())
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            while block := member.content.read(CHUNK):
                left -= len(block)
                if left < 0:
                    raise DataError(f"{archive} would grow to more than {MOST} times its size: it is not unpacked.")
                file.write(block)


def _zip(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for its in opened.infolist():
            if its.external_attr >> 28 == 0o12:
                raise DataError(f"{archive} holds the link {its.filename!r}: it is not unpacked.")
            if not its.is_dir():
                with opened.open(its) as content:
                    yield _Member(its.filename, content)


def _tar(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as opened:
        for its in opened:
            content = opened.extractfile(its) if its.isreg() else None
            if content is not None:
                yield _Member(its.name, content)
            elif not its.isdir():
                raise DataError(f"{archive} holds {its.name!r}, which is no regular file: it is not unpacked.")


def _inside(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise DataError(f"{archive} holds {name!r}, which leads out of its folder: it is not unpacked.")
    return path
