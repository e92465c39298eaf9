"""From files to pixels, and the cheap look at a file before anything runs; without importing torch."""

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from datamodules.components.regions import label_regions
from datamodules.components.sample import DataError, Sample

#: Where the regions of a mask are looked for: in the resized mask or at its own size.
RegionRule = Literal["resized", "native"]
#: What Pillow raises on files that are missing, damaged, or no image.
UNREADABLE = (OSError, EOFError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
#: Formats that are read: others, such as EPS, would start another program.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")
LOSSY = ("JPEG", "WEBP")
#: How the modes of images with more than 8 bits per channel begin.
WIDE = ("I", "F")
ORIENTATION = 0x0112  # of EXIF
#: What the last bytes of a whole file hold.
END_MARKS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
#: Bytes at the end in which the mark is looked for: programs append a little after it.
TAIL = 1024


class Size(NamedTuple):
    """Pixels of an image as stored, Pillow's order."""

    width: int
    height: int


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image as it is shown, with at most 8 bits per channel; of several frames the first.

    What EXIF says of its orientation is applied. Grey values of 16 bits are divided by 257, so that the whole range
    becomes that of 8 bits, whatever part of it an image uses; float values must lie in [0, 1].

    Raises:
        DataError: the file is missing, damaged, or of none of the formats `FORMATS` (also when pixels are read inside
            the block), or holds values outside of these ranges.
    """
    with _stored(path) as image:
        if image.mode.startswith(WIDE):
            yield _narrow(path, image)
        elif _orientation(image) != 1:
            yield ImageOps.exif_transpose(image)
        else:
            yield image


@contextmanager
def _stored(path: Path) -> Iterator[Image.Image]:
    """An image as it lies in its file; DataError as `open_image`."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be read as an image: {error}. Read are {', '.join(FORMATS)}.") from error


def _orientation(image: Image.Image) -> int:
    """What EXIF says, from 1, as stored, to 8."""
    if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode all pixels to look behind them
        return 1
    said = image.getexif().get(ORIENTATION, 1)
    return said if said in range(1, 9) else 1


def _narrow(path: Path, image: Image.Image) -> Image.Image:
    """An image of 16-bit or float grey values as one of 8 bits."""
    values = np.array(image)
    most = 1.0 if image.mode.startswith("F") else 65535
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= most:
        raise DataError(f"{path} holds values from {low:g} to {high:g}: {image.mode} must lie in [0, {most:g}].")
    return Image.fromarray(np.rint(values * (255 / most)).astype(np.uint8))


def peculiarity(path: Path) -> str:
    """What is done to an image besides decoding, in words; "" for most. DataError as `open_image`."""
    found = path.stat()
    return _peculiarity(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=200_000)
def _peculiarity(path: Path, changed: int, length: int) -> str:
    with _stored(path) as image:
        if image.mode.startswith(WIDE):
            return "float values read as [0, 1]" if image.mode.startswith("F") else "16-bit values divided by 257"
        if _orientation(image) != 1:
            return "EXIF orientation applied"
        return "first of several frames read" if getattr(image, "n_frames", 1) > 1 else ""


def peculiarities(samples: Iterable[Sample]) -> list[str]:
    """What is done to how many of these images, such as "EXIF orientation applied: 3 of 80 images (a.jpg, …)"."""
    samples = list(samples)
    found: dict[str, list[str]] = {}
    for sample in samples:
        if words := peculiarity(sample.image):
            found.setdefault(words, []).append(sample.image.name)
    return [f"{words}: {len(its)} of {len(samples)} images ({its[0]}, …)" for words, its in found.items()]


def check_image(path: Path) -> Size:
    """The size, as shown, of an image whose header is sound and whose end is there; pixels are not decoded.

    A PNG must hold its IEND chunk near the end. A JPEG without its end mark there is decoded to decide, since
    cameras append data. Other formats are checked by their header alone; reading finds the rest.

    Raises:
        DataError: as `open_image`, or the file is truncated.
    """
    with _stored(path) as image:
        size = Size(*image.size)
        if image.mode.startswith(WIDE):
            _narrow(path, image)
        mark = END_MARKS.get(image.format or "")
        if mark and mark not in _tail(path):
            if image.format == "PNG":
                raise DataError(f"{path} is truncated: it has no IEND chunk at its end. Copy it again.")
            image.load()
        return Size(size.height, size.width) if _orientation(image) > 4 else size


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return file.read()


