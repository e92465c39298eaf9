"""A drawn set: sixteen products and materials that are made on this machine, without a download."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from datamodules.components.base import AnomalyDataModule
from datamodules.components.drawing.cache import Counts, drawn_folder
from datamodules.components.layouts import mvtec_normals, mvtec_tests
from datamodules.components.sample import Sample


class Procedural(AnomalyDataModule):
    """Textures and objects drawn with numpy and OpenCV, and drawn defects with masks.

    Defects are faint and neutral in colour, every photograph has its own lamp, pose and material, and colour or
    subtraction alone finds little (tests/perf/drawn_set.py measures how little). The set stands in for photographs
    where none can be had; numbers on it compare with nothing published.
    """

    categories: ClassVar[tuple[str, ...]] = (
        "brushed_metal",
        "corduroy",
        "fabric",
        "leather",
        "terrazzo",
        "tiles",
        "wire_mesh",
        "wood",
        "blister_pack",
        "bracket",
        "circuit_board",
        "connector",
        "gear",
        "keypad",
        "screw",
        "zipper",
    )
    #: Which of them are textures and which objects: tables report the two apart.
    kinds: ClassVar[dict[str, str]] = {
        "brushed_metal": "texture",
        "corduroy": "texture",
        "fabric": "texture",
        "leather": "texture",
        "terrazzo": "texture",
        "tiles": "texture",
        "wire_mesh": "texture",
        "wood": "texture",
        "blister_pack": "object",
        "bracket": "object",
        "circuit_board": "object",
        "connector": "object",
        "gear": "object",
        "keypad": "object",
        "screw": "object",
        "zipper": "object",
    }
    source = "drawn by datamodules/components/drawing"
    licence = "Apache-2.0"
    variant = "drawn-v1"
    has_masks = True
    needs_root = False

    @dataclass(kw_only=True)
    class Config:
        """What is drawn; each setting gives a set of its own."""

        draw_seed: int = 0  # picks the products' style and every image; independent of the seed of the run
        size: int = 256  # side of the images, pixels
        train: int = 20  # normal training images per category
        normal: int = 12  # normal test images per category
        per_defect: int = 4  # anomalous test images per category and defect type

    config: Config

    def prepare(self) -> Path:
        """The folder of the set below `$BENCH_CACHE` or the user's cache, drawn if it is not there."""
        counts = Counts(self.config.train, self.config.normal, self.config.per_defect)
        return drawn_folder(self.config.draw_seed, self.config.size, counts)

    def normals(self, category: str) -> list[Sample]:
        return mvtec_normals(self.root, category)

    def tests(self, category: str) -> list[Sample]:
        return mvtec_tests(self.root, category)
