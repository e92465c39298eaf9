"""Features of frozen, prompt-free image passes, kept on disk: computed once, shared by methods, seeds and processes.

An entry is the answer to one request for one image. Its key is a hash of everything the answer depends on, so a
store never has to be told that something changed: a changed model, request or pixel has another key.
"""

import hashlib
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from methods.components.feature_store.entry import (
    TEMPORARY,
    DamagedEntryError,
    Entry,
    Stamp,
    encode_entry,
    read_entry,
    write_entry,
)

_SUFFIX = ".features"
_FOLDER = re.compile(r"[0-9a-f]{2}")
_OURS = re.compile(rf"[0-9a-f]{{64}}(\.\d+-[0-9a-f]{{8}}{re.escape(TEMPORARY)}|{re.escape(_SUFFIX)})")
_TOUCH_AFTER = 60.0  # seconds; reads of an entry closer than that count as one use
_ABANDONED_AFTER = 3600.0  # seconds; a temporary file that old has no writer any more
_KEEP = 0.9  # fraction of `max_bytes` that is left when room is made, so that it is not made for each entry
_LOOK_AFTER = 1 / 16  # fraction of `max_bytes` written before other processes' files are counted again


class FeatureCounts(NamedTuple):
    """What a store did in this process, in images and files."""

    hits: int
    misses: int
    evicted: int
    damaged: int


class _StoredFile(NamedTuple):
    used: float  # seconds since the epoch
    size: int  # bytes
    path: Path


