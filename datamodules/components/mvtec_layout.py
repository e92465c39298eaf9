"""Data sets that come in MVTec's layout: a subclass says which categories, and what normal folders are called."""

from typing import ClassVar

from datamodules.components.base import AnomalyDataModule
from datamodules.components.layouts import mvtec_normals, mvtec_tests
from datamodules.components.sample import Sample


class MVTecLayout(AnomalyDataModule):
    """Reads `<root>/<category>/{train, test, ground_truth}`; masks are paired with images by stem, never by number."""

    #: What a folder of normal images is called.
    normal_name: ClassVar[str] = "good"

    def normals(self, category: str) -> list[Sample]:
        return mvtec_normals(self.root, category, self.normal_name)

    def tests(self, category: str) -> list[Sample]:
        return mvtec_tests(self.root, category, self.normal_name)
