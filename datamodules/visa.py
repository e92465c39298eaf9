"""VisA: twelve objects, the one-class split, read from the raw archive without a copy."""

import csv
from pathlib import Path
from typing import ClassVar, NamedTuple

from datamodules.components.layouts import describe
from datamodules.components.published_shots import ListedShots
from datamodules.components.sample import DataError, Sample

SPLIT_FILE = "split_csv/1cls.csv"
COLUMNS = ("object", "split", "label", "image", "mask")
LABELS = ("normal", "anomaly")
SPLITS = ("train", "test")


class SplitLine(NamedTuple):
    """One line of the split file, paths relative to the root."""

    line: int
    split: str
    label: str
    image: str
    mask: str


class VisA(ListedShots):
    """Zou et al., ECCV 2022: 8,659 training images, 962 normal and 1,200 anomalous test images.

    The split is `split_csv/1cls.csv` (columns object, split, label, image, mask). Names are neither contiguous
    nor of one width, so nothing is found by number. Masks hold small class ids and look black.
    """

    categories = (
        "candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2",
        "pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum",
    )  # fmt: skip
    object_names: ClassVar[dict[str, str]] = {
        "chewinggum": "chewing gum",
        "macaroni1": "macaroni",
        "macaroni2": "macaroni",
        "pcb1": "printed circuit board",
        "pcb2": "printed circuit board",
        "pcb3": "printed circuit board",
        "pcb4": "printed circuit board",
    }
    counts: ClassVar[dict[str, dict[str, tuple[int, int, int]]]] = {
        "standard": {
            "candle": (900, 100, 100),
            "capsules": (542, 60, 100),
            "cashew": (450, 50, 100),
            "chewinggum": (453, 50, 100),
            "fryum": (450, 50, 100),
            "macaroni1": (900, 100, 100),
            "macaroni2": (900, 100, 100),
            "pcb1": (904, 100, 100),
            "pcb2": (901, 100, 100),
            "pcb3": (905, 101, 100),
            "pcb4": (904, 101, 100),
            "pipe_fryum": (450, 50, 100),
        }
    }
    source = "https://github.com/amazon-science/spot-diff"
    licence = "CC BY 4.0"
    layout = "<root>/split_csv/1cls.csv and <root>/<category>/Data/{Images/{Normal,Anomaly}, Masks/Anomaly}"
    citation = "Zou et al., SPot-the-Difference, ECCV 2022, arXiv:2207.14315"
    aliases = ("VisA", "visa_pytorch")
    archives = (
        {
            "name": "VisA_20220922.tar",
            "urls": ("https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",),
            "sha256": "2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
        },
    )
    folder_name = "visa"

    @property
    def list_files(self) -> tuple[Path, ...]:
        return (self.root / SPLIT_FILE,)

    def normals(self, category: str) -> list[Sample]:
        rows = [row for row in self._rows(category) if (row.split, row.label) == ("train", "normal")]
        if not rows:
            raise DataError(f"no normal training images of {category!r} in {self.root / SPLIT_FILE}.")
        return [self._sample(row, category) for row in rows]

    def tests(self, category: str) -> list[Sample]:
        return [self._sample(row, category) for row in self._rows(category) if row.split == "test"]

    def _rows(self, category: str) -> list[SplitLine]:
        file = self.root / SPLIT_FILE
        if not file.is_file():
            raise DataError(
                f"the split file of VisA is missing: looked for {file}. {describe(self.root)} Expected the raw "
                f"archive: {self.layout}. A copy in MVTec layout is read by the data set `folder`."
            )
        with file.open(newline="", encoding="utf-8-sig") as lines:
            table = csv.DictReader(lines)
            if missing := [column for column in COLUMNS if column not in (table.fieldnames or ())]:
                raise DataError(f"{file} lacks the columns {missing}: needs {list(COLUMNS)}, has {table.fieldnames}.")
            rows = [
                SplitLine(number, line["split"], line["label"], line["image"] or "", line["mask"] or "")
                for number, line in enumerate(table, start=2)
                if line["object"] == category
            ]
        if not rows:
            raise DataError(f"{file} has no row of the object {category!r}.")
        for row in rows:
            if row.split not in SPLITS or row.label not in LABELS:
                raise DataError(
                    f"{file}, line {row.line}: split must be one of {SPLITS} and label one of {LABELS}, "
                    f"got {row.split!r} and {row.label!r}."
                )
        return rows

    def _sample(self, row: SplitLine, category: str) -> Sample:
        for name in (row.image, row.mask) if row.mask else (row.image,):
            if not (self.root / name).is_file():
                raise DataError(f"{SPLIT_FILE}, line {row.line}, points to {self.root / name}, which is no file.")
        mask = self.root / row.mask if row.mask else None
        if row.label == "normal":
            return Sample(self.root / row.image, category, mask=mask)
        return Sample(self.root / row.image, category, True, mask, "anomaly")
