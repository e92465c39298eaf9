"""Head CT: slices of the head with and without a haemorrhage, image level."""

import csv
from pathlib import Path
from typing import ClassVar

from datamodules.components.image_level import ImageLevelDataModule
from datamodules.components.layouts import list_images
from datamodules.components.sample import DataError

LABELS = "labels.csv"
COLUMNS = ("id", "hemorrhage")


class HeadCT(ImageLevelDataModule):
    """The set of Kaggle's felipekitamura: 100 images each; AnomalyCLIP tests all, InCTRL 25 normal ones and 100.

    The header of `labels.csv` reads `id, hemorrhage`, with a blank; 12 of the images are RGBA.
    """

    categories = ("head",)
    object_names: ClassVar[dict[str, str]] = {"head": "head"}
    source = "https://www.kaggle.com/datasets/felipekitamura/head-ct-hemorrhage"
    obtain = "Fetch the archive from that page (an account is needed); <root> holds head_ct/ and labels.csv."
    licence = "not verified; see the page"
    citation = "Kitamura, Head CT - hemorrhage, Kaggle 2018, doi:10.34740/KAGGLE/DSV/152137"
    aliases = ("headct", "head-ct")
    layout = "<root>/head_ct/NNN.png and <root>/labels.csv (id, hemorrhage)"
    folder_name = "headct"
    has_masks = False
    counts: ClassVar[dict[str, dict[str, tuple[int, int, int]]]] = {
        "all": {"head": (0, 100, 100)},
        "quarter": {"head": (75, 25, 100)},
    }

    def labelled(self) -> tuple[list[Path], dict[Path, str]]:
        labels = self._labels()
        images = {int(path.stem): path for path in list_images(self.root / "head_ct") if path.stem.isdecimal()}
        if {*labels} != {*images}:
            number = min({*labels} ^ {*images})
            raise DataError(f"{LABELS} and head_ct/ below {self.root} differ: number {number} is in one of them alone.")
        normal = [images[number] for number in sorted(images) if not labels[number]]
        return normal, {images[number]: "haemorrhage" for number in sorted(images) if labels[number]}

    def _labels(self) -> dict[int, bool]:
        file = self.root / LABELS
        if not file.is_file():
            raise DataError(f"no {LABELS}: looked for {file}. Expected {self.layout}.")
        with file.open(newline="", encoding="utf-8-sig") as lines:
            table = csv.DictReader(lines, skipinitialspace=True)
            if (table.fieldnames or [])[:2] != [*COLUMNS]:
                raise DataError(f"{file} must have the columns {', '.join(COLUMNS)}; it has {table.fieldnames}.")
            try:
                return {int(line["id"]): {"0": False, "1": True}[line["hemorrhage"]] for line in table}
            except (KeyError, ValueError, TypeError) as error:
                raise DataError(f"{file}: each line must be a number and 0 or 1; got {error}.") from error
