"""From records to tables: pure functions, so every file can be rebuilt from the records alone.

Values are fractions in files and percent in rendered tables. A row takes cells of one setup, one code and one set of
weights, and of each category one content; rows compare where their comparison ids are equal. A row is valid for a
leaderboard when its `status` is ok.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmark.metrics.table import metric_names
from benchmark.records import formats, paired, rows, superseding
from benchmark.records.beside import beside, words
from benchmark.records.cost import cost_table
from benchmark.records.display import displays
from benchmark.records.rows import NOT_MEASURED, SETUP, category_table
from benchmark.records.store import Record, write_atomic
from benchmark.request import registry
from benchmark.request.cell import Cell
from benchmark.request.code import hash_code
from benchmark.request.registry import ConfigError

LONG = (
    "sweep", "cell", "comparison_id", *SETUP, "category", "seed", "metric", "value", "status", "tested", "leaked",
)  # fmt: skip
FILES = (
    "results.csv", "leaderboard.csv", "leaderboard_by_category.csv", "published.csv", "cost.csv", "leaderboard.md",
)  # fmt: skip
INNER = ("code", "superseded")  # columns of results.csv alone: equal numbers of refactored code leave no trace
CODE_DIGITS = 10


class LeaderboardTables(NamedTuple):
    """What a results folder holds, without what is superseded, which `everything` shows."""

    records: Sequence[Record]
    long: pd.DataFrame
    wide: pd.DataFrame  # the leaderboard
    categories: pd.DataFrame
    published: pd.DataFrame  # beside measured means
    costs: pd.DataFrame

    def write(self, folder: Path) -> None:
        """Write the files of `FILES`, each whole or not at all."""
        shown = [table.drop(columns=list(INNER)) for table in (self.wide, self.categories, self.costs)]
        wide, categories, costs = map(csv_text, shown)
        published = csv_text(self.published)
        texts = (csv_text(self.long), wide, categories, published, costs, markdown(self.wide, self.published))
        for name, text in zip(FILES, texts, strict=True):
            write_atomic(folder / name, text)


def make_tables(records: Iterable[Record]) -> LeaderboardTables:
    """The tables of records."""
    records = list(superseding.standing(records))
    long = long_table(records)
    wide = wide_table(long)
    return LeaderboardTables(
        records, long, wide, category_table(long), beside(wide, records), cost_table(records, wide)
    )


def write_tables(folder: Path, records: Iterable[Record]) -> LeaderboardTables:
    """Make the tables of records and write them."""
    made = make_tables(records)
    made.write(folder)
    return made


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
    return paired.mark(table.loc[order].reset_index(drop=True), long)


def markdown(wide: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The leaderboard in Markdown: a table per backbone, then what is published of its rows, in a table of its own."""
    parts = [formats.markdown(shown) for shown in displays(wide)]
    if published is not None and not published.empty:
        parts.append(_markdown_beside(published))
    return "\n".join(parts) if parts else "No finished cell yet.\n"


def _markdown_beside(published: pd.DataFrame) -> str:
    head = ("dataset", "protocol", "shots", "method", "metric", "published", "measured", "difference", "verdict")
    lines = [[words(row)[name] for name in head] for row in published.to_dict("records")]
    return f"### Published figures beside measured ones\n\n{formats.markdown_table(head, lines)}"


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


def csv_text(table: pd.DataFrame) -> str:
    """The text of a CSV file of a results folder."""
    return table.map(_harmless).to_csv(index=False, float_format="%.6f", lineterminator="\n")


def _harmless(value: Any) -> Any:
    """A text that a spreadsheet would compute, behind an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
