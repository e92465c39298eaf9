"""A second drawn set, to fit on and then test elsewhere: half of the categories, in other styles."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from datamodules.components.base import AnomalyDataModule
from datamodules.components.drawing.cache import Counts, drawn_folder
from datamodules.components.layouts import mvtec_normals, mvtec_tests
from datamodules.components.sample import Sample


class ProceduralAuxiliary(AnomalyDataModule):
    """Eight of the sixteen drawn categories, drawn with a seed of its own.

    The other eight of `procedural` are held out: nothing that is fitted here has seen them. Generator, lamps and
    kinds of defects are shared, so this shows that a pipeline works, not that a method transfers.
    """

    categories: ClassVar[tuple[str, ...]] = (
        "brushed_metal",
        "fabric",
        "terrazzo",
        "wire_mesh",
        "bracket",
        "connector",
        "keypad",
        "screw",
    )
    source = "drawn by datamodules/components/drawing"
    licence = "Apache-2.0"
    variant = "drawn-v1"
    has_masks = True
    needs_root = False

    @dataclass(kw_only=True)
    class Config:
        """What is drawn; each setting gives a set of its own."""

        draw_seed: int = 1  # picks the products' style and every image; independent of the seed of the run
        size: int = 256  # side of the images, pixels
        train: int = 20  # normal training images per category
        normal: int = 12  # normal test images per category
        per_defect: int = 4  # anomalous test images per category and defect type

    config: Config

    def prepare(self) -> Path:
        """The folder of the set below `$BENCH_CACHE` or the user's cache, drawn if it is not there."""
        counts = Counts(self.config.train, self.config.normal, self.config.per_defect)
        return drawn_folder(self.config.draw_seed, self.config.size, counts, self.categories)

    def normals(self, category: str) -> list[Sample]:
        return mvtec_normals(self.root, category)

    def tests(self, category: str) -> list[Sample]:
        return mvtec_tests(self.root, category)
