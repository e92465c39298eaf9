"""`bench rescore`: tables under other choices of measurement, from the predictions that a run has kept."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from benchmark.commands.columns import plain
from benchmark.commands.status import open_store
from benchmark.commands.terminal import loud
from benchmark.execution.rescoring import SCORES, Choice, beyond, open_tests, remeasure, rescored
from benchmark.metrics.table import metric_names
from benchmark.records import superseding
from benchmark.records.beside import beside
from benchmark.records.leaderboard import csv_text, long_table, wide_table, write_tables
from benchmark.records.predictions import Predicted, path_of, read
from benchmark.records.store import Record, Store, write_atomic
from benchmark.request.registry import ConfigError, unknown
from datamodules.components.base import AnomalyDataModule
from datamodules.components.sample import DataError

#: What is tried, one at a time, where nothing is asked for.
SINGLE: tuple[Choice, ...] = (
    *(Choice(resolution=side) for side in (224, 256, 400, 518)),
    *(Choice(smoothing=sigma) for sigma in (0.0, 4.0)),
    *(Choice(image_score=score) for score in SCORES if score != "own"),
    Choice(regions="native"),
    Choice(steps=True),
)
ROUNDED = 0.002  # by which metrics of maps with half the bits may differ
STEPS = {"pixel_AUPRO": "pixel_PRO@200steps"}  # what stands in the place of a metric where PRO of 200 steps is chosen
Measured = dict[str, dict[str, dict[str, Any]]]  # category → metric → its value and more
Held = tuple[Record, Predicted, AnomalyDataModule]


def rescore(folder: Path, choice: Choice, output: Path | None, console: Console) -> int:
    """Measure what was kept under `choice` into tables of their own; under each single one where none is made.

    Returns:
        0, or 1 where nothing could be measured anew.
    """
    store = open_store(folder)
    held = list(_held(store, console))
    if not held:
        loud(console).print("nothing to rescore: no cell has kept predictions whose images are there.")
        return 1
    kept = [remeasure(record.cell, predicted, data, Choice()) for record, predicted, data in held]
    _prove(held, kept, console)
    if choice != Choice():
        place = output or folder / "rescored" / str(choice).replace(" ", "_")
        made = write_tables(place, [rescored(*each, choice) for each in held])
        console.print(f"{len(held)} cells, {len(made.wide)} rows with {choice}", soft_wrap=True, highlight=False)
        print(place)
        return 0
    table = effects(held, kept)
    place = output or folder / "rescored"
    write_atomic(place / "choices.csv", csv_text(table))
    for line in explained(table):
        console.print(plain(line), soft_wrap=True, markup=False, highlight=False)
    console.print("changes in points, one choice at a time; all of them:", soft_wrap=True)
    print(place / "choices.csv")
    return 0


def read_choice(
    resolution: int | None, smoothing: str | None, image_score: str, aupro: str, regions: str | None
) -> Choice:
    """The choice that the words of a command make; ConfigError names what is allowed."""
    if resolution is not None and not 8 <= resolution <= 4096:
        raise ConfigError(f"--resolution must lie in [8, 4096] px, got {resolution}.")
    sigma = None
    if smoothing is not None:
        try:
            sigma = 0.0 if smoothing == "none" else float(smoothing)
        except ValueError:
            sigma = -1.0
        if not 0 <= sigma <= 256:
            raise ConfigError(f"--smoothing must be none or a deviation in [0, 256] px, got {smoothing!r}.")
    score = next((name for name in SCORES if name == image_score), None)
    if score is None:
        raise unknown("image score", image_score, [*SCORES])
    if aupro not in ("exact", "200steps"):
        raise ConfigError(f"--aupro must be exact or 200steps, got {aupro!r}.")
    if regions not in (None, "resized", "native"):
        raise ConfigError(f"--regions must be resized or native, got {regions!r}.")
    rule: Any = regions
    return Choice(resolution, sigma, score, rule, aupro == "200steps")


def effects(held: Sequence[Held], kept: Sequence[Measured]) -> pd.DataFrame:
    """A line for each row of the leaderboard, metric and single choice: the value, and its change.

    Args:
        held: what can be measured anew.
        kept: what it gives as it was measured.
    """
    records = [record for record, *_ in held]
    wide = wide_table(long_table(records))
    published = _published(wide, records)
    keys = ["method", "dataset", "protocol", "shots", "backbone", "setup"]
    base = {tuple(row[key] for key in keys): row for row in wide[wide["kind"] == "all"].to_dict("records")}
    lines: list[dict[str, Any]] = []
    for choice in SINGLE:
        other = _measured(held, kept, choice)
        for row in other[other["kind"] == "all"].to_dict("records"):
            key = tuple(row[name] for name in keys)
            for metric in metric_names():
                value = row.get(STEPS.get(metric, metric) if choice.steps else metric)
                was = base[key][metric]
                if pd.isna(value) or pd.isna(was) or not _touches(choice, metric):
                    continue
                told = dict(zip(keys, key, strict=True)) | {"metric": metric, "choice": str(choice)}
                claim = published.get((*key, metric))
                lines.append(told | {"measured": was, "value": value, "change": value - was, "published": claim})
    columns = [*keys, "metric", "choice", "measured", "value", "change", "published"]
    return pd.DataFrame(lines, columns=columns)


def explained(table: pd.DataFrame) -> Iterator[str]:
    """A line for each row and metric: what moves it, and which choice comes nearest to what is published."""
    rows = ["method", "dataset", "protocol", "shots", "backbone", "metric"]
    for key, its in table.groupby(rows, sort=False):
        method, dataset, protocol, shots, _, metric = key
        was, claim = its["measured"].iloc[0], its["published"].iloc[0]
        moved = its[its["change"].abs() >= 0.0005].sort_values("change", key=lambda change: -change.abs())
        words = ", ".join(f"{line['choice']} {100 * line['change']:+.1f}" for line in moved.head(3).to_dict("records"))
        line = f"{method} {dataset} {protocol} k={shots} {metric} {100 * was:.1f}: {words or 'nothing moves it'}"
        if claim is not None and not pd.isna(claim):
            near = its.loc[(its["value"] - claim).abs().idxmin()]
            better = abs(near["value"] - claim) < abs(was - claim) - 0.0005
            how = f"{near['choice']} comes nearest, {100 * near['value']:.1f}" if better else "no choice comes nearer"
            line += f"; published {100 * claim:.1f}: {how}"
        yield line


def _touches(choice: Choice, metric: str) -> bool:
    """Whether a choice can move a metric."""
    if choice.steps or choice.regions:
        return metric == "pixel_AUPRO"
    return choice.image_score == "own" or metric.startswith("image")


def _published(wide: pd.DataFrame, records: Sequence[Record]) -> Mapping[tuple[Any, ...], float]:
    claims = beside(wide, records)
    names = ["method", "dataset", "protocol", "shots", "backbone", "setup", "metric"]
    middles = (claims["published_low"] + claims["published_high"]) / 2
    return dict(zip(claims[names].itertuples(index=False, name=None), middles, strict=True))


def _measured(held: Iterable[Held], kept: Iterable[Measured], choice: Choice) -> pd.DataFrame:
    """The leaderboard of a choice, with the keys of the records as they are."""
    found = []
    for (record, predicted, data), own in zip(held, kept, strict=True):
        same = beyond(choice, record.cell) == Choice()
        found.append(replace(record, metrics=own if same else remeasure(record.cell, predicted, data, choice)))
    return wide_table(long_table(found))


def _held(store: Store, console: Console) -> Iterator[Held]:
    """What can be measured anew; says what cannot, and why."""
    for record in superseding.standing(store.all_current()):
        if record.status != "ok":
            continue
        predicted = read(path_of(store.folder, record))
        if predicted is None or predicted.maps is None:
            why = "no predictions were kept" if predicted is None else "scores alone were kept"
            console.print(f"left out: {record.cell_id}: {why}", soft_wrap=True, highlight=False)
            continue
        try:
            data = open_tests(record.cell, predicted)
        except DataError as error:
            console.print(f"left out: {plain(str(error))}", soft_wrap=True, markup=False, highlight=False)
            continue
        yield record, predicted, data


def _prove(held: Iterable[Held], kept: Iterable[Measured], console: Console) -> None:
    """Say by how much what was kept differs from what was measured, under the same choice."""
    widest, where = 0.0, ""
    for (record, *_), again in zip(held, kept, strict=True):
        for category, its in record.metrics.items():
            for name, metric in its.items():
                value = again[category].get(name, {}).get("value")
                if metric["value"] is not None and value is not None:
                    away = abs(value - metric["value"])
                    widest, where = max((widest, where), (away, f"{record.cell_id} {category} {name}"))
    words = f"as measured, what was kept gives the metrics of the records to {widest:.1e} ({where})"
    if widest <= ROUNDED:
        console.print(words, soft_wrap=True, highlight=False)
    else:
        loud(console).print(f"WARNING: {words}", soft_wrap=True, highlight=False)
