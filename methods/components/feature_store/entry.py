"""One file of the feature store: written whole, and anything that is not whole is recognised.

Layout, little-endian: magic (8 bytes), CRC-32 of all that follows it (4), length of the header (4), the header (JSON,
padded with blanks to a multiple of 64 bytes), then the float32 numbers of each tensor in raster order.
"""

import json
import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple

import torch
from torch import Tensor

MAGIC = b"ADFEAT1\n"
TEMPORARY = ".tmp"  # suffix of a file that is not whole yet
_START = struct.Struct("<8sII")
_CHECKED_FROM = 12  # bytes; the checksum covers all that follows it
_ALIGNMENT = 64  # bytes
_FLOAT32 = 4  # bytes


class DamagedEntryError(Exception):
    """A file is no whole entry of the key it is named after."""


class Stamp(NamedTuple):
    """Tells one version of a file from another."""

    inode: int
    size: int  # bytes
    written: int  # nanoseconds


class Entry(NamedTuple):
    """What a file holds."""

    tensors: tuple[Tensor, ...]  # float32 on the CPU, mapped from the file: copy before keeping
    stamp: Stamp
    used: float  # seconds since the epoch


def encode_entry(key: str, tensors: Sequence[Tensor]) -> list[Any]:
    """The buffers of a file that holds `tensors`, float32 of any shape and device, under `key`.

    Raises:
        TypeError: a tensor is not float32.
    """
    wrong = [str(t.dtype) for t in tensors if t.dtype != torch.float32]
    if wrong:
        raise TypeError(f"The feature store holds torch.float32; got {wrong[0]}.")
    shapes = [list(t.shape) for t in tensors]
    text = json.dumps({"key": key, "dtype": "float32", "shapes": shapes}).encode()
    header = text.ljust(-(-(_START.size + len(text)) // _ALIGNMENT) * _ALIGNMENT - _START.size)
    numbers: list[Any] = [t.detach().cpu().reshape(-1).view(torch.uint8).numpy() for t in tensors]
    checksum = zlib.crc32(header, zlib.crc32(struct.pack("<I", len(header))))
    for part in numbers:
        checksum = zlib.crc32(part, checksum)
    return [_START.pack(MAGIC, checksum, len(header)), header, *numbers]


def write_entry(path: Path, buffers: Sequence[Any]) -> None:
    """Put `buffers` at `path` in one step; whoever reads meanwhile sees the former file or none.

    Nothing is flushed to the disk: that survives `kill -9`, and what a power cut leaves fails its checksum.

    Raises:
        OSError: the disk is full, the folder is not writable, and the like; no part of the file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.{os.getpid()}-{token_hex(4)}{TEMPORARY}")
    try:
        with temporary.open("xb") as file:
            for part in buffers:
                file.write(part)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_entry(path: Path, key: str, verified: Stamp | None) -> Entry:
    """Map the entry of `key`. The checksum is compared unless the file still has the stamp `verified`.

    Raises:
        DamagedEntryError: the file is truncated, altered, of another key or no entry at all.
        OSError: there is none, or it cannot be read.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        stamp = Stamp(status.st_ino, status.st_size, status.st_mtime_ns)
        try:
            mapped = mmap.mmap(file.fileno(), stamp.size, access=mmap.ACCESS_COPY)  # outlives the file's removal
            tensors = _decode(mapped, key, check=stamp != verified)
        except (ValueError, KeyError, TypeError, RecursionError, struct.error) as error:
            raise DamagedEntryError(f"{path} is damaged: {error}") from error
    return Entry(tensors, stamp, status.st_atime)


def _decode(mapped: mmap.mmap, key: str, *, check: bool) -> tuple[Tensor, ...]:
    """Tensors of a mapped file; any of ValueError, KeyError, TypeError and struct.error if it is not whole."""
    magic, checksum, length = _START.unpack_from(mapped)
    if magic != MAGIC:
        raise ValueError("bad magic bytes")
    if check and zlib.crc32(memoryview(mapped)[_CHECKED_FROM:]) != checksum:
        raise ValueError("checksum mismatch")
    offset = _START.size + length
    header = json.loads(mapped[_START.size : offset])
    if header["key"] != key or header["dtype"] != "float32":
        raise ValueError(f"holds {header['dtype']} of {header['key']}")
    sizes = [prod(shape) for shape in header["shapes"]]
    if offset + _FLOAT32 * sum(sizes) != len(mapped):
        raise ValueError("length mismatch")
    tensors = []
    for size, shape in zip(sizes, header["shapes"], strict=True):
        numbers = torch.frombuffer(mapped, dtype=torch.float32, count=size, offset=offset) if size else torch.empty(0)
        tensors.append(numbers.view(shape))
        offset += _FLOAT32 * size
    return tuple(tensors)
