"""Data sets of labelled images without masks, of one category and with no split of their own: a subclass lists them."""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datamodules.components.base import AnomalyDataModule
from datamodules.components.layouts import list_images
from datamodules.components.sample import DataError, Sample
from datamodules.components.shares import deal

QUARTER = 0.25  # of the normal images, tested in the splits of DRA and InCTRL


class ImageLevelDataModule(AnomalyDataModule):
    """Every anomalous image is tested; of the normal ones all, or a quarter, the others being for training."""

    @dataclass(kw_only=True)
    class Config:
        """Which split.

        Attributes:
            variant: "all" tests every image, so that none is left for shots; "quarter" tests a quarter of the normal
                ones, as DRA and InCTRL do, chosen by their names, since released code draws it by a directory's order.
        """

        variant: Literal["all", "quarter"] = "all"

    config: Config

    @abstractmethod
    def labelled(self) -> tuple[list[Path], dict[Path, str]]:
        """The normal images, and the anomalous ones with their kinds."""

    def normals(self, category: str) -> list[Sample]:
        return [Sample(path, category) for path in self._split()[0]]

    def tests(self, category: str) -> list[Sample]:
        _, tested, anomalous = self._split()
        normal = [Sample(path, category) for path in tested]
        return normal + [Sample(path, category, True, None, kind) for path, kind in anomalous.items()]

    def _split(self) -> tuple[list[Path], list[Path], dict[Path, str]]:
        normal, anomalous = self.labelled()
        if not anomalous:
            raise DataError(f"no anomalous images below {self.root}: expected {self.layout}.")
        train, tested = deal(normal, 1.0 if self.config.variant == "all" else QUARTER)
        return train, tested, anomalous


def either_folder(root: Path, normal: tuple[str, ...], anomalous: dict[str, str]) -> tuple[list[Path], dict[Path, str]]:
    """The images of folders that are called by their label.

    Args:
        root: where they lie.
        normal: names of folders of normal images.
        anomalous: names of folders of anomalous images → their kind.
    """
    good = [path for name in normal for path in list_images(root / name)]
    return good, {path: kind for name, kind in anomalous.items() for path in list_images(root / name)}
