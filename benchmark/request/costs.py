"""What cells would take, by what parts of them were measured to cost; what nobody measured stays unknown.

A cell costs steps of its fit, its shots and its test images, and passes of the frozen image tower, each of which the
feature store may spare. Figures are of default settings on one thread of a CPU; reading, metrics and texts that are
encoded once are not counted.
"""

import csv
import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from benchmark.request import registry
from benchmark.request.cell import Cell, canonical
from benchmark.request.settings import CONFIGS

FIGURES = "costs.csv"  # below configs; tests/perf/costs.py prints its lines
DEVICE = "one CPU thread, float32"


class Cost(NamedTuple):
    """CPU seconds of a method on one backbone without the image tower, and passes of it."""

    step: float  # of the fit, with as many images as a step has by default, at most four where they are shots
    step_passes: float  # for each image that the fit shows
    shot: float
    shot_passes: float
    test: float  # for each test image
    test_passes: float
    tower: float  # seconds of one pass


class Estimate(NamedTuple):
    """What all cells of one method take together, those on sets of unknown size left out; None is unknown."""

    method: str
    cells: int
    fits: int
    images: int | None
    known: float | None  # hours, if every image's features are in the store
    unknown: float | None  # hours, if every image passes the tower each time
    left_out: tuple[str, ...] = ()  # for each cell that is left out, the set whose size is unknown


def estimates(cells: Sequence[Cell]) -> list[Estimate]:
    """What cells would take, a line for each method in their order; a fit on an auxiliary set counts once."""
    names = dict.fromkeys(cell.method for cell in cells)
    return [_estimate([cell for cell in cells if cell.method == name]) for name in names]


def lines(cells: Sequence[Cell]) -> list[str]:
    """The estimate in words: a table and a total; nothing for no cells."""
    if not cells:
        return []
    found = estimates(cells)
    table: list[tuple[str, ...]] = [
        ("method", "cells", "fits", "test images", "h, features known", "h, none known"),
        *((e.method, f"{e.cells}", f"{e.fits}", *map(_words, (e.images, e.known, e.unknown))) for e in found),
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rows = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in table]
    missing = [e.method for e in found if e.known is None]
    left_out = [name for e in found for name in e.left_out]
    if left_out:
        names = ", ".join(dict.fromkeys(left_out))
        rows.append(f"left out: {len(left_out)} cells on {names}, whose files do not say how many images there are")
    if len(missing) == len(found):
        return [*rows, f"total: unknown; no figures of {', '.join(missing)} on this backbone, size and settings"]
    low, high = (math.fsum(filter(None, hours)) for hours in zip(*((e.known, e.unknown) for e in found), strict=True))
    least = f"at least; unknown: {', '.join(missing)}" if missing else "of all methods"
    least = f"{least}, without what is left out" if left_out else least
    return [*rows, f"total: {_words(low)} h, or {_words(high)} h if no feature is known ({least}); {DEVICE}, {FIGURES}"]


def _estimate(cells: Sequence[Cell]) -> Estimate:
    sized = [cell for cell in cells if None not in _sizes(cell)]
    by_fit = {_fit(cell) or cell.id: cell for cell in sized}  # a cell that fits nothing stands for itself
    parts = [_fitting(cell) for cell in by_fit.values()] + [_testing(cell) for cell in sized]
    known = [part for part in parts if part is not None]
    whole = sized and len(known) == len(parts)
    return Estimate(
        method=cells[0].method,
        cells=len(cells),
        fits=len({_fit(cell) for cell in cells} - {""}),
        images=sum(_sizes(cell)[0] or 0 for cell in sized) if sized else None,
        known=math.fsum(own for own, _ in known) / 3600 if whole else None,
        unknown=math.fsum(own + tower for own, tower in known) / 3600 if whole else None,
        left_out=tuple(_unsized(cell) for cell in cells if None in _sizes(cell)),
    )


def _unsized(cell: Cell) -> str:
    return cell.dataset if _sizes(cell)[0] is None else cell.settings.protocol.auxiliary or ""


def _sizes(cell: Cell) -> tuple[int | None, int | None]:
    """The images that are tested, and those of an auxiliary set that is fitted on; None where nobody says."""
    tested = _sum_counts(cell.dataset, cell.variant, cell.categories, cell.limit)
    if registry.method(cell.method).fits_on != "auxiliary":
        return tested, 0
    auxiliary = registry.dataset(cell.settings.protocol.auxiliary or "")
    variant = auxiliary.variant_of(cell.settings.auxiliary)
    return tested, _sum_counts(auxiliary.name, variant, auxiliary.categories, None)


def _fit(cell: Cell) -> str:
    """What the fit behind a cell is known by: equal where cells share one, "" where nothing is fitted."""
    facts, settings = registry.method(cell.method), cell.settings
    if facts.fits_on != "auxiliary":
        return cell.id if facts.fits_on == "shots" else ""
    auxiliary = [settings.protocol.auxiliary, settings.auxiliary]
    return canonical([cell.method, settings.method, auxiliary, cell.seed])


def _fitting(cell: Cell) -> tuple[float, float] | None:
    """Seconds of the fit behind a cell, without the tower and in it; None if they are unknown."""
    facts, cost = registry.method(cell.method), _cost(cell)
    images = _sizes(cell)[1]
    if facts.fits_on == "shots":
        images = cell.shots * len(cell.fitted or cell.categories)
    if cost is None or images is None:
        return None
    batch = cell.settings.method.get("batch_size", cell.where.trainer.batch_size)
    if resampled := cell.settings.method.get("steps", 0):
        steps, shown = resampled, resampled * batch
    else:
        steps, shown = facts.max_epochs * math.ceil(images / batch), facts.max_epochs * images
    return steps * cost.step, shown * cost.step_passes * cost.tower


def _testing(cell: Cell) -> tuple[float, float] | None:
    """Seconds of the shots and the test images of a cell, likewise."""
    cost, images = _cost(cell), _sizes(cell)[0]
    if cost is None or images is None:
        return None
    shots = cell.shots * len(cell.seen)
    own = shots * cost.shot + images * cost.test
    return own, (shots * cost.shot_passes + images * cost.test_passes) * cost.tower


def _sum_counts(dataset: str, variant: str, categories: Iterable[str], limit: int | None) -> int | None:
    """The test images of some categories; None where the data set does not say."""
    counts = registry.dataset(dataset).counts.get(variant, {})
    categories = [*categories]
    if not categories or not {*categories} <= {*counts}:
        return None
    tests = [normal + anomalous for _, normal, anomalous in (counts[name] for name in categories)]
    return sum(min(count, limit or count) for count in tests)


def _cost(cell: Cell) -> Cost | None:
    """The figures of a cell's method; None where they were measured with other settings, or not at all."""
    backbone, precision = cell.settings.backbone, cell.settings.protocol.precision
    if cell.changed("method") or precision != "fp32":
        return None
    return _figures().get((cell.method, backbone.name, backbone.image_size))


@cache
def _figures() -> dict[tuple[str, str, int | None], Cost]:
    found: dict[tuple[str, str, int | None], Cost] = {}
    with (CONFIGS / FIGURES).open(newline="", encoding="utf-8") as table:
        for line in csv.DictReader(table):
            cost = Cost(*(float(line[key]) for key in Cost._fields))
            found[line["method"], line["backbone"], int(line["image_size"])] = cost
    return found


def _words(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
