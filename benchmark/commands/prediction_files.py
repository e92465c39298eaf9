"""The files of `bench predict`: a table, maps, heat maps over the images, a contact sheet, and what made them."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from benchmark.detector import Detector
from benchmark.execution.scoring import Scored
from benchmark.metrics.false_alarms import Threshold
from benchmark.records.heat_maps import TILE, Span, Tile, contact_sheet, heat_map, shrunk, span_of
from benchmark.records.store import write_atomic
from benchmark.request.single import ANYTHING
from datamodules.components.decoding import open_image
from datamodules.components.sample import UserError

FACTS, TABLE, SHEET = "predictions.json", "scores.csv", "contact_sheet.png"
MADE_BY = "bench predict"
SHOWN = 24  # images of the contact sheet, the most anomalous ones


class OutputError(UserError):
    """A folder holds files that `bench predict` has not written."""


class Output(NamedTuple):
    """A folder that holds nothing but what an earlier `bench predict` wrote."""

    path: Path
    old: tuple[str, ...]  # files of the earlier one

    @classmethod
    def open(cls, path: Path) -> Self:
        """Look at a folder; OutputError if something of another origin lies there."""
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return cls(path, ())
        try:
            facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
            old = [str(name) for name in facts["files"]] if facts["made_by"] == MADE_BY else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            old = None
        if old is None or any(Path(name).is_absolute() or ".." in Path(name).parts for name in old):
            raise OutputError(f"{path} holds files that {MADE_BY} has not written: choose another --output.")
        return cls(path, tuple(old))

    def begin(self, facts: Mapping[str, Any], files: Sequence[str]) -> None:
        """Remove the files of the earlier run and say which ones come; what is killed can then be written anew."""
        for name in self.old:
            (self.path / name).unlink(missing_ok=True)
        told = {"made_by": MADE_BY, **facts, "files": [*files]}
        write_atomic(self.path / FACTS, json.dumps(told, indent=1) + "\n")


def write_all(
    output: Output,
    detector: Detector,
    paths: Sequence[Path],
    root: Path,
    scored: Scored,
    limit: Threshold | None,
    facts: Mapping[str, Any],
    drawn: Callable[[int], None],
) -> None:
    """Write the files of all images; names are relative to `root`, and `drawn` is called after each."""
    names = name_files(paths, root)
    good = [place for place in range(len(paths)) if place not in scored.errors]
    span = span_of(scored.maps[good])
    made = {place: (f"overlays/{names[place]}.png", f"maps/{names[place]}.npy") for place in good}
    files = [TABLE, *([SHEET] if good else []), *(name for pair in made.values() for name in pair)]
    output.begin({**facts, "colours": span._asdict()}, files)
    rows = [*_rows(detector, paths, root, scored, limit, made)]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, [*rows[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(output.path / TABLE, table.getvalue())
    for place, (overlay, values) in made.items():
        with open_image(paths[place]) as picture:
            _save(heat_map(picture, scored.maps[place], span), output.path / overlay)
        (output.path / values).parent.mkdir(parents=True, exist_ok=True)
        np.save(output.path / values, scored.maps[place])
        drawn(1)
    if good:
        _draw_sheet(output, detector, paths, names, scored, limit, span, facts["told"])


def name_files(paths: Sequence[Path], root: Path) -> list[str]:
    """A name for the files of each image, without ending: its own below the root, with its ending where two share it.

    No two are equal, nor on a file system that takes large letters for small ones.
    """
    relative = [path.relative_to(root) for path in paths]
    plain = [each.with_suffix("").as_posix() for each in relative]
    often = Counter(map(str.casefold, plain))
    taken: set[str] = set()
    names = []
    for stem, each in zip(plain, relative, strict=True):
        name = stem if often[stem.casefold()] == 1 else each.as_posix()
        number, free = 2, name
        while free.casefold() in taken:
            free, number = f"{name} ({number})", number + 1
        taken.add(free.casefold())
        names.append(free)
    return names


def _rows(
    detector: Detector,
    paths: Sequence[Path],
    root: Path,
    scored: Scored,
    limit: Threshold | None,
    made: Mapping[int, tuple[str, str]],
) -> Iterator[dict[str, Any]]:
    """The lines of the table; a score is spelt so that it is read back to the last bit."""
    for place, path in enumerate(paths):
        score = scored.scores[place]
        good = place in made
        share = detector.percentile(float(score)) if good else None
        row = {"image": path.relative_to(root).as_posix(), "score": str(score) if good else ""}
        row["percentile"] = "" if share is None else f"{share:.1f}"
        if limit:
            row |= {"anomalous": str(bool(score > limit.value)).lower() if good else ""}
            row |= {"threshold": str(np.float32(limit.value))}
        overlay, values = made.get(place, ("", ""))
        yield row | {"overlay": overlay, "map": values, "error": scored.errors.get(place, "")}


def _draw_sheet(
    output: Output,
    detector: Detector,
    paths: Sequence[Path],
    names: Sequence[str],
    scored: Scored,
    limit: Threshold | None,
    span: Span,
    told: Sequence[str],
) -> None:
    order = [place for place in np.argsort(-scored.scores, kind="stable").tolist() if place not in scored.errors]
    tiles = []
    for place in order[:SHOWN]:
        score, share = float(scored.scores[place]), detector.percentile(float(scored.scores[place]))
        alarmed = limit is not None and score > limit.value
        words = [f"score {score:.4g}", *([] if share is None else [f"percentile {share:.0f}"])]
        words += ["anomalous"] if alarmed else []
        with open_image(paths[place]) as picture:
            heat = heat_map(picture, scored.maps[place], span, TILE)
            tiles.append(Tile(shrunk(picture, TILE), heat, names[place], "  ·  ".join(words), alarmed))
    facts = detector.describe()
    named = [facts["object"]] if facts["object"] != ANYTHING else []
    shown = f"the {len(tiles)} most anomalous of {len(order)} images" if len(order) > len(tiles) else "all images"
    lines = [f"{shown}, highest score first  ·  {facts['backbone']}  ·  {facts['shots_seen']} shots", *told]
    _save(contact_sheet("  ·  ".join([facts["method"], *named]), lines, tiles, span), output.path / SHEET)


def _save(picture: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
