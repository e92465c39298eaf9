"""Comparison of the variants of a method with their reference, from the records and requests of a results folder.

A pair is one category of two cells that differ in the variant only. A seed's difference is the mean over its pairs, as
a seed's value is the mean over categories; the interval is Student's over the seeds, since a bootstrap of five seeds is
more than a third too narrow. Categories are not resampled: they are the whole data set, not a sample of one.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from benchmark.records import superseding
from benchmark.records.formats import markdown_table
from benchmark.records.leaderboard import csv_text
from benchmark.records.paired import student
from benchmark.records.rows import NOT_MEASURED
from benchmark.records.store import Record, Store, read_sweep, write_atomic
from benchmark.request.cell import overrides
from benchmark.request.code import hash_code

COMPARED = ("image_AUROC", "image_AP", "pixel_AUROC", "pixel_AP", "pixel_AUPRO")
SETUP = ("dataset", "protocol", "shots", "backbone", "note")
HEAD = ("variant", "settings", "seeds", "pairs", *COMPARED)  # of a rendered table; published figures and status follow
FILES = ("ablation.csv", "ablation.md")
HOW = (
    "Mean in percent; difference to the first row in percentage points, with its 95 % interval (Student's t over the "
    "seeds' mean paired differences). It tells of other seeds and other shots, on the same categories and test images. "
    "Where there is no effect, one interval in twenty misses zero all the same."
)
Key = tuple[int, str]  # seed and category


@dataclass(frozen=True)
class Ablation:
    """One table: the variants of a method in one setup."""

    title: str
    notes: tuple[str, ...]  # what must be read beside the numbers
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]  # the words of each variant
    lines: tuple[dict[str, Any], ...]  # one for each variant and metric; fractions


@dataclass(frozen=True)
class Runs:
    """The measurements of one variant in one setup."""

    expected: int  # category runs that were asked for
    failed: int  # cells
    limited: bool
    values: Mapping[Key, Mapping[str, float | None]]  # by metric
    grounds: Mapping[Key, str]  # what a pair must have in common
    fits: Sequence[tuple[int, Mapping[str, Any]]]  # seed and `Record.fit` of each cell

    def paired(self, reference: "Runs") -> list[Key]:
        """Seeds and categories measured by both, by the same protocol on the same data."""
        return [key for key, name in self.grounds.items() if reference.grounds.get(key) == name]

    def defined(self, metric: str) -> dict[Key, float]:
        """The values of a metric where it is defined; none at all if some run has not measured it."""
        if metric in self.not_measured():
            return {}
        return {key: value for key, values in self.values.items() if (value := values[metric]) is not None}

    def not_converged(self) -> list[str]:
        """Losses that in some seed ended no lower than those of a guess that has seen no image, in words."""
        seeds: dict[str, list[int]] = {}
        for seed, fit in self.fits:
            for name, guess in fit.get("uninformed", {}).items():
                end = fit["terms"][name]  # None if it is no number
                if end is None or end >= guess:
                    seeds.setdefault(name, []).append(seed)
        return [f"{name} in seeds {', '.join(map(str, sorted(set(its))))}" for name, its in seeds.items()]

    def ends(self) -> list[str]:
        """The highest end of each such loss over the fits, with the guess's there, in words."""
        found: dict[str, list[tuple[float, float]]] = {}
        for _, fit in self.fits:
            for name, guess in fit.get("uninformed", {}).items():
                end = fit["terms"][name]
                found.setdefault(name, []).append((math.inf if end is None else end, guess))
        return [f"{name} {end:.3f} of {guess:.3f}" for name, its in found.items() for end, guess in [max(its)]]

    def not_measured(self) -> list[str]:
        """The compared metrics that the record of some run lacks."""
        return [name for name in COMPARED if any(name not in values for values in self.values.values())]


def write_ablations(store: Store) -> list[Ablation]:
    """Compare the variants that the requests of a results folder name, and write `FILES` if there are any."""
    sweeps = sorted((store.folder / "sweeps").glob("*.json"))
    read = [(path.stem, sweep) for path in sweeps if (sweep := read_sweep(path)) is not None]
    found = [table for name, sweep in read for table in ablations(name, sweep, store)]
    if found:
        lines = pd.DataFrame([line for table in found for line in table.lines])
        for name, text in zip(FILES, (csv_text(lines), "\n".join(map(_markdown, found))), strict=True):
            write_atomic(store.folder / name, text)
    return found


def ablations(sweep: str, request: Mapping[str, Any], store: Store) -> Iterable[Ablation]:
    """The tables of one request: one for each method with variants, data set, protocol and number of shots."""
    records = {record.cell_id: record for record in superseding.standing(store.all_current())}
    for method, trials in request.get("trials", {}).items():
        setups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        for trial in trials:
            setups.setdefault(tuple(trial[key] for key in SETUP), []).append(trial)
        for setup, its in setups.items():
            yield _ablation(sweep, method, dict(zip(SETUP, setup, strict=True)), its, request["settings"], records)


