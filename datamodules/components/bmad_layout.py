"""BMAD's data sets: six medical ones in one layout, or in the one of anomalib's archive, which renames folders.

<root>/train/good[/img], <root>/test/good[/img], <root>/test/Ungood[/img], <root>/test/Ungood/<anomaly_mask | label>
"""

from pathlib import Path
from typing import ClassVar

from datamodules.components.base import AnomalyDataModule
from datamodules.components.layouts import list_images, pair_masks
from datamodules.components.sample import DataError, Sample

MASKS = ("anomaly_mask", "label")


class BMADLayout(AnomalyDataModule):
    """Bao et al., CVPR 2024 workshops (arXiv:2306.11876). Validation images are not read: nothing is selected."""

    #: What the anomaly is called.
    defect: ClassVar[str]

    def normals(self, category: str) -> list[Sample]:
        images = _images(self.root / "train" / "good")
        if not images:
            raise DataError(f"no normal training images below {self.root}: expected {self.layout}.")
        return [Sample(path, category) for path in images]

    def tests(self, category: str) -> list[Sample]:
        normal = [Sample(path, category) for path in _images(self.root / "test" / "good")]
        folder = self.root / "test" / "Ungood"
        images = _images(folder)
        if not images:
            raise DataError(f"no anomalous test images below {self.root}: expected {self.layout}.")
        if not self.has_masks:
            return normal + [Sample(path, category, True, None, self.defect) for path in images]
        masks = next((folder / name for name in MASKS if (folder / name).is_dir()), folder / MASKS[0])
        pairs = pair_masks(_folder(folder), masks)
        return normal + [Sample(image, category, True, mask, self.defect) for image, mask in pairs.items()]


def _images(folder: Path) -> list[Path]:
    """The images of a folder, or of its folder img."""
    return list_images(_folder(folder))


def _folder(folder: Path) -> Path:
    return folder / "img" if (folder / "img").is_dir() else folder
