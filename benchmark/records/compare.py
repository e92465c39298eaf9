"""Comparison of two sets of records, A and B, in pairs: what changed between them and what that did to each metric.

A pair is one category and seed that both have measured for one data set, protocol and number of shots. As in an
ablation a seed's difference is the mean over its pairs, and the interval is Student's over the seeds; of a single seed
it is over its categories, and the word beside it says so.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import pandas as pd

from benchmark.metrics.table import metric_names
from benchmark.records.ablation import Key, by_seed
from benchmark.records.changes import changes, why_not_comparable
from benchmark.records.paired import student
from benchmark.records.store import Record

ALL = ""  # the category of a line that takes all
COLUMNS = (
    "dataset", "protocol", "shots", "method_a", "method_b", "backbone_a", "backbone_b", "category", "metric", "a", "b",
    "difference", "low", "high", "pairs", "over", "comparable",
)  # fmt: skip
Whole = Callable[[Record], Record]  # a record with all fields, read from disk
Group = dict[tuple[Any, ...], list[Record]]  # by what tells setups of one data set, protocol and number of shots apart


@dataclass(frozen=True)
class Block:
    """One method, or two, on one data set in one protocol with one number of shots."""

    title: str
    pairs: int  # category runs
    only_a: int
    only_b: int
    changed: tuple[str, ...]
    not_comparable: tuple[str, ...]  # why some pair's comparison ids differ; empty if none does
    lines: tuple[dict[str, Any], ...]  # of `COLUMNS`: each metric over all categories, then of each category


@dataclass(frozen=True)
class Comparison:
    """All that A and B have in common, and what has no partner."""

    blocks: list[Block] = field(default_factory=list)
    only_a: list[str] = field(default_factory=list)  # setups, in words
    only_b: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)  # where several setups could be partners

    def table(self) -> pd.DataFrame:
        """The lines of all blocks, fractions."""
        return pd.DataFrame([line for block in self.blocks for line in block.lines], columns=list(COLUMNS))


def compare(a: Iterable[Record], b: Iterable[Record], whole_a: Whole, whole_b: Whole) -> Comparison:
    """Pair the successful records of two sides, which hold one record of each cell.

    Setups of one method are partners where label, split, protocol, backbone and limit agree; of the others, where one
    is left on each side. Methods are compared with each other where each side holds a single one.
    """
    sides = [[record for record in its if record.status == "ok"] for its in (a, b)]
    methods = [{record.cell.method_label for record in its} for its in sides]
    one_each = len(methods[0]) == len(methods[1]) == 1
    groups_a, groups_b = (_groups(its, by_method=not one_each) for its in sides)
    found = Comparison()
    for key in dict.fromkeys((*groups_a, *groups_b)):
        left_a, left_b = dict(groups_a.get(key, {})), dict(groups_b.get(key, {}))
        for one, other in _partners(left_a, left_b):
            block = _block(one, other, whole_a, whole_b)
            if block.pairs:
                found.blocks.append(block)
            else:
                found.only_a.append(_title(one[0], one[0]))
                found.only_b.append(_title(other[0], other[0]))
        if left_a and left_b:
            first = next(iter(left_a.values()))[0]
            counts = f"{len(left_a)} setups in A and {len(left_b)} in B"
            found.unclear.append(f"{_title(first, first)}: {counts}, none of which agree")
        else:
            found.only_a.extend(_title(its[0], its[0]) for its in left_a.values())
            found.only_b.extend(_title(its[0], its[0]) for its in left_b.values())
    return found


def _groups(records: Iterable[Record], *, by_method: bool) -> dict[tuple[Any, ...], Group]:
    groups: dict[tuple[Any, ...], Group] = {}
    for record in records:
        cell = record.cell
        key = (cell.dataset, cell.protocol, cell.shots, cell.method if by_method else "")
        trait = (
            cell.method_label if by_method else "",
            (cell.variant, cell.changed("dataset")),
            cell.protocol_label,
            cell.backbone_label,
            cell.limit,
        )
        groups.setdefault(key, {}).setdefault(trait, []).append(record)
    return groups


def _partners(left_a: Group, left_b: Group) -> Iterator[tuple[list[Record], list[Record]]]:
    """Setups that are compared; takes them from both sides."""
    for trait in [*left_a]:
        if trait in left_b:
            yield left_a.pop(trait), left_b.pop(trait)
    if len(left_a) == len(left_b) == 1:
        yield left_a.popitem()[1], left_b.popitem()[1]


def _block(a: Sequence[Record], b: Sequence[Record], whole_a: Whole, whole_b: Whole) -> Block:
    ours, theirs = _by_run(a), _by_run(b)
    keys = [key for key in ours if key in theirs]
    couples = list({ours[key].cell_id: (ours[key], theirs[key]) for key in keys}.values())
    unequal = [(one, other) for one, other in couples if one.comparison_id != other.comparison_id]
    return Block(
        _title(a[0], b[0]),
        len(keys),
        len(ours.keys() - theirs.keys()),
        len(theirs.keys() - ours.keys()),
        tuple(changes(couples, whole_a, whole_b)) if couples else (),
        tuple(why_not_comparable([(whole_a(one), whole_b(other)) for one, other in unequal])),
        tuple(_lines(ours, theirs, keys)),
    )


def _by_run(records: Iterable[Record]) -> dict[Key, Record]:
    return {(record.cell.seed, category): record for record in records for category in record.metrics}


def _title(a: Record, b: Record) -> str:
    cell = a.cell
    methods = dict.fromkeys((cell.method_label, b.cell.method_label))
    shots = [f"{cell.shots} shot{'s' if cell.shots > 1 else ''}"] if cell.shots else []
    return ", ".join((" and ".join(methods), cell.dataset, cell.protocol, *shots))


def _lines(ours: Mapping[Key, Record], theirs: Mapping[Key, Record], keys: Sequence[Key]) -> Iterator[dict[str, Any]]:
    """The lines of a block; a metric that is undefined or not measured on one side makes no pair."""
    for category in (ALL, *dict.fromkeys(category for _, category in keys)):
        chosen = [key for key in keys if category in (ALL, key[1])]
        for metric in metric_names():
            a, b = ({key: _value(side[key], key, metric) for key in chosen} for side in (ours, theirs))
            both = {key: (x, y) for key in chosen if (x := a[key]) is not None and (y := b[key]) is not None}
            if both:
                one, other = ours[chosen[0]], theirs[chosen[0]]
                equal = all(ours[key].comparison_id == theirs[key].comparison_id for key in both)
                yield (
                    _setting(one, other) | {"category": category, "metric": metric, "comparable": equal} | measure(both)
                )


def _setting(a: Record, b: Record) -> dict[str, Any]:
    return {
        "dataset": a.cell.dataset,
        "protocol": a.cell.protocol,
        "shots": a.cell.shots,
        "method_a": a.cell.method_label,
        "method_b": b.cell.method_label,
        "backbone_a": a.cell.backbone_label,
        "backbone_b": b.cell.backbone_label,
    }


def _value(record: Record, key: Key, metric: str) -> float | None:
    value: float | None = record.metrics[key[1]].get(metric, {"value": None})["value"]
    return value


def measure(both: Mapping[Key, tuple[float, float]]) -> dict[str, Any]:
    """Means of both sides, the mean difference B minus A with its 95 % interval, and what the interval is over.

    Args:
        both: by seed and category, the values of A and B.
    """
    differences = {key: y - x for key, (x, y) in both.items()}
    seeds = by_seed(differences)
    units, over = (seeds, "seeds") if len(seeds) > 1 else (list(differences.values()), "categories")
    low, high = student(units)
    return {
        "a": fmean(by_seed({key: x for key, (x, _) in both.items()})),
        "b": fmean(by_seed({key: y for key, (_, y) in both.items()})),
        "difference": fmean(seeds),
        "low": low,
        "high": high,
        "pairs": len(both),
        "over": f"{len(units)} {over}" if low is not None else "",
    }
