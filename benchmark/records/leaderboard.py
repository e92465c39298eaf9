"""From records to tables: pure functions, so every file can be rebuilt from the records alone.

Values are fractions in files and percent in rendered tables. A row takes cells of one setup, one code and one set of
weights, and of each category one content; rows compare where their comparison ids are equal. A row is valid for a
leaderboard when its `status` is ok.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.metrics.table import metric_names, metrics
from benchmark.records import rows, superseding
from benchmark.records.beside import beside
from benchmark.records.rows import NOT_MEASURED, SETUP, category_table
from benchmark.records.store import Record, write_atomic
from benchmark.request import registry
from benchmark.request.cell import Cell
from benchmark.request.code import hash_code
from benchmark.request.registry import ConfigError

LONG = (
    "sweep", "cell", "comparison_id", *SETUP, "category", "seed", "metric", "value", "status", "tested", "leaked",
)  # fmt: skip
KEYS = ("backbone", "dataset", "kind", "protocol", "shots", "method")  # first columns of a rendered table
FILES = ("results.csv", "leaderboard.csv", "leaderboard_by_category.csv", "published.csv", "leaderboard.md")
INNER = ("code", "superseded")  # columns of results.csv alone: equal numbers of refactored code leave no trace
CODE_DIGITS = 10
BELOW = " ▼"  # beside a rendered value below chance


def write_tables(folder: Path, records: Iterable[Record]) -> pd.DataFrame:
    """Write the files of `FILES`, each whole or not at all, and return the leaderboard.

    Superseded records are left out; `everything` shows them.
    """
    records = list(superseding.standing(records))
    long = long_table(records)
    wide = wide_table(long)
    shown = [table.drop(columns=list(INNER)) for table in (wide, category_table(long))]
    texts = (csv_text(long), *map(csv_text, (*shown, beside(wide, records))), markdown(wide))
    for name, text in zip(FILES, texts, strict=True):
        write_atomic(folder / name, text)
    return wide


def everything(records: Iterable[Record]) -> pd.DataFrame:
    """The leaderboard with a row of its own for whatever is superseded, from all attempts that succeeded."""
    records = [record for record in records if record.status == "ok"]
    older = superseding.reasons(records)
    ages: dict[str, int] = {}
    words = {}
    for record in sorted(records, key=lambda record: record.started, reverse=True):
        if id(record) in older:
            ages[record.cell_id] = ages.get(record.cell_id, 0) + 1
            words[id(record)] = f"{older[id(record)]} (no. {ages[record.cell_id]})"
    latest = {(record.cell_id, words.get(id(record), "")): record for record in records}
    return wide_table(long_table(latest.values(), words))


def long_table(records: Iterable[Record], superseded: Mapping[int, str] | None = None) -> pd.DataFrame:
    """One line per cell, category and metric; a failed cell has one line without a metric.

    Args:
        records: each of another cell, or of another age as `superseded` says.
        superseded: `id` of a record → by what it is superseded, in words.
    """
    lines: list[dict[str, Any]] = []
    for record in records:
        common = _common(record) | {"superseded": (superseded or {}).get(id(record), "")}
        lines += [common | line for line in _lines(record)]
    columns = [*LONG, *(fact.name for fact in rows.FACTS if fact.of_record)]
    return pd.DataFrame(lines, columns=columns).astype({"value": float})


def _lines(record: Record) -> Iterator[dict[str, Any]]:
    """A line for each category and metric: those of the table of metrics, then others that the record holds."""
    if record.status != "ok":
        why = f"{record.status}: {record.error.get('type', '')} {record.error.get('message', '')}"
        yield {"category": record.cell.part, "metric": "", "value": None, "status": " ".join(why.split())[:300]}
    for category, measured in record.metrics.items():
        for name in dict.fromkeys((*metric_names(), *measured)):
            found = measured.get(name)
            value = found["value"] if found else None
            yield {"category": category, "metric": name, "value": value, "status": _status(found, record.cell.limit)}


def _status(found: Mapping[str, Any] | None, limit: int | None) -> str:
    if found is None:
        return NOT_MEASURED
    if found["value"] is None:
        return f"undefined: {found['reason']}"
    return f"limited: {limit}" if limit else "ok"


def _common(record: Record) -> dict[str, Any]:
    cell, leaks = record.cell, record.leaks
    return {
        "sweep": record.sweep,
        "cell": record.cell_id,
        "comparison_id": record.comparison_id,
        "method": cell.method_label,
        "dataset": cell.dataset,
        "variant": _variant(cell),
        "protocol": cell.protocol_label,
        "shots": cell.shots,
        "backbone": cell.backbone_label,
        "note": cell.note,
        "setup": cell.setup,
        "limit": cell.limit or "",
        "code": hash_code(record.content.get("code", {}))[:CODE_DIGITS],
        "weights": record.backbone.get("weights_sha256", "")[:CODE_DIGITS],
        "seed": cell.seed,
        "tested": leaks.get("tested", 0),
        "leaked": len({*leaks.get("shots", ()), *leaks.get("auxiliary", ())}),
        **{fact.name: fact.of_record(record) for fact in rows.FACTS if fact.of_record},
    }


def wide_table(long: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard: macro mean over categories for each seed, then mean and standard deviation (n - 1) over seeds.

    A row of kind "all" is the mean over all categories; a data set with textures and objects has a row for each kind
    besides. Comparable rows stand together, sorted by image AUROC.
    """
    table = rows.row_table(by_kind(long), {name: _categories(name) for name in long["dataset"].unique()})
    compared = ["backbone", "dataset", "kind", "protocol", "shots", "comparison"]
    best = table.groupby(compared, sort=False)["image_AUROC"].rank(ascending=False, method="first", na_option="bottom")
    order = table.assign(best=best).sort_values([*compared, "best", "method", "superseded"]).index
    return table.loc[order].reset_index(drop=True)


