"""How far each mean of a leaderboard may be trusted: its spread by cause, the best beside it, ranks over data sets.

Seeds move the shots and the start of the fit together, so their spread is named by what a seed decides in a row: the
fit where no shots are seen or all seeds saw the same ones, the shots where nothing is fitted, else both. What other
test images would do is told by a bootstrap of those of each category, normal and anomalous ones apart, over the kept
predictions. All of it is derived from records; it is made by `bench leaderboard` and when a sweep has run something.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.metrics.table import metric_names
from benchmark.records import critical_difference, paired, predictions, ranks
from benchmark.records.leaderboard import LeaderboardTables, csv_text
from benchmark.records.rows import SETUP
from benchmark.records.store import Record, write_atomic
from benchmark.request import registry
from benchmark.request.registry import ConfigError

FILES = ("uncertainty.csv", "ranks.csv", "critical_difference.svg")
RESAMPLED = "image_AUROC"  # the metric whose test images are resampled
RESAMPLES = 1000
SEED = 0  # of the resamples
SHOTS, FIT, BOTH = "shots", "fit", "shots and fit"  # what a seed decides
SPREADS = {SHOTS: "std_shots", FIT: "std_fit", BOTH: "std_shots_and_fit"}
SHARED = ("comparison", "n_seeds", "status")
HIDDEN = ("note", "code", "superseded", "needed")


class Scored(NamedTuple):
    """Scores of the test images of one category in one cell."""

    names: Sequence[str]  # of normal images, then of anomalous ones, each sorted
    normal: NDArray[np.float32]  # (n,)
    anomalous: NDArray[np.float32]  # (m,)


def write_uncertainty(folder: Path, made: LeaderboardTables) -> list[str]:
    """Write `FILES`, each whole or not at all; returns what ranks over data sets say, a sentence each.

    Args:
        folder: the results folder, where predictions lie.
        made: its tables.
    """
    found = list(ranks.rankings(made.wide))
    said = ranks.sentences(found) or ["No ranks over data sets: no two methods have a row of one comparison."]
    texts = (
        csv_text(uncertainty_table(made.wide, made.long, folder, made.records)),
        csv_text(ranks.table(found)),
        critical_difference.diagram(found, said),
    )
    for name, text in zip(FILES, texts, strict=True):
        write_atomic(folder / name, text)
    return said


def uncertainty_table(wide: pd.DataFrame, long: pd.DataFrame, folder: Path, records: Iterable[Record]) -> pd.DataFrame:
    """A line for each row of kind "all" and metric that has a mean; fractions."""
    spreads = pd.DataFrame(_spreads(wide, long), columns=[*SETUP, *SHARED, "metric", "mean", *SPREADS.values()])
    resampled = pd.DataFrame(_resampled(folder, records, long), columns=[*SETUP, "metric", "std_test", "test_images"])
    table = spreads.merge(resampled, how="left", on=[*SETUP, "metric"])
    table = table.merge(paired.compare_with_best(wide, long), how="left", on=[*SETUP, "metric"])
    return table.astype({"test_images": "Int64", "pairs": "Int64"}).drop(columns=list(HIDDEN))


def _spreads(wide: pd.DataFrame, long: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Mean of each row and metric, and the deviation over seeds under the name of what a seed decides."""
    decides = _decided_by_seed(long)
    for row in wide[wide["kind"] == "all"].to_dict("records"):
        setup = {key: row[key] for key in SETUP}
        spread = SPREADS[decides.get(tuple(setup.values()), BOTH)]
        for name in (name for name in metric_names() if not pd.isna(row[name])):
            shared = {key: row[key] for key in SHARED}
            yield setup | shared | {"metric": name, "mean": row[name], spread: row[f"{name}_std"]}


def _decided_by_seed(long: pd.DataFrame) -> dict[tuple[Any, ...], str]:
    """What a seed decides in each setup."""
    measured = long[long["metric"] != ""]
    draws = measured.groupby([*SETUP, "category"], sort=False)["comparison_id"].nunique()
    several = draws.groupby(level=list(SETUP), sort=False).max() > 1
    setups = several.index.to_frame(index=False).itertuples(index=False)
    return {
        tuple(setup): FIT if not redrawn else SHOTS if _fits_nothing(str(setup.method)) else BOTH
        for setup, redrawn in zip(setups, several, strict=True)
    }


