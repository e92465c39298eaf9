"""ELPV: photographs of solar cells under current, real files on every machine that installs a PyPI package."""

import csv
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from datamodules.components.base import AnomalyDataModule
from datamodules.components.sample import DataError, Sample
from datamodules.components.shares import deal

PACKAGE = "elpv_dataset"
LABELS = "labels.csv"
#: Probability of a defect → label; 1/3 and 2/3 are dropped, as DRA, InCTRL and FAPrompt do.
ANOMALOUS = {0.0: False, 1.0: True}
TESTED = 0.25  # of the normal images


class ELPV(AnomalyDataModule):
    """Deitsch et al., Solar Energy 2019: 2,624 electroluminescence images of 300 x 300, of 44 modules.

    Cells that surely have no defect (1,508) are normal, those that surely have one (715) anomalous. A quarter of the
    normal ones is tested, chosen by their names; released code draws it with a library's random generator. Mono- and
    polycrystalline cells look different, so each is a set of its own besides both together. There are no masks.
    """

    categories = ("solar_cell",)
    source = "pip install elpv-dataset==1.0.0.post1"
    licence = "images CC BY-NC-SA 4.0"
    citation = "Deitsch et al., Automatic classification of defective photovoltaic module cells, Solar Energy 185, 2019"
    layout = "<root>/images/cellNNNN.png and <root>/labels.csv (path, probability, mono or poly)"
    has_masks = False
    needs_root = False
    counts: ClassVar[dict[str, dict[str, tuple[int, int, int]]]] = {
        "both": {"solar_cell": (1131, 377, 715)},
        "mono": {"solar_cell": (441, 147, 313)},
        "poly": {"solar_cell": (690, 230, 402)},
    }

    @dataclass(kw_only=True)
    class Config:
        """Which cells.

        Attributes:
            variant: cells of one crystal, or both.
            per_kind: test images of each label, the first by name; null takes all.
        """

        variant: Literal["both", "mono", "poly"] = "both"
        per_kind: Annotated[int | None, ">= 1"] = None

    config: Config

    def locate(self) -> Path:
        """The images inside the installed package; nothing is copied."""
        try:
            package = files(PACKAGE)
        except ModuleNotFoundError as error:
            raise DataError(f"the images of elpv come from a package that is not installed: {self.source}") from error
        return Path(str(package)) / "data"

    def normals(self, category: str) -> list[Sample]:
        train, _ = deal(self._images(anomalous=False), TESTED)
        return [Sample(path, category) for path in train]

    def tests(self, category: str) -> list[Sample]:
        _, normal = deal(self._images(anomalous=False), TESTED)
        most = self.config.per_kind
        samples = [Sample(path, category) for path in normal[:most]]
        return samples + [Sample(p, category, True, None, "defect") for p in self._images(anomalous=True)[:most]]

    def _images(self, *, anomalous: bool) -> list[Path]:
        """The images of one label in the order of the list, which is that of their names."""
        file = self.root / LABELS
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}. Expected {self.layout}.") from error
        found = []
        for number, line in enumerate(lines, start=1):
            name, probability, crystal = self._fields(file, number, line)
            if self.config.variant in ("both", crystal) and ANOMALOUS.get(probability) is anomalous:
                found.append(self.root / name)
        return found

    def _fields(self, file: Path, number: int, line: str) -> tuple[str, float, str]:
        try:
            name, probability, crystal = next(csv.reader([line], delimiter=" ", skipinitialspace=True))
            return name, float(probability), crystal
        except ValueError as error:
            raise DataError(
                f"{file}, line {number}: must be a path, a probability and mono or poly, got {line!r}."
            ) from error