def _ablation(
    sweep: str,
    method: str,
    setup: Mapping[str, Any],
    trials: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    records: Mapping[str, Record],
) -> Ablation:
    variants = settings["variants"][method]
    printed = settings.get("published", {}).get(method, {"figures": {}})
    datasets = list(dict.fromkeys(name for figures in printed["figures"].values() for name in figures))
    heads = [_published_head(name, printed, setup, settings) for name in datasets]
    runs = {variant["label"]: _runs(trials, variant["label"], records) for variant in variants}
    reference = runs[variants[0]["label"]]
    rows, lines = [], []
    for variant in variants:
        its = runs[variant["label"]]
        facts = {"variant": variant["label"], "settings": overrides(variant["changes"], {})} | _facts(its, reference)
        measured = {metric: _measure(its, reference, metric) for metric in COMPARED}
        figures = [printed["figures"].get(variant["label"], {}).get(name) for name in datasets]
        rows.append(_row(facts, measured.values(), figures))
        for metric, found in measured.items():
            known = figures if metric == printed.get("metric") else [None] * len(datasets)
            columns = {f"published_{n}": v and v / 100 for n, v in zip(datasets, known, strict=True)}
            lines.append({"sweep": sweep, "method": method, **setup, **facts, "metric": metric, **found, **columns})
    published = f"Published: {printed['backbone']}. {printed['source']}" if heads else ""
    notes = (setup["note"], HOW, _fits(runs), published)
    title = f"{method}: {setup['dataset']}, {setup['protocol']}, shots {setup['shots']}, {setup['backbone']} ({sweep})"
    return Ablation(title, tuple(filter(None, notes)), (*HEAD, *heads, "status"), tuple(rows), tuple(lines))


def _fits(runs: Mapping[str, Runs]) -> str:
    """How the fits of the variants ended; "" where no method tells what an uninformed guess would lose."""
    ends = [f"{label} {', '.join(found)}" for label, its in runs.items() if (found := its.ends())]
    return (
        f"Highest loss at the end of a fit, of what a guess by the base rate loses: {'; '.join(ends)}." if ends else ""
    )


def _runs(trials: Sequence[Mapping[str, Any]], label: str, records: Mapping[str, Record]) -> Runs:
    values: dict[Key, Mapping[str, float | None]] = {}
    ids: dict[Key, str] = {}
    found: list[Record] = []
    for trial in trials:
        record = records.get(trial["cells"][label])
        if record is not None:
            found.append(record)
            for category, metrics in record.metrics.items():
                values[trial["seed"], category] = {name: metric["value"] for name, metric in metrics.items()}
                ids[trial["seed"], category] = same_ground(record)
    expected = sum(len(trial["categories"]) for trial in trials)
    failed = sum(record.status != "ok" for record in found)
    fits = [(record.cell.seed, record.fit) for record in found]
    return Runs(expected, failed, any(record.cell.limit is not None for record in found), values, ids, fits)


def same_ground(record: Record) -> str:
    """What two cells of a pair must share: their comparison, the code of the suite and the weights."""
    code = hash_code(record.content.get("code", {}))
    return f"{record.comparison_id} {code} {record.backbone.get('weights_sha256')}"


def _facts(its: Runs, reference: Runs) -> dict[str, Any]:
    """The number of pairs of a variant and its status; the reference is paired with itself."""
    paired = its.paired(reference)
    words = ["limited"] if its.limited else []
    if len(paired) < its.expected or its.failed:
        failed = f", {its.failed} failed" if its.failed else ""
        words.append(f"partial: {len(paired)} of {its.expected} pairs{failed}")
    if high := its.not_converged():
        words.append(f"not converged: {'; '.join(high)}")
    if absent := its.not_measured():
        words.append(f"{NOT_MEASURED}: {', '.join(absent)}")
    return {
        "paired_seeds": len({seed for seed, _ in paired}),
        "paired": len(paired),
        "expected": its.expected,
        "status": "; ".join(words) or "ok",
    }


def _measure(its: Runs, reference: Runs, metric: str) -> dict[str, Any]:
    """Mean and deviation over seeds, mean paired difference with its interval; None where there is none."""
    own, others = its.defined(metric), reference.defined(metric)
    pairs = [key for key in its.paired(reference) if key in own and key in others]
    seeds = by_seed(own)
    differences = by_seed({key: own[key] - others[key] for key in pairs}) if its is not reference else []
    low, high = student(differences)
    return {
        "mean": fmean(seeds) if seeds else None,
        "std": stdev(seeds) if len(seeds) > 1 else None,
        "difference": fmean(differences) if differences else None,
        "low": low,
        "high": high,
        "pairs": len(pairs),
    }


def by_seed(values: Mapping[Key, float]) -> list[float]:
    """The mean over the categories of each seed."""
    seeds = dict.fromkeys(seed for seed, _ in values)
    return [fmean(value for (other, _), value in values.items() if other == seed) for seed in seeds]


def _row(
    facts: Mapping[str, Any], measured: Iterable[Mapping[str, Any]], figures: Iterable[float | None]
) -> tuple[str, ...]:
    """The words of one variant, in the order of the head."""
    return (
        facts["variant"],
        facts["settings"] or "–",
        str(facts["paired_seeds"]),
        f"{facts['paired']}/{facts['expected']}",
        *map(_words, measured),
        *("–" if value is None else f"{value:.1f}" for value in figures),
        facts["status"],
    )


def _words(found: Mapping[str, Any]) -> str:
    if found["mean"] is None:
        return "–"
    words = f"{100 * found['mean']:.1f}"
    if found["difference"] is not None:
        words += f", {100 * found['difference']:+.1f}"
    if found["low"] is not None:
        words += f" [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
    return words


def _published_head(
    dataset: str, printed: Mapping[str, Any], setup: Mapping[str, Any], settings: Mapping[str, Any]
) -> str:
    """The heading of published figures: data set, metric, and whether data or backbone differ from those here."""
    other = ["other data"] if dataset != setup["dataset"] else []
    other += ["other backbone"] if printed["backbone"] != settings["backbone"]["name"] else []
    words = f"published {dataset} {printed['metric']}, percent"
    return words + (f" ({', '.join(other)})" if other else "")


def _markdown(table: Ablation) -> str:
    notes = "".join(f"\n> {note}\n" for note in table.notes)
    return f"### {table.title}\n{notes}\n{markdown_table(table.head, table.rows)}"
