"""From files to tensors: samples one by one, and batches of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.components.decoding import RegionRule, decode_image, decode_mask, decode_regions
from datamodules.components.pixel_cache import PixelCache
from datamodules.components.sample import Batch, Sample, UnlabelledBatch


class Item(NamedTuple):
    """One sample in memory, before it is batched."""

    image: Tensor  # (3, H, W) float32 in [0, 1]
    mask: Tensor  # (h, w) bool
    label: bool
    category: str
    path: str
    simulated: str = ""  # kind of anomaly that a method made of a normal image


class Regions(NamedTuple):
    """The regions of one mask, see `decode_regions`."""

    ids: Tensor  # (size, size) int32: 0 on normal pixels, else the number of the pixel's region
    found: int  # by the rule; "native" counts the vanished ones too
    vanished: tuple[int, ...]  # regions at the mask's own size that have no pixel left, whatever the rule; from 1


def read_image(path: Path, size: int, cache: PixelCache | None = None) -> Tensor:
    """One image, (3, size, size) float32 in [0, 1], RGB, resized as `decode_image` says.

    A `cache` of that size, if there is one, gives the same pixels faster.

    Raises:
        DataError: as `open_image`.
    """
    pixels = cache.get(path) if cache else None  # H W 3
    if pixels is None:
        pixels = decode_image(path, size)
        if cache:
            cache.put(path, pixels)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous().float() / 255


def read_mask(path: Path, size: int) -> Tensor:
    """One mask as a fit sees it, (size, size) bool, see `decode_mask`."""
    return torch.from_numpy(decode_mask(path, size))


def read_regions(path: Path, size: int, rule: RegionRule) -> Regions:
    """The regions of one mask as a test sees it, see `decode_regions`."""
    ids, found, vanished = decode_regions(path, size, rule)
    return Regions(torch.from_numpy(ids), found, vanished)


class SampleImages(Dataset[Item]):
    """Reads samples, images and masks as squares of side `size`; picklable, so that workers can take it along."""

    def __init__(self, samples: Sequence[Sample], root: Path, size: int, cache: PixelCache | None = None) -> None:
        self.samples, self.root, self.size, self.cache = list(samples), root, size, cache

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        sample = self.samples[index]
        if sample.mask is None:
            mask = torch.zeros(self.size, self.size, dtype=torch.bool)
        else:
            mask = read_mask(sample.mask, self.size)
        path = sample.image.relative_to(self.root).as_posix()
        return Item(read_image(sample.image, self.size, self.cache), mask, sample.anomalous, sample.category, path)


class UnlabelledImages(Dataset[tuple[Tensor, str, int]]):
    """Reads the images of samples and none of their labels; picklable, so that workers can take it along."""

    def __init__(self, samples: Sequence[Sample], image_size: int, cache: PixelCache | None = None) -> None:
        self.images = [(sample.image, sample.category) for sample in samples]
        self.image_size, self.cache = image_size, cache

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, str, int]:
        path, category = self.images[index]
        return read_image(path, self.image_size, self.cache), category, index


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
