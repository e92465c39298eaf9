"""What a number depends on besides its request: the code, the bytes of the data, and the pixels that come of them.

A record keeps its content. One that differs from the content of today is stale, and says in what.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmark.execution.data import DataSpec, auxiliary, open_data, target
from benchmark.request.cell import VERSIONS, Cell, canonical
from benchmark.request.inputs import code
from benchmark.request.on_disk import question
from benchmark.request.settings import CONFIGS
from datamodules.components.content import folder_digest
from datamodules.components.pixel_probe import pixel_probe
from datamodules.components.remembered import Remembered

if TYPE_CHECKING:
    from datamodules.components.base import AnomalyDataModule  # imports torch

SMALLEST = 8  # image side used where only files are looked at


class Contents:
    """Looks at each data set once, however many cells there are; make another one to look again."""

    def __init__(self, absent: Mapping[str, str]) -> None:
        """Leave out the data sets of `absent`, by name."""
        self.absent = absent
        self._data: dict[str, AnomalyDataModule] = {}
        self._hashes: dict[str, Remembered] = {}

    def of(self, cell: Cell) -> dict[str, Any]:
        """The content of a cell, by kind; kinds whose data are absent are left out.

        Raises:
            DataError: a data set cannot be read.
        """
        content: dict[str, Any] = {"versions": VERSIONS, "code": code(cell), "pixels": pixel_probe()}
        if cell.dataset not in self.absent:
            content["data"] = self._fingerprints(target(cell, cell.seen))
        source = auxiliary(cell)
        if source and source.dataset not in self.absent:
            content["auxiliary"] = self._fingerprints(source)
        if captions := hash_captions(cell):
            content["captions"] = captions
        return content

    def _fingerprints(self, spec: DataSpec) -> dict[str, str]:
        place = canonical([spec.dataset, spec.settings, spec.root])
        if place not in self._hashes:
            self._hashes[place] = Remembered(question("fingerprints", spec.dataset, spec.root, spec.settings))
        known = self._hashes[place]
        for category in spec.categories:
            if category not in known.answers:
                if place not in self._data:
                    self._data[place] = data = open_data(spec, SMALLEST)
                    known.look_at(data.watched)
                known.keep(category, self._data[place].fingerprint(category))
        return {category: known.answers[category] for category in spec.categories}


def hash_captions(cell: Cell) -> str | None:
    """Hash of all captions of the suite, of which a method may read each; None for a method that reads none."""
    return folder_digest(CONFIGS / "captions") if "captions" in cell.settings.method else None