class FeatureStore:
    """Answers computed before, on disk, shared by any number of processes.

    What is promised: an answer is never torn, truncated, foreign or stale. Images whose batch was computed as a whole
    get the bits they would get without a store. An image that was computed in another batch, or by another machine
    that shares the folder, may differ by the rounding of the matrix kernels (about 1e-7 in unit features).

    The folder holds up to `max_bytes` of entries, those used longest ago leave first; n processes that write at once
    may together exceed that by n / 16. Files that are not named like entries are neither read, counted nor removed.
    """

    def __init__(self, folder: Path, max_bytes: int, code: str = "") -> None:
        """Use `folder`, which need not exist, for up to `max_bytes` bytes.

        `code` names the code that computes: what another one computed is not found.

        Raises:
            ValueError: `folder` is a file, or `max_bytes` is not positive.
        """
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"The feature store needs a folder; got the file {folder}.")
        if max_bytes <= 0:
            raise ValueError(f"The feature store needs a positive size in bytes; got {max_bytes}.")
        self.folder = folder
        self.max_bytes, self.code = max_bytes, code
        self._hits = self._misses = self._evicted = self._damaged = 0
        self._verified: dict[str, Stamp] = {}
        self._used = max_bytes  # bytes; full until looked at
        self._written = 0  # bytes since the folder was looked at
        self._writing = True
        self._since_mark: list[Path] = []

    @property
    def counts(self) -> FeatureCounts:
        """Images found and not found, files evicted and found damaged, since the store was opened."""
        return FeatureCounts(self._hits, self._misses, self._evicted, self._damaged)

    def recall(
        self, images: Tensor, request: str, compute: Callable[[Tensor], Sequence[Tensor]], batch_dims: Sequence[int]
    ) -> tuple[Tensor, ...]:
        """The answer of `compute` to `images`, computed only for the images it is not known for.

        Args:
            images: (B, ...) of any device; their float32 values are part of the keys.
            request: names everything but the images that the answer depends on.
            compute: float32 tensors without gradients for some of the images, in their order.
            batch_dims: dimension of each of these tensors that counts the images.

        Returns:
            What `compute(images)` returns, on the device of `images`.
        """
        keys = self._keys(images, request)
        rows = [self._read(key) for key in keys]
        unknown = [index for index, row in enumerate(rows) if row is None]
        self._hits += len(keys) - len(unknown)
        self._misses += len(unknown)
        if len(unknown) == len(keys):
            computed = tuple(compute(images))
            self._keep(keys, computed, batch_dims)
            return computed
        if unknown:
            computed = tuple(compute(images[unknown]))
            self._keep([keys[index] for index in unknown], computed, batch_dims)
            for row, index in enumerate(unknown):
                rows[index] = _select(computed, batch_dims, row)
        parts = zip(*(row for row in rows if row is not None), strict=True)
        return tuple(
            torch.stack([tensor.to(images.device) for tensor in part], dim=dim)
            for part, dim in zip(parts, batch_dims, strict=True)
        )

    def mark(self) -> None:
        """Begin to note which entries this process writes, in case they must be taken back."""
        self._since_mark.clear()

    def forget(self) -> int:
        """Remove the entries that this process wrote since the mark; how many.

        Their keys name the model as it was loaded; what a method that altered it has written there is false.

        Raises:
            OSError: an entry cannot be removed.
        """
        count = len(set(self._since_mark))
        while self._since_mark:
            self._since_mark[-1].unlink(missing_ok=True)
            self._since_mark.pop()
        return count

    def _keys(self, images: Tensor, request: str) -> list[str]:
        common = hashlib.sha256(repr((self.code, tuple(images.shape[1:]), request)).encode())
        keys = []
        for pixels in images.detach().to("cpu", torch.float32):  # one transfer for the batch
            key = common.copy()
            key.update(pixels.contiguous().numpy())
            keys.append(key.hexdigest())
        return keys

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{_SUFFIX}"

    def _read(self, key: str) -> tuple[Tensor, ...] | None:
        """The entry of `key`, or None. Only its first read in this process compares the checksum."""
        path = self._path(key)
        try:
            entry = read_entry(path, key, self._verified.get(key))
        except DamagedEntryError:
            self._damaged += 1
            _remove(path)
            return None
        except OSError:  # most often there is none
            return None
        self._verified[key] = entry.stamp
        _touch(path, entry)
        return entry.tensors

    def _keep(self, keys: Sequence[str], computed: Sequence[Tensor], batch_dims: Sequence[int]) -> None:
        """Write an entry for each image. The first failure is warned of and ends all writing of this process."""
        if not self._writing:
            return
        on_cpu = [tensor.detach().cpu() for tensor in computed]
        try:
            for row, key in enumerate(keys):
                self._write(self._path(key), encode_entry(key, _select(on_cpu, batch_dims, row)))
        except OSError as error:
            self._writing = False
            warnings.warn(
                f"The feature store {self.folder} takes no more features of this run, which goes on without: {error}",
                stacklevel=2,
            )

    def _write(self, path: Path, buffers: Sequence[Any]) -> None:
        size = sum(len(part) for part in buffers)
        self._make_room(size)
        write_entry(path, buffers)
        self._since_mark.append(path)
        self._used += size
        self._written += size

    def _make_room(self, size: int) -> None:
        """Remove the entries used longest ago until `size` more bytes fit; OSError if they cannot fit."""
        if self._used + size <= self.max_bytes and self._written <= _LOOK_AFTER * self.max_bytes:
            return
        files = sorted(self._files())
        self._used, self._written = sum(file.size for file in files), 0
        if self._used + size <= self.max_bytes:
            return
        for file in files:
            if self._used + size <= _KEEP * self.max_bytes:
                break
            if file.path.suffix == _SUFFIX and _remove(file.path):
                self._used -= file.size
                self._evicted += 1
        if self._used + size > self.max_bytes:
            raise OSError(f"{size} more bytes do not fit into its limit of {self.max_bytes}")

    def _files(self) -> Iterator[_StoredFile]:
        """Entries and temporary files of living writers; those of dead ones are removed."""
        with suppress(FileNotFoundError):
            for folder in self.folder.iterdir():
                if _FOLDER.fullmatch(folder.name) and folder.is_dir():
                    with suppress(FileNotFoundError):
                        yield from _files_in(folder)


def _select(tensors: Sequence[Tensor], batch_dims: Sequence[int], row: int) -> tuple[Tensor, ...]:
    """The part of one image, `row`."""
    return tuple(tensor.select(dim, row) for tensor, dim in zip(tensors, batch_dims, strict=True))


def _files_in(folder: Path) -> Iterator[_StoredFile]:
    with os.scandir(folder) as listed:
        for item in listed:
            if not _OURS.fullmatch(item.name):
                continue
            with suppress(FileNotFoundError):  # another process removed it
                status = item.stat(follow_symlinks=False)
                path = Path(item.path)
                abandoned = path.suffix == TEMPORARY and time.time() - status.st_mtime > _ABANDONED_AFTER
                if not (abandoned and _remove(path)):
                    yield _StoredFile(status.st_atime, status.st_size, path)


def _remove(path: Path) -> bool:
    """Whether the file is gone."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _touch(path: Path, entry: Entry) -> None:
    """Note in the access time that the entry was used; the modification time, part of its stamp, stays."""
    now = time.time()
    if now - entry.used > _TOUCH_AFTER:
        with suppress(OSError):  # a folder that is only readable has no order of use
            os.utime(path, ns=(int(now * 1e9), entry.stamp.written))