def decode_image(path: Path, size: int) -> np.ndarray:
    """One image, (size, size, 3) uint8, RGB.

    Resized bicubically with antialiasing to a square whatever its aspect ratio, as the papers do.

    Raises:
        DataError: as `open_image`.
    """
    with open_image(path) as image:
        return np.array(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))


def decode_mask(path: Path, size: int) -> np.ndarray:
    """One mask as a fit sees it, (size, size) bool; a test sees that of `decode_regions`.

    Pixels with any colour channel above 0 are marked (see `_marked`), the marks are resized bilinearly with
    antialiasing, and what is then above one half is True, as in released code that is fitted on masks (AnomalyCLIP,
    FAPrompt, APRIL-GAN). VisA's masks hold class ids of 1 and more, so no threshold but 0 is right; the colours are not
    mixed to grey, which would round a dark blue to 0. A region thinner than a pixel of `size` may vanish.

    Raises:
        DataError: as `open_image`.
    """
    marks = Image.fromarray(_marked(path).astype(np.uint8) * 255)
    return np.asarray(np.array(marks.resize((size, size), Image.Resampling.BILINEAR)) > 127)


def decode_regions(path: Path, size: int, rule: RegionRule) -> tuple[np.ndarray, int, tuple[int, ...]]:
    """The regions of one mask, resized by nearest neighbour; the same pixels are above 0 under either rule.

    Args:
        path: of the mask.
        size: side of the result, pixels.
        rule: "resized" looks for regions in the resized mask, as published code does: a thin scratch falls into
            pieces that count one by one, and neighbours may merge. "native" looks for them at the mask's own size.

    Returns:
        ids: (size, size) int32, 0 on normal pixels, else the number of the pixel's region.
        found: regions by the rule; "native" counts the vanished ones too.
        vanished: numbers from 1 of the regions at the mask's own size that have no pixel left, whatever the rule.

    Raises:
        DataError: as `open_image`.
    """
    own = label_regions(_marked(path))  # (H, W)
    native = _nearest(own, size)
    there = int(own.max(initial=0))
    vanished = np.flatnonzero(np.bincount(native.ravel(), minlength=there + 1)[1:] == 0) + 1
    ids = native if rule == "native" else label_regions(native > 0)
    found = there if rule == "native" else int(ids.max(initial=0))
    return ids, found, tuple(vanished.tolist())


def marks_anything(path: Path) -> bool:
    """Whether a mask marks any pixel; DataError as `open_image`."""
    return bool(_marked(path).any())


def _marked(path: Path) -> np.ndarray:
    """Where a mask marks a pixel, (H, W) bool.

    Any colour channel above 0 marks it; of formats that lose something, above one half, since their noise is no mark.
    Where all colours are equal everywhere and there is an alpha channel that is not, alpha marks.
    """
    with _stored(path) as stored:  # before it is narrowed: the lowest of 16 bits may be a mark
        if stored.mode.startswith(WIDE):
            return np.asarray(np.array(stored) > 0)
        lossy = stored.format in LOSSY
    with open_image(path) as image:
        colours = np.array(image.convert("RGB"))
        if image.has_transparency_data and (colours == colours[:1, :1]).all():
            alpha = np.array(image.convert("RGBA").getchannel("A"))
            if alpha.min(initial=255) != alpha.max(initial=0):
                return np.asarray(alpha > 0)
    return np.asarray((colours > (127 if lossy else 0)).any(axis=2))


def _nearest(values: np.ndarray, size: int) -> np.ndarray:
    """Values (H, W) of uint8 or int32 under the middles of size x size pixels."""
    return np.array(Image.fromarray(values).resize((size, size), Image.Resampling.NEAREST))
