"""What cells have in common, so that nothing is loaded or fitted twice."""

import hashlib
import re
from dataclasses import dataclass

from benchmark.request import registry
from benchmark.request.cell import Cell, canonical
from benchmark.request.registry import ConfigError


def fit_key(cell: Cell) -> str:
    """Equal for cells that share a fit on an auxiliary set; "" for a cell that needs none."""
    if registry.method(cell.method).fits_on != "auxiliary":
        return ""
    settings, protocol = cell.by_content, cell.settings.protocol
    parts = [settings[group] for group in ("method", "auxiliary", "backbone")]
    return canonical([cell.method, parts, protocol.auxiliary, protocol.precision, cell.seed])


def likeness(cell: Cell) -> str:
    """Equal for cells that load the same CLIP, images and shots."""
    backbone, precision = cell.by_content["backbone"], cell.settings.protocol.precision
    return canonical([backbone, precision, cell.dataset, cell.categories, cell.shots, cell.seed])


@dataclass(frozen=True)
class Shard:
    """One of several parts of a sweep, each the affair of a process that knows nothing of the others."""

    index: int  # from 0
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, cell: Cell) -> bool:
        """Whether a cell is part of it; cells that share a fit are parts of one shard."""
        name = fit_key(cell) or cell.id
        return int(hashlib.sha256(name.encode()).hexdigest(), 16) % self.count == self.index


def read_shard(text: str) -> Shard:
    """The shard "i/n", i from 0 to n - 1; ConfigError for any other text."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not int(match[1]) < int(match[2]):
        raise ConfigError(f"--shard must be i/n with i from 0 to n - 1, as in 0/8; got {text!r}.")
    return Shard(int(match[1]), int(match[2]))
