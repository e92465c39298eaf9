"""KolektorSDD: electrical commutators with cracks, whole or cut in three as the tables of this field have it."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

from datamodules.components.layouts import list_folders, list_images
from datamodules.components.sample import DataError
from datamodules.components.tiles import Photograph, TiledDataModule

LABEL = "_label"


class KSDD(TiledDataModule):
    """Tabernik et al., JIM 2020: 399 photographs of 50 commutators, 52 of them with a crack.

    Each is cut into three along its length; a third is anomalous if some pixel of its label is. A quarter of the normal
    ones is tested, as DRA, InCTRL and FAPrompt ("SDD") do; they draw it with a random generator from a listing that is
    not sorted, here it is drawn by names. Or photographs are whole, and a fifth of the normal ones is tested, as in
    anomalib. AnomalyCLIP's own crops, 181 and 74 images, are not offered.
    """

    categories = ("commutator",)
    object_names: ClassVar[dict[str, str]] = {"commutator": "electrical commutator"}
    source = "https://www.vicos.si/resources/kolektorsdd/"
    licence = "CC BY-NC-SA 4.0"
    citation = "Tabernik et al., Segmentation-based deep-learning approach, JIM 31, 2020, arXiv:1903.08536"
    aliases = ("SDD", "KolektorSDD", "kolektor")
    archives = (
        {
            "name": "KolektorSDD.zip",
            "urls": ("https://go.vicos.si/kolektorsdd",),
            "sha256": "65dc621693418585de9c4467d1340ea7958a6181816f0dc2883a1e8b61f9d4dc",
        },
    )
    layout = "<root>/kos01..kos50/PartN.jpg and PartN_label.bmp"
    folder_name = "ksdd"
    counts: ClassVar[dict[str, dict[str, tuple[int, int, int]]]] = {
        "thirds": {"commutator": (857, 286, 54)},
        "whole": {"commutator": (278, 69, 52)},
    }

    @dataclass(kw_only=True)
    class Config:
        """Which images.

        Attributes:
            variant: "thirds" of the photographs, or each as a "whole".
        """

        variant: Literal["thirds", "whole"] = "thirds"

    config: Config

    @property
    def tested(self) -> float:
        return 0.2 if self.config.variant == "whole" else super().tested

    def photographs(self) -> list[Photograph]:
        found = []
        for folder in list_folders(self.originals):
            images = {path.stem: path for path in list_images(folder)}
            for stem, path in images.items():
                if stem.endswith(LABEL):
                    continue
                if stem + LABEL not in images:
                    raise DataError(f"image without label: {path} needs {stem}{LABEL}.bmp beside it.")
                found.append(Photograph(path, (images[stem + LABEL],), "crack"))
        return found

    def boxes(self, width: int, height: int) -> list[tuple[int, int, int, int]]:
        if self.config.variant == "whole":
            return [(0, 0, width, height)]
        edges = [round(part * height / 3) for part in range(4)]
        return [(0, upper, width, lower) for upper, lower in pairwise(edges)]
