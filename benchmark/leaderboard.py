"""From records to tables: pure functions, so every file can be rebuilt from the records alone.

Values are fractions in files and percent in rendered tables. A row is valid for a leaderboard when its `status` is ok.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark import registry
from benchmark.cell import Cell, overrides
from benchmark.metrics.names import METRICS
from benchmark.registry import ConfigError
from benchmark.store import Record, write_atomic

LONG = (
    "sweep", "cell", "method", "dataset", "variant", "protocol", "protocol_id", "backbone", "note", "category", "shots",
    "seed", "metric", "value", "status",
)  # fmt: skip
SETUP = ["method", "dataset", "variant", "protocol", "shots", "backbone", "note"]
ROW = [*SETUP, "kind"]
HEAD = (
    "backbone",
    "dataset",
    "kind",
    "protocol",
    "shots",
    "method",
    "seeds",
    *METRICS,
    "status",
)  # of a rendered table
FILES = ("results.csv", "leaderboard.csv", "leaderboard_by_category.csv", "leaderboard.md")


def long_table(records: Iterable[Record]) -> pd.DataFrame:
    """One line per cell, category and metric; a failed cell has one line without a metric."""
    lines: list[dict[str, Any]] = []
    for record in records:
        cell = record.cell
        common = {
            "sweep": record.sweep,
            "cell": record.cell_id,
            "method": cell.method_label,
            "dataset": cell.dataset,
            "variant": _variant(cell),
            "protocol": cell.protocol,
            "protocol_id": record.protocol_id,
            "backbone": cell.backbone_label,
            "note": cell.note,
            "shots": cell.shots,
            "seed": cell.seed,
        }
        if record.status != "ok":
            why = f"{record.status}: {record.error.get('type', '')} {record.error.get('message', '')}"
            lines.append(
                common | {"category": cell.part, "metric": "", "value": None, "status": " ".join(why.split())[:300]}
            )
        for category, metrics in record.metrics.items():
            for name in (*METRICS, *(extra for extra in metrics if extra not in METRICS)):
                value, reason = metrics[name]["value"], metrics[name]["reason"]
                status = f"undefined: {reason}" if value is None else f"limited: {cell.limit}" if cell.limit else "ok"
                lines.append(common | {"category": category, "metric": name, "value": value, "status": status})
    table = pd.DataFrame(lines, columns=list(LONG))
    return table.astype({"value": float})


def category_table(long: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds for each setup, category and metric."""
    return _over_seeds(_measured(long), [*SETUP, "category"])


