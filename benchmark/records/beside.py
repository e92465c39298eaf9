"""Measured rows beside published figures: the difference, and whether it means anything."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmark.records.store import Record
from benchmark.request import registry
from benchmark.request.cell import Cell
from benchmark.request.published import CHOSEN_BY_TEST, MEASURED_THERE, READ, SCALED, Figure, figures
from benchmark.request.registry import ConfigError

COLUMNS = (
    "method", "dataset", "variant", "protocol", "shots", "backbone", "setup", "metric", "measured", "std", "n_seeds",
    "published_low", "published_high", "certainty", "difference", "verdict", "sources",
)  # fmt: skip
PRINTED = 0.001  # two figures with one decimal of a percent are equal up to this
SAME = 0.05  # points by which two figures of one decimal may differ
WIDTHS = 2.0  # deviations that count as noise


def beside(wide: pd.DataFrame, records: Iterable[Record]) -> pd.DataFrame:
    """A line for each mean over all categories that somebody has published, in the order of the leaderboard.

    Values are fractions. Of several figures those count that their own runners tell, then those with the fewest
    differences in how they came about; `published_low` and `published_high` are their range.

    Args:
        wide: the leaderboard.
        records: those behind it.
    """
    cells = {_key(record.cell): record.cell for record in records}
    lines: list[dict[str, Any]] = []
    for row in wide[(wide["kind"] == "all") & (wide["superseded"] == "")].to_dict("records"):
        cell = cells.get(tuple(row[name] for name in ("method", "dataset", "protocol", "shots", "backbone", "setup")))
        lines += _compare(cell, row) if cell else []
    return pd.DataFrame(lines, columns=list(COLUMNS))


def words(row: Mapping[Any, Any]) -> dict[str, str]:
    """A line of `beside` in words, values in percent; a star says that others quote the published one."""
    low, high, std = (100 * row[name] for name in ("published_low", "published_high", "std"))
    told = {name: str(row[name]) for name in ("method", "dataset", "protocol", "shots", "metric", "verdict")}
    published = f"{low:.1f} to {high:.1f}" if high - low > SAME else f"{low:.1f}"
    return told | {
        "published": published + "*" * (row["certainty"] != READ),
        "measured": f"{100 * row['measured']:.1f}" + ("" if pd.isna(std) else f" ± {std:.1f}"),
        "difference": f"{100 * row['difference']:+.1f}",
    }


def differences(figure: Figure, cell: Cell) -> list[str]:
    """In what a figure was made otherwise than a cell, in words; draws of shots differ in every paper and count not."""
    backbone = cell.settings.backbone
    weights = cell.backbone_label.partition(" ")[0].replace("/", " ", 1)
    words = [f"other {group} ({its})" for group in ("method", "protocol") if (its := cell.changed(group))]
    if figure.backbone and not weights.startswith(figure.backbone):
        words.append(f"another backbone: {figure.backbone} there")
    elif figure.image_size and (size := backbone.image_size or _own_size(backbone.name)) != figure.image_size:
        words.append(f"{size} px instead of {figure.image_size}")
    if backbone.forced_activation:
        words.append(f"run with {backbone.forced_activation}")
    if len(registry.dataset(cell.dataset).counts) > 1 or cell.changed("dataset"):
        words.append("perhaps another split of the data set")
    if not figure.shots:
        words.append("how many shots there were is not stated")
    if there := MEASURED_THERE.get((figure.method, figure.metric)):
        words.append(f"exact AUPRO instead of {there}")
    elif figure.metric == "pixel_AUPRO":
        words.append("exact AUPRO, and it is not known how it was computed there")
    if SCALED in figure.note and figure.metric.startswith("image"):
        words.append("image scores scaled over the test set there")
    if figure.method in CHOSEN_BY_TEST:
        words.append("the last step instead of the epoch that was best on the test set there")
    return words


def _compare(cell: Cell, row: Mapping[Any, Any]) -> Iterator[dict[str, Any]]:
    by_metric: dict[str, list[Figure]] = {}
    for figure in _figures_of(cell):
        by_metric.setdefault(figure.metric, []).append(figure)
    for metric, found in by_metric.items():
        if pd.isna(row.get(metric)):
            continue
        ranks = {figure: (figure.certainty != READ, len(differences(figure, cell))) for figure in found}
        best = [figure for figure in found if ranks[figure] == min(ranks.values())]
        low, high = (end(figure.value for figure in best) / 100 for end in (min, max))
        measured, std, seeds = row[metric], row[f"{metric}_std"], row["n_seeds"]
        away = measured - min(max(measured, low), high)
        yield {
            **{name: row[name] for name in COLUMNS if name in row},
            **{"metric": metric, "measured": measured, "std": std},
            **{"published_low": low, "published_high": high, "certainty": best[0].certainty, "difference": away},
            "verdict": _verdict(row["status"], best, cell, away, _noise(std, seeds, best)),
            "sources": "; ".join(dict.fromkeys(figure.source for figure in best)),
        }


def _figures_of(cell: Cell) -> Sequence[Figure]:
    """What is published of a cell's method on its data set, with its protocol and number of shots."""
    try:
        names, _ = registry.method(cell.method).published, registry.dataset(cell.dataset)
    except ConfigError:  # a plug-in that is no longer installed
        return ()
    asked = (cell.dataset, cell.protocol)
    shots = (str(cell.shots), "")
    return [f for f in figures() if f.method in names and (f.dataset, f.protocol) == asked and f.shots in shots]


def _noise(std: float, seeds: int, best: Sequence[Figure]) -> float | None:
    """By how much two such means may differ; None where one seed leaves it unknown.

    A source that prints no deviation is taken to be as noisy as one seed here.
    """
    if seeds < 2 or pd.isna(std):
        return None
    theirs = [figure.std / 100 for figure in best if figure.std is not None]
    return WIDTHS * math.hypot(std / math.sqrt(seeds), max(theirs, default=std))


def _verdict(status: str, best: Sequence[Figure], cell: Cell, away: float, noise: float | None) -> str:
    if words := [*([status] if status != "ok" else []), *differences(best[0], cell)]:
        return f"not comparable: {'; '.join(words)}"
    if abs(away) <= PRINTED:
        return "reproduced"
    if noise is None:
        return "gap, of one seed: noise unknown"
    return "within noise" if abs(away) <= noise else "gap"


def _own_size(model: str) -> int:
    """The input of a CLIP by its name, px: the number at its end, else 224."""
    found = re.search(r"-(\d{3})$", model.removesuffix("-quickgelu"))
    return int(found[1]) if found else 224


def _key(cell: Cell) -> tuple[Any, ...]:
    return cell.method_label, cell.dataset, cell.protocol_label, cell.shots, cell.backbone_label, cell.setup
