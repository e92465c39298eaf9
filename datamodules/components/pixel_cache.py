"""Images that were decoded and resized once, as they were then: reading a large photograph is most of a fast test.

An entry is known by the bytes of its file, the side of the square and the rule of reading, so it is never of another
image; its last bytes prove that it is whole. What cannot be kept is decoded: a full disk or a strange file costs time
alone. Several processes share it; the least recently used go.
"""

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np

from datamodules.components.content import file_digest
from datamodules.components.roots import cache_folder
from datamodules.components.sample import DataError

VERSION = 1  # of the rule by which pixels are read
PROOF = 16  # bytes at the end
SPARE = 4  # times its limit that a disk must have free for the cache to be used
WORTH = 16  # a file of less than a sixteenth of its square's bytes is read about as fast as the square
SWEEP = 256  # new entries after which old ones are looked for
GIB = 2**30


class PixelCache:
    """Squares of one side; picklable, so that workers can take it along."""

    def __init__(self, size: int, max_gib: float) -> None:
        """Use at most so many GiB below the cache folder; nothing where the disk has less than `SPARE` times that."""
        self.folder = cache_folder() / "pixels" / f"{size}-v{VERSION}"
        self.shape = (size, size, 3)
        self.limit = int(max_gib * GIB)
        self.usable = self.limit > 0 and self._disk_has_room()
        self._new = 0

    def get(self, path: Path) -> np.ndarray | None:
        """The pixels of a file, (size, size, 3) uint8; None if they are not kept."""
        if not self.usable:
            return None
        try:
            entry = self._entry(path)
            content = entry.read_bytes()
            os.utime(entry)
        except (OSError, DataError):
            return None
        pixels, proof = content[:-PROOF], content[-PROOF:]
        if len(pixels) != np.prod(self.shape) or _prove(pixels) != proof:
            with suppress(OSError):
                entry.unlink()
            return None
        return np.frombuffer(pixels, np.uint8).reshape(self.shape)

    def put(self, path: Path, pixels: np.ndarray) -> None:
        """Keep the pixels of a file."""
        if not self.usable:
            return
        content = pixels.tobytes()
        try:
            if path.stat().st_size * WORTH < len(content):
                return
            entry = self._entry(path)
            entry.parent.mkdir(parents=True, exist_ok=True)
            partial = entry.with_name(f".tmp-{os.getpid()}-{entry.name}")
            partial.write_bytes(content + _prove(content))
            partial.replace(entry)
        except (OSError, DataError):
            self.usable = False
            return
        self._new += 1
        if self._new % SWEEP == 0:
            self._sweep()

    def _entry(self, path: Path) -> Path:
        digest = file_digest(path)
        return self.folder / digest[:2] / digest

    def _disk_has_room(self) -> bool:
        place = self.folder
        while not place.exists():
            place = place.parent
        with suppress(OSError):
            return shutil.disk_usage(place).free > SPARE * self.limit and os.access(place, os.W_OK)
        return False

    def _sweep(self) -> None:
        """Remove the entries, of any side, that were not used for longest, until a tenth of the limit is free."""
        found = []
        for entry in self.folder.parent.rglob("*"):
            with suppress(OSError):
                its = entry.stat()
                if entry.is_file():
                    found.append((its.st_mtime, its.st_size, entry))
        total = sum(size for _, size, _ in found)
        for _, size, entry in sorted(found):
            if total <= 0.9 * self.limit:
                break
            with suppress(OSError):
                entry.unlink()
            total -= size


def _prove(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=PROOF).digest()