def wide_table(long: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard: macro mean over categories for each seed, then mean and deviation (n - 1) over seeds.

    A row of kind "all" takes all categories; where a data set has textures and objects, each has a row besides.
    """
    long = _by_kind(long)
    measured = _measured(long)
    macro = measured.groupby([*ROW, "seed", "metric"], dropna=False, sort=False)["value"].mean().reset_index()
    table = _over_seeds(macro, ROW)
    facts = [
        _row_facts(dict(zip(ROW, key, strict=True)), group)
        for key, group in long.groupby(ROW, dropna=False, sort=False)
    ]
    table = pd.DataFrame(facts, columns=[*ROW, "protocol_id", "n_seeds", "categories", "status"]).merge(
        table, how="left", on=ROW
    )
    best = table["image_AUROC"].rank(ascending=False, method="first", na_option="bottom")
    keys = ["backbone", "dataset", "kind", "protocol", "shots", "best", "method"]
    order = table.assign(best=best).sort_values(keys).index
    return table.loc[order].reset_index(drop=True)


def write_tables(folder: Path, records: Iterable[Record]) -> pd.DataFrame:
    """Write the four files of `FILES`, each whole or not at all, and return the leaderboard."""
    long = long_table(records)
    wide = wide_table(long)
    texts = (csv_text(long), csv_text(wide), csv_text(category_table(long)), markdown(wide))
    for name, text in zip(FILES, texts, strict=True):
        write_atomic(folder / name, text)
    return wide


def markdown(wide: pd.DataFrame) -> str:
    """The leaderboard for people: one table per backbone, never mixed, metrics in percent as mean ± std."""
    parts = []
    for (backbone, note), rows in wide.groupby(["backbone", "note"], sort=False):
        parts.append(f"### {backbone}\n" + (f"\n> {note}\n" if note else ""))
        parts.append(markdown_table(HEAD, cells(rows)))
    return "\n".join(parts) if parts else "No finished cell yet.\n"


def cells(rows: pd.DataFrame) -> list[list[str]]:
    """The words of each rendered row, in the order of `HEAD`; an undefined value is a dash."""
    return [
        [
            row["backbone"],
            row["dataset"],
            row["kind"],
            row["protocol"],
            str(row["shots"]),
            row["method"],
            str(row["n_seeds"]),
        ]
        + [_percent(row[name], row[f"{name}_std"]) for name in METRICS]
        + [row["status"]]
        for row in rows.to_dict("records")
    ]


def _measured(long: pd.DataFrame) -> pd.DataFrame:
    return long[long["metric"] != ""]


def _by_kind(long: pd.DataFrame) -> pd.DataFrame:
    """Each line once for every kind that it tells of; a failed cell of all categories tells of all kinds."""
    told = [
        (dataset, category, kind)
        for dataset, category in long[["dataset", "category"]].drop_duplicates().itertuples(index=False)
        for kind, members in _categories(dataset).items()
        if "all" in (kind, category) or category in members
    ]
    kinds = pd.DataFrame(told, columns=["dataset", "category", "kind"], dtype=object)
    return long.merge(kinds, on=["dataset", "category"])


def _over_seeds(values: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    groups = values.groupby([*keys, "metric"], dropna=False, sort=False)["value"]
    means, deviations = groups.mean().unstack("metric"), groups.std(ddof=1).unstack("metric")
    columns = {}
    for name in (*METRICS, *(extra for extra in means.columns if extra not in METRICS)):
        columns[name], columns[f"{name}_std"] = means.get(name), deviations.get(name)
    return pd.DataFrame(columns, index=means.index, dtype=float).reset_index()


def _row_facts(key: dict[str, Any], group: pd.DataFrame) -> dict[str, Any]:
    measured = _measured(group)
    ids = sorted(set(measured["protocol_id"]))
    digest = hashlib.sha256(" ".join(ids).encode()).hexdigest()[:10]
    present = set(zip(measured["category"], measured["seed"], strict=True))
    categories = {category for category, _ in present}
    expected = len(_categories(key["dataset"])[key["kind"]] or categories) * max(group["seed"].nunique(), 1)
    return key | {
        "protocol_id": f"{key['protocol']}@{digest}" if ids else "",
        "n_seeds": measured["seed"].nunique(),
        "categories": len(categories),
        "status": _row_status(group, len(present), expected),
    }


def _row_status(group: pd.DataFrame, present: int, expected: int) -> str:
    limited = group["status"].str.startswith("limited").any()
    failed = int((group["metric"] == "").sum())
    words = ["limited"] if limited else []
    if present < expected or failed:
        words.append(f"partial: {present} of {expected} category runs" + (f", {failed} failed" if failed else ""))
    return "; ".join(words) or "ok"


def _categories(dataset: str) -> Mapping[str, Sequence[str]]:
    """The categories of "all" and, if there are several kinds, of each; none where they are found on disk."""
    try:
        facts = registry.dataset(dataset)
    except ConfigError:  # a plug-in that is no longer installed
        return {"all": ()}
    kinds = sorted(set(facts.kinds.values()))
    parts = {kind: [category for category, its in facts.kinds.items() if its == kind] for kind in kinds}
    return {"all": facts.categories} | (parts if len(kinds) > 1 else {})


def _variant(cell: Cell) -> str:
    """The variant with the settings of the data set that differ from its defaults: other images, another row."""
    try:
        defaults = {name: setting.default for name, setting in registry.dataset(cell.dataset).settings.items()}
    except ConfigError:  # a plug-in that is no longer installed
        return cell.variant
    changed = overrides(cell.settings["dataset"], defaults)
    return f"{cell.variant} ({changed})" if changed else cell.variant


def _percent(mean: float, std: float) -> str:
    if pd.isna(mean):
        return "–"
    return f"{100 * mean:.1f}" + ("" if pd.isna(std) else f" ± {100 * std:.1f}")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of words in Markdown; a bar within a word, as a setting may hold one, ends no cell."""

    def line(words: Sequence[str]) -> str:
        return "| " + " | ".join(word.replace("|", "\\|") for word in words) + " |"

    return "\n".join([line(head), "|" + " --- |" * len(head), *map(line, rows)]) + "\n"


def csv_text(table: pd.DataFrame) -> str:
    """A table as every CSV of a results folder is written."""
    return table.to_csv(index=False, float_format="%.6f", lineterminator="\n")
