"""`bench compare`: two results folders, or two methods of one, side by side in pairs, as text of 80 columns."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmark.commands.columns import plain
from benchmark.commands.status import open_store
from benchmark.records.compare import ALL, Block, Comparison, compare
from benchmark.records.leaderboard import csv_text
from benchmark.records.paired import COMPARED
from benchmark.records.store import Record, Store, write_atomic
from benchmark.records.superseding import standing
from benchmark.request.registry import ConfigError, unknown
from datamodules.components.sample import UserError

WIDTH = 80
SHOWN = 6  # setups of one side alone that are named


class NothingPairsError(UserError):
    """A and B have no measurement in common."""


def print_comparison(a: str, b: str, results: Path | None, output: Path | None) -> None:
    """Print what changed from A to B and what it did; with `output` also write all lines as CSV.

    Raises:
        ConfigError: a label that the folder does not hold, or one label twice.
        StoreError: a folder that holds no records.
        NothingPairsError: no category and seed was measured by both.
    """
    if results:
        store = open_store(results)
        sides = _by_label(store, a, b)
        found = compare(*sides, store.whole, store.whole)
    else:
        one, other = open_store(Path(a)), open_store(Path(b))
        found = compare(_standing(one), _standing(other), one.whole, other.whole)
    if not found.blocks:
        raise NothingPairsError(_why_nothing(found))
    for line in lines(found, a, b):
        print(plain(line))
    if output:
        write_atomic(output, csv_text(found.table()))
        print(output)


def _standing(store: Store) -> list[Record]:
    return standing(store.all_current())


def _by_label(store: Store, a: str, b: str) -> tuple[list[Record], list[Record]]:
    """The records of two methods; a label is that of the tables, or the name of a method that has one label."""
    if a == b:
        raise ConfigError(f"A and B must be two methods of the folder, got {a!r} twice.")
    records = _standing(store)
    labels = {record.cell.method_label: record.cell.method for record in records}
    chosen = []
    for name in (a, b):
        its = [label for label in labels if label == name] or [label for label, own in labels.items() if own == name]
        if len(its) != 1:
            raise unknown(f"method in {store.folder}", name, its or [*labels])
        chosen.append([record for record in records if record.cell.method_label == its[0]])
    return chosen[0], chosen[1]


def _why_nothing(found: Comparison) -> str:
    if found.unclear:
        return f"nothing pairs: {found.unclear[0]}. Name two methods with --results DIR, or use folders of one each."
    sides = (("A", found.only_a), ("B", found.only_b))
    told = "; ".join(f"{side} holds {_some(names)}" for side, names in sides)
    return f"nothing pairs, no category and seed was measured by both in one protocol and number of shots: {told}."


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return " | ".join(names[:SHOWN]) + more if names else "no successful cell"


def lines(found: Comparison, a: str, b: str) -> Iterator[str]:
    """The comparison as text of 80 columns."""
    yield from _wrapped(f"A: {a}")
    yield from _wrapped(f"B: {b}")
    yield "B - A in percentage points; 95 % interval (Student's t over what is named)."
    everywhere = [each for each in found.blocks[0].changed if all(each in block.changed for block in found.blocks)]
    yield "what changed:" if everywhere else "what changed: nothing in all of them"
    yield from (line for each in everywhere for line in _wrapped(each, 2))
    for block in found.blocks:
        yield ""
        yield from _block(block, everywhere)
    yield ""
    for side, names in (("A", found.only_a), ("B", found.only_b)):
        yield from _wrapped(f"only in {side}: {_some(names)}") if names else ()
    yield from (line for words in found.unclear for line in _wrapped(f"not paired: {words}"))


def _block(block: Block, everywhere: Sequence[str]) -> Iterator[str]:
    yield from _wrapped(block.title)
    counts = f"{block.pairs} category runs in both, {block.only_a} only in A, {block.only_b} only in B"
    yield from _wrapped(counts, 2)
    if block.not_comparable:
        yield from _wrapped(f"NOT COMPARABLE: {'; '.join(block.not_comparable)}", 2)
    yield from (line for each in block.changed if each not in everywhere for line in _wrapped(f"changed: {each}", 2))
    yield f"  {'':<13}{'A':>7}{'B':>7}{'B - A':>8}  {'interval':<18}{'pairs':>5}  over"
    shown = [line for line in block.lines if line["category"] == ALL]
    for line in shown:
        yield f"  {line['metric']:<13}{_figures(line)}"
    categories = dict.fromkeys(line["category"] for line in block.lines if line["category"] != ALL)
    for metric in COMPARED if len(categories) > 1 else ():
        its = [line for line in block.lines if line["metric"] == metric and line["category"] != ALL]
        if its:
            yield f"  {metric} by category"
        for line in its:
            yield from _category(line)


def _category(line: dict[str, Any]) -> list[str]:
    """A line for a category, two where its name is long."""
    name = line["category"]
    return [f"  {name:<13}{_figures(line)}"] if len(name) <= 13 else [f"  {name}", f"  {'':<13}{_figures(line)}"]


def _figures(line: dict[str, Any]) -> str:
    a, b, difference = (100 * line[key] for key in ("a", "b", "difference"))
    interval = "" if line["low"] is None else f"[{_signed(100 * line['low'])}, {_signed(100 * line['high'])}]"
    return f"{a:>7.1f}{b:>7.1f}{_signed(difference):>8}  {interval:<18}{line['pairs']:>5}  {line['over']}".rstrip()


def _signed(points: float) -> str:
    """Percentage points with their sign; what is rounded to zero has none that says anything."""
    return f"{round(points, 1) + 0.0:+.1f}"


def _wrapped(words: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(
        words, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2), break_on_hyphens=False
    )