def _fits_nothing(label: str) -> bool:
    """Whether the method of a row learns nothing, so that a seed decides its shots alone; no if it is unknown."""
    try:
        return registry.method(label.partition("(")[0]).fits_on == "nothing"
    except ConfigError:  # a plug-in that is no longer installed
        return False


def _resampled(folder: Path, records: Iterable[Record], long: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The deviation of the mean of each row over resampled test images, where all its predictions are kept."""
    known = {record.cell_id: record for record in records}
    rows = long[(long["metric"] == RESAMPLED) & long["value"].notna()]
    for setup, its in rows.groupby(list(SETUP), sort=False):
        parts: dict[str, list[Scored]] | None = {}
        for cell in its["cell"].unique():
            parts = _add(parts, predictions.read(predictions.path_of(folder, known[cell]), with_maps=False))
        values = resample(parts) if parts and {*parts} == {*its["category"]} else None
        if parts and values is not None:
            images = sum(len(seeds[0].names) for seeds in parts.values())
            told = {"metric": RESAMPLED, "std_test": float(values.std(ddof=1)), "test_images": images}
            yield dict(zip(SETUP, setup, strict=True)) | told


def _add(
    parts: dict[str, list[Scored]] | None, predicted: predictions.Predicted | None
) -> dict[str, list[Scored]] | None:
    """The scores by category with those of another cell; None once the predictions of one are missing."""
    if parts is None or predicted is None:
        return None
    categories, names = np.array(predicted.categories), np.array(predicted.names)
    for category in dict.fromkeys(predicted.categories):
        sides = []
        for anomalous in (False, True):
            chosen = np.flatnonzero((categories == category) & (predicted.anomalous == anomalous))
            sides.append(chosen[np.argsort(names[chosen], kind="stable")])
        tested = Scored([*names[np.concatenate(sides)]], *(predicted.scores[side] for side in sides))
        parts.setdefault(category, []).append(tested)
    return parts


def resample(parts: Mapping[str, Sequence[Scored]], resamples: int = RESAMPLES) -> NDArray[np.float64] | None:
    """Macro mean over categories of the mean image AUROC over seeds, of resampled test images: (resamples,).

    One resample draws as many normal and as many anomalous images of each category as there are, with replacement, the
    same ones for every seed. None if the seeds of a category have not scored the same images, or one kind is missing.
    """
    total = np.zeros(resamples)
    for category in sorted(parts):
        seeds = parts[category]
        sizes = len(seeds[0].normal), len(seeds[0].anomalous)
        if 0 in sizes or any(its.names != seeds[0].names or len(its.normal) != sizes[0] for its in seeds):
            return None
        rng = np.random.default_rng([SEED, crc32(category.encode())])
        normal, anomalous = (counts(rng, size, resamples) for size in sizes)
        won = np.mean([wins(its.normal, its.anomalous) for its in seeds], axis=0)  # an AUROC is linear in them
        total += auroc(won, normal, anomalous)
    return total / len(parts)


def counts(rng: np.random.Generator, size: int, resamples: int) -> NDArray[np.float64]:
    """How often each of `size` images stands in a sample of as many with replacement, (resamples, size)."""
    drawn = rng.integers(size, size=(resamples, size)) + size * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * size).reshape(resamples, size).astype(np.float64)


def wins(normal: NDArray[Any], anomalous: NDArray[Any]) -> NDArray[np.float64]:
    """Whether each anomalous image scores above each normal one, (m, n): 1, or 1/2 for a tie; the AUROC is its mean."""
    return np.asarray((anomalous[:, None] > normal) + 0.5 * (anomalous[:, None] == normal))


def auroc(won: NDArray[Any], normal: NDArray[Any], anomalous: NDArray[Any]) -> NDArray[np.float64]:
    """AUROC of samples in which each image stands so many times.

    Args:
        won: (m, n) of `wins`, of one seed or the mean of several.
        normal: (B, n) how often each stands in a sample.
        anomalous: (B, m).

    Returns:
        (B,) in [0, 1].
    """
    return np.asarray(((anomalous @ won) * normal).sum(axis=1) / (normal.sum(axis=1) * anomalous.sum(axis=1)))
