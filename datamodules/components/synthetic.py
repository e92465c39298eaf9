"""Synthetic data sets, rendered on this machine: a subclass says which categories, and what of them by default."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from datamodules.components.base import AnomalyDataModule
from datamodules.components.layouts import mvtec_normals, mvtec_tests
from datamodules.components.rendering.cache import Counts, folder_name, materialise_once
from datamodules.components.roots import cache_folder, plain_path
from datamodules.components.sample import Sample


class SyntheticDataModule(AnomalyDataModule):
    """Textures and objects rendered with numpy and OpenCV, and synthetic defects with masks.

    Defects are faint and neutral in colour, every photograph has its own lamp, pose and material, and colour or
    subtraction alone finds little (tests/perf/synthetic_set.py measures how little). A synthetic set stands in for
    photographs where none can be had; numbers on it compare with nothing published.
    """

    @dataclass(kw_only=True)
    class Config:
        """What is rendered; each setting gives a set of its own.

        Attributes:
            draw_seed: picks the products' style and every image; independent of the seed of the run.
            size: side of the images, in pixels.
            train: normal training images per category.
            normal: normal test images per category.
            per_defect: anomalous test images per category and defect type.
        """

        draw_seed: Annotated[int, ">= 0"] = 0
        size: Annotated[int, ">= 32, <= 4096"] = 256
        train: Annotated[int, ">= 1"] = 20
        normal: Annotated[int, ">= 1"] = 12
        per_defect: Annotated[int, ">= 1"] = 4

    config: Config

    def locate(self) -> Path:
        """The folder of the set below `$BENCH_CACHE` or the user's cache."""
        return cache_folder() / folder_name(*self._what)

    def prepare_data(self) -> None:
        """Render the set if it is not there, or damaged, in the cache; a folder that a root names is the user's."""
        if self.root == plain_path(self.locate()):
            materialise_once(self.root, *self._what)

    @property
    def _what(self) -> tuple[int, int, Counts, tuple[str, ...]]:
        counts = Counts(self.config.train, self.config.normal, self.config.per_defect)
        return self.config.draw_seed, self.config.size, counts, self.categories

    def normals(self, category: str) -> list[Sample]:
        return mvtec_normals(self.root, category)

    def tests(self, category: str) -> list[Sample]:
        return mvtec_tests(self.root, category)
