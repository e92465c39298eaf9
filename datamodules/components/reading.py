"""From files to tensors, and the cheap look at a file before anything runs."""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.components.regions import label_regions
from datamodules.components.sample import Batch, DataError, Sample, UnlabelledBatch

#: Where the regions of a mask are looked for: in the resized mask or at its own size.
RegionRule = Literal["resized", "native"]
#: What Pillow raises on files that are missing, damaged, or no image.
UNREADABLE = (OSError, EOFError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
#: What the last bytes of a whole file hold.
END_MARKS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
#: Bytes at the end in which the mark is looked for: programs append a little after it.
TAIL = 1024


class Size(NamedTuple):
    """Pixels of an image as stored, Pillow's order."""

    width: int
    height: int


class Item(NamedTuple):
    """One sample in memory, before it is batched."""

    image: Tensor  # (3, H, W) float32 in [0, 1]
    mask: Tensor  # (h, w) bool
    label: bool
    category: str
    path: str
    simulated: str = ""  # kind of anomaly that a method made of a normal image


class Regions(NamedTuple):
    """The regions of one mask."""

    ids: Tensor  # (size, size) int32: 0 on normal pixels, else the number of the pixel's region
    found: int  # by the rule; "native" counts the vanished ones too
    vanished: tuple[int, ...]  # regions at the mask's own size that have no pixel left, whatever the rule; from 1


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image with at most 8 bits per channel; pixels are read when they are asked for.

    Raises:
        DataError: the file is missing, damaged or no image (also when pixels are read inside the block), or
            holds 16-bit or float grey values, which a conversion to RGB would clip silently.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(
                    f"{path} has Pillow mode {image.mode!r}: 16-bit and float values would be clipped. "
                    "Convert it to 8 bit per channel."
                )
            yield image
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be read as an image: {error}.") from error


def check_image(path: Path) -> Size:
    """The size of an image whose header is sound and whose end is there; pixels are not decoded.

    A PNG must hold its IEND chunk near the end. A JPEG without its end mark there is decoded to decide, since
    cameras append data. Other formats are checked by their header alone; reading finds the rest.

    Raises:
        DataError: as `open_image`, or the file is truncated.
    """
    with open_image(path) as image:
        size = Size(*image.size)
        mark = END_MARKS.get(image.format or "")
        if mark and mark not in _tail(path):
            if image.format == "PNG":
                raise DataError(f"{path} is truncated: it has no IEND chunk at its end. Copy it again.")
            image.load()
    return size


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return file.read()


def read_image(path: Path, size: int) -> Tensor:
    """One image, (3, size, size) float32 in [0, 1], RGB.

    Resized bicubically with antialiasing to a square whatever its aspect ratio, as the papers do. EXIF
    orientation is not applied: masks are annotated on the stored pixels.

    Raises:
        DataError: as `open_image`.
    """
    with open_image(path) as image:
        pixels = np.array(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))  # (H, W, 3)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float() / 255


def read_mask(path: Path, size: int) -> Tensor:
    """One mask as a fit sees it, (size, size) bool; a test sees that of `read_regions`.

    Pixels with any colour channel above 0 are marked, the marks are resized bilinearly with antialiasing, and what is
    then above one half is True, as in released code that is fitted on masks (AnomalyCLIP, FAPrompt, APRIL-GAN). VisA's
    masks hold class ids of 1 and more, so no threshold but 0 is right; the colours are not mixed to grey, which would
    round a dark blue to 0. A region thinner than a pixel of `size` may vanish.

    Raises:
        DataError: as `open_image`.
    """
    marks = Image.fromarray(_marked(path).astype(np.uint8) * 255)
    return torch.from_numpy(np.array(marks.resize((size, size), Image.Resampling.BILINEAR))) > 127


def read_regions(path: Path, size: int, rule: RegionRule) -> Regions:
    """The regions of one mask, resized by nearest neighbour; `ids > 0` marks the same pixels under either rule.

    Args:
        path: of the mask.
        size: side of the result, pixels.
        rule: "resized" looks for regions in the resized mask, as published code does: a thin scratch falls into
            pieces that count one by one, and neighbours may merge. "native" looks for them at the mask's own size.

    Raises:
        DataError: as `open_image`.
    """
    own = label_regions(_marked(path))  # (H, W)
    native = _nearest(own, size)
    there = int(own.max(initial=0))
    vanished = np.flatnonzero(np.bincount(native.ravel(), minlength=there + 1)[1:] == 0) + 1
    ids = native if rule == "native" else label_regions(native > 0)
    found = there if rule == "native" else int(ids.max(initial=0))
    return Regions(torch.from_numpy(ids), found, tuple(vanished.tolist()))


def _marked(path: Path) -> np.ndarray:
    """Where any colour channel of a mask is above 0, (H, W) bool."""
    with open_image(path) as image:
        return np.asarray(np.array(image.convert("RGB")).any(axis=2))


def _nearest(values: np.ndarray, size: int) -> np.ndarray:
    """Values (H, W) of uint8 or int32 under the middles of size x size pixels."""
    return np.array(Image.fromarray(values).resize((size, size), Image.Resampling.NEAREST))


class SampleImages(Dataset[Item]):
    """Reads samples, images and masks as squares of side `size`; picklable, so that workers can take it along."""

    def __init__(self, samples: Sequence[Sample], root: Path, size: int) -> None:
        self.samples, self.root, self.size = list(samples), root, size

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        sample = self.samples[index]
        if sample.mask is None:
            mask = torch.zeros(self.size, self.size, dtype=torch.bool)
        else:
            mask = read_mask(sample.mask, self.size)
        path = sample.image.relative_to(self.root).as_posix()
        return Item(read_image(sample.image, self.size), mask, sample.anomalous, sample.category, path)


class UnlabelledImages(Dataset[tuple[Tensor, str, int]]):
    """Reads the images of samples and none of their labels; picklable, so that workers can take it along."""

    def __init__(self, samples: Sequence[Sample], image_size: int) -> None:
        self.images = [(sample.image, sample.category) for sample in samples]
        self.image_size = image_size

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, str, int]:
        path, category = self.images[index]
        return read_image(path, self.image_size), category, index


def collate_unlabelled(items: Sequence[tuple[Tensor, str, int]]) -> UnlabelledBatch:
    """Stack B items."""
    images, categories, index = zip(*items, strict=True)
    return UnlabelledBatch(torch.stack(images), list(categories), torch.tensor(index))


def collate(items: Sequence[Item]) -> Batch:
    """Stack B items."""
    return Batch(
        image=torch.stack([item.image for item in items]),
        mask=torch.stack([item.mask for item in items]),
        label=torch.tensor([item.label for item in items]),
        category=[item.category for item in items],
        path=[item.path for item in items],
        simulated=[item.simulated for item in items],
    )
