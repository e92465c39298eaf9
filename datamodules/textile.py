"""Simulated woven textile from a PyPI package: real files on every machine, without a download page."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from datamodules.components.base import AnomalyDataModule
from datamodules.components.layouts import list_images
from datamodules.components.sample import DataError, Sample

PACKAGE = "conformal_clip_data"
#: Images per folder of the package; `nominal` is normal, the others are defect types.
COUNTS = {"nominal": 1000, "local": 500, "global": 500}
#: The first that many nominal images, by name, are for training.
TRAINING = 500
#: That many images of each folder are left for testing.
TESTING = 500


class Textile(AnomalyDataModule):
    """Public simulated woven textile, Megahed et al. 2025 (arXiv 2501.12596), made with the R package spc4sts.

    The publication fixes no split for anomaly detection; here: nominal images sorted by name (textile_0001 to
    textile_1000, padded with zeros, so name order is number order), the first 500 for training, the other
    500 with all 500 local and 500 global defects for testing. Images are 250 x 250. There are no masks.
    """

    categories = ("textile",)
    source = "pip install conformal-clip-data==0.1.4"
    licence = "MIT"
    layout = "<root>/{nominal,local,global}/*.jpg"
    variant = "first500"
    has_masks = False
    needs_root = False

    @dataclass(kw_only=True)
    class Config:
        """Which part of the test images is used; each number gives a test set of its own.

        Attributes:
            per_kind: test images of each of nominal, local and global, the first by name.
        """

        per_kind: Annotated[int, ">= 1, <= 500"] = 500

    config: Config

    def locate(self) -> Path:
        """The images inside the installed package; nothing is copied."""
        try:
            package = files(PACKAGE)
        except ModuleNotFoundError as error:
            raise DataError(f"the textile images come from a package that is not installed: {self.source}") from error
        return Path(str(package)) / "data" / "textile_images" / "simulated"

    def normals(self, category: str) -> list[Sample]:
        return [Sample(path, category) for path in self._images("nominal")[:TRAINING]]

    def tests(self, category: str) -> list[Sample]:
        count = self.config.per_kind
        if not 1 <= count <= TESTING:
            raise DataError(f"dataset.textile.per_kind must be 1 to {TESTING}, got {count}.")
        normal = [Sample(path, category) for path in self._images("nominal")[TRAINING:][:count]]
        return normal + [
            Sample(p, category, True, None, kind) for kind in ("local", "global") for p in self._images(kind)[:count]
        ]

    def _images(self, kind: str) -> list[Path]:
        images = list_images(self.root / kind)
        if len(images) != COUNTS[kind]:
            raise DataError(
                f"{self.root / kind} must hold {COUNTS[kind]} images, since the split counts them; it holds "
                f"{len(images)}. Install the package again: {self.source}"
            )
        return images
