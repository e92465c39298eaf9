"""Data sets of anomalous images alone, each with a mask: only pixel metrics exist, and only zero-shot protocols.

A subclass says in which folders images and masks lie, in the order in which they are looked for.
"""

from pathlib import Path
from typing import ClassVar

from datamodules.components.base import AnomalyDataModule
from datamodules.components.layouts import names_below, pair_by_name
from datamodules.components.sample import DataError, Sample


class PixelLevelDataModule(AnomalyDataModule):
    """Every image is anomalous and tested; there is no normal one."""

    #: Pairs of folders below the root, images and masks, of which the first pair that is there counts.
    folders: ClassVar[tuple[tuple[str, str], ...]] = (("images", "masks"),)
    #: What a mask's stem has more than its image's.
    mask_suffix: ClassVar[str] = ""
    #: What the defect is called.
    defect: ClassVar[str]

    def normals(self, category: str) -> list[Sample]:
        return []

    def tests(self, category: str) -> list[Sample]:
        images, masks = self._there()
        named = {path: name.removesuffix(self.mask_suffix) for path, name in names_below(masks).items()}
        pairs = pair_by_name(names_below(images), named, masks)
        return [Sample(image, category, True, mask, self.defect) for image, mask in pairs.items()]

    def _there(self) -> tuple[Path, Path]:
        for images, masks in self.folders:
            if (self.root / images).is_dir() and (self.root / masks).is_dir():
                return self.root / images, self.root / masks
        wanted = " or ".join(f"{images}/ and {masks}/" for images, masks in self.folders)
        raise DataError(f"{self.root} must hold {wanted}. The data: {self.source}")