def markdown(wide: pd.DataFrame) -> str:
    """The leaderboard in Markdown: one table per backbone, metrics in percent as mean ± standard deviation."""
    parts = []
    for (backbone, note), its in wide.groupby(["backbone", "note"], sort=False):
        parts.append(f"### {backbone}\n" + (f"\n> {note}\n" if note else ""))
        parts.append(markdown_table(head(), entries(its)))
        parts += [f"{legend(its)}\n"] if legend(its) else []
    return "\n".join(parts) if parts else "No finished cell yet.\n"


def head() -> tuple[str, ...]:
    """The headings of a rendered table."""
    return (*KEYS, *(fact.heading for fact in _shown()), *metric_names(), "status")


def entries(table: pd.DataFrame) -> list[list[str]]:
    """The words of each rendered row, in the order of `head`; a value that is undefined or not measured is a dash."""
    return [
        [
            *(str(row[key]) for key in KEYS),
            *(_word(row[fact.name]) for fact in _shown()),
            *(
                _percent(row[name], row[f"{name}_std"]) + BELOW * (name in row["below_chance"])
                for name in metric_names()
            ),
            row["status"],
        ]
        for row in table.to_dict("records")
    ]


def legend(table: pd.DataFrame) -> str:
    """The notes printed below rendered rows; empty if there are none."""
    words = [f"{BELOW.strip()} below chance."] if table["below_chance"].astype(bool).any() else []
    return " ".join([*words, *(line.note for line in metrics() if line.note and table[line.name].notna().any())])


def describe_leaks(leaks: Mapping[str, Any]) -> str:
    """How many test images of a cell were seen before the test, in words; empty if none was."""
    words = [
        f"{len(leaks[kind])} of {leaks['tested']} test images {'is' if len(leaks[kind]) == 1 else 'are'} {place}"
        for kind, place in (("shots", "among the shots"), ("auxiliary", "in the auxiliary set"))
        if leaks.get(kind)
    ]
    return ", ".join(words)


def by_kind(long: pd.DataFrame) -> pd.DataFrame:
    """Each line once for every kind that its category belongs to; a failed joint cell belongs to all kinds."""
    told = [
        (dataset, category, kind)
        for dataset, category in long[["dataset", "category"]].drop_duplicates().itertuples(index=False)
        for kind, members in _categories(dataset).items()
        if "all" in (kind, category) or category in members
    ]
    kinds = pd.DataFrame(told, columns=["dataset", "category", "kind"], dtype=object)
    return long.merge(kinds, on=["dataset", "category"])


def _categories(dataset: str) -> Mapping[str, Sequence[str]]:
    """Categories by kind: "all" and, if there are several kinds, each; empty where they are found on disk."""
    try:
        facts = registry.dataset(dataset)
    except ConfigError:  # a plug-in that is no longer installed
        return {"all": ()}
    kinds = sorted(set(facts.kinds.values()))
    parts = {kind: [category for category, its in facts.kinds.items() if its == kind] for kind in kinds}
    return {"all": facts.categories} | (parts if len(kinds) > 1 else {})


def _variant(cell: Cell) -> str:
    """The variant, with the settings of the data set that differ from its defaults, since they change its images."""
    changed = cell.changed("dataset")
    return f"{cell.variant} ({changed})" if changed else cell.variant


def _shown() -> list[rows.Fact]:
    return [fact for fact in rows.FACTS if fact.heading]


def _word(value: Any) -> str:
    if pd.isna(value):
        return "–"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _percent(mean: float, std: float) -> str:
    if pd.isna(mean):
        return "–"
    return f"{100 * mean:.1f}" + ("" if pd.isna(std) else f" ± {100 * std:.1f}")


def markdown_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar within a word is escaped."""

    def line(words: Sequence[str]) -> str:
        return "| " + " | ".join(word.replace("|", "\\|") for word in words) + " |"

    return "\n".join([line(headings), "|" + " --- |" * len(headings), *map(line, lines)]) + "\n"


def csv_text(table: pd.DataFrame) -> str:
    """The text of a CSV file of a results folder."""
    return table.map(_harmless).to_csv(index=False, float_format="%.6f", lineterminator="\n")


def _harmless(value: Any) -> Any:
    """A text that a spreadsheet would compute, behind an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
