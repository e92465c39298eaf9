"""The test images of a data set on disk, found by the names that predictions call them by."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.request import registry
from benchmark.request.cell import Cell, canonical
from benchmark.request.on_disk import load_datamodule
from datamodules.components.content import file_digest
from datamodules.components.decoding import decode_regions, open_image
from datamodules.components.sample import DataError, Sample

MASK_SIDE = 512  # px at which masks are read: a thumbnail marks all that is left there


class Picture(NamedTuple):
    """One test image, small, and its truth."""

    pixels: NDArray[np.uint8]  # (h, w, 3) RGB
    marked: NDArray[np.bool_] | None  # (MASK_SIDE, MASK_SIDE), of the whole image; None where there is no mask


class Images:
    """The images of the data sets that were opened so far. Opening one imports what its datamodule imports."""

    def __init__(self) -> None:
        self._samples: dict[str, Mapping[str, Sample]] = {}

    def read(self, cell: Cell, name: str, content: str, side: int) -> Picture:
        """A test image of a cell with its longest side scaled to `side` px, unless it is smaller.

        Args:
            cell: with the place of its data set.
            name: of the file, relative to the root.
            content: its sha256.
            side: px.

        Raises:
            DataError: the data set or the file is not there, is another one than was tested, or cannot be read.
        """
        place = canonical([cell.dataset, cell.where.root, cell.settings.dataset, cell.categories])
        if place not in self._samples:
            self._samples[place] = _samples(cell)
        sample = self._samples[place].get(name)
        if sample is None:
            raise DataError(f"{name} is no test image of {cell.dataset} on this machine.")
        if file_digest(sample.image) != content:
            raise DataError(f"{sample.image} is another file than the one that was tested.")
        with open_image(sample.image) as image:
            scale = min(1.0, side / max(image.size))
            size = [max(1, round(length * scale)) for length in image.size]
            pixels = np.array(image.convert("RGB").resize((size[0], size[1]), Image.Resampling.BICUBIC))
        ids = decode_regions(sample.mask, MASK_SIDE, "resized")[0] if sample.mask else None
        return Picture(pixels, None if ids is None else ids > 0)


def _samples(cell: Cell) -> dict[str, Sample]:
    """The test images of a cell's categories by name; none is made that is not on disk."""
    facts = registry.dataset(cell.dataset)
    cls: Any = load_datamodule(facts)
    root: Path | None = registry.data_root(facts, cell.where.root)
    data = cls(root, cell.categories, image_size=MASK_SIDE, config=cls.Config(**cell.settings.dataset))
    if not data.root.is_dir():
        raise DataError(f"{cell.dataset} is not on this machine: {data.root} is no folder.")
    return {data.relative(sample.image): sample for category in data.chosen for sample in data.tests(category)}
