"""A displayed table in a terminal, whose width it fits; in a pipe plain columns."""

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console
from rich.text import Text

from benchmark.commands.columns import plain
from benchmark.records import formats
from benchmark.records.display import BY_INTEREST, FIRST, SECOND, Column, Display

GAP = formats.GAP
STYLES = {FIRST: "bold", SECOND: "underline"}
GROUPED = ("dataset", "kind", "protocol", "shots", "comparison")  # said above the rows of a comparison
#: What a narrow table does without, in this order.
DISPENSABLE = ("status", "knows", *reversed(BY_INTEREST[2:]), "seeds", BY_INTEREST[1])


def loud(console: Console) -> Console:
    """Where errors go: the console, of one that is quiet the standard error."""
    return Console(stderr=True) if console.quiet else console


def print_display(shown: Display, console: Console, *, wide: bool = False) -> None:
    """A table that fits the terminal, or with all its columns if it shall be `wide`; into a pipe plain columns.

    Rows of one comparison stand below a line that says what they share. A quiet console gets nothing.
    """
    if console.quiet:
        return
    if not console.is_terminal:
        print(formats.plain(shown), file=console.file)
        return
    names = [column.name for column in shown.columns]
    above = [i for i, name in enumerate(names) if name in GROUPED]
    beside = [i for i in range(len(names)) if i not in above]
    fitted = shown.only(beside) if wide else fit(shown.only(beside), console.width)
    widths = [_width(fitted, i) for i in range(len(fitted.columns))]
    _print(console, Text(plain(fitted.title), "bold"))
    for part in (0, 1):
        heads = [["", *_heading(column)][-2:][part] for column in fitted.columns]
        if any(heads):
            _print(console, _line(heads, [0] * len(heads), fitted, widths))
    for i, line in enumerate(fitted.lines):
        if above and (not i or fitted.groups[i] != fitted.groups[i - 1]):
            _print(console, Text(plain(_shared([shown.lines[i][j] for j in above], [names[j] for j in above])), "dim"))
        _print(console, _line(line, fitted.places[i], fitted, widths))
    for note in (*fitted.notes, *fitted.legend):
        console.print(plain(note), markup=False, highlight=False)


def fit(shown: Display, width: int) -> Display:
    """The table without the columns that matter least until it fits; its notes name what is missing."""
    names = [column.name for column in shown.columns]
    kept, notes, left_out = list(range(len(names))), list(shown.notes), []
    for name in (name for name in DISPENSABLE if name in names):
        if sum(_width(shown, i) + len(GAP) for i in kept) - len(GAP) <= width:
            break
        index = names.index(name)
        kept.remove(index)
        left_out.append(shown.columns[index].heading)
        if name == "status":
            notes += _told_below(shown, index)
    if left_out:
        notes.append(f"Not shown: {', '.join(left_out)}; --wide shows all.")
    return replace(shown.only(kept), notes=notes)


def _told_below(shown: Display, status: int) -> list[str]:
    """For each status but "ok" the methods that have it."""
    method = [column.name for column in shown.columns].index("method")
    found: dict[str, list[str]] = {}
    for line in shown.lines:
        if line[status] != "ok":
            found.setdefault(line[status], []).append(line[method])
    return [f"{words}: {', '.join(dict.fromkeys(methods))}" for words, methods in found.items()]


def _shared(words: Sequence[str], names: Sequence[str]) -> str:
    """What rows of one comparison share, such as "visa, few_shot, 4 shots, comparison 1a2b3c4d"."""
    told = dict(zip(names, words, strict=True))
    shots, ids = told.pop("shots", ""), told.pop("comparison", "")
    parts = [word for name, word in told.items() if (name, word) != ("kind", "all")]
    parts += [f"{shots} shot{'s' * (shots != '1')}"] if shots else []
    return ", ".join([*parts, *([f"comparison {ids}"] if ids else [])])


def _line(words: Sequence[str], places: Sequence[int], shown: Display, widths: Sequence[int]) -> Text:
    line = Text(end="")
    for i, (word, place, width) in enumerate(zip(words, places, widths, strict=True)):
        short = plain(_short(word))
        pad = " " * (width - len(short))
        right = shown.columns[i].numeric
        line.append(GAP if i else "").append(pad if right else "")
        line.append(short, STYLES.get(place)).append("" if right else pad)
    return line


def _print(console: Console, line: Text) -> None:
    line.rstrip()
    console.print(line, soft_wrap=True, highlight=False)


def _short(word: str) -> str:
    return word.replace(" ± ", "±").replace(" ▼", "▼").replace(" ≈", "≈")


def _heading(column: Column) -> list[str]:
    """The heading of a column, of a metric in two lines."""
    return column.heading.split(" ", 1)


def _width(shown: Display, column: int) -> int:
    """Characters of a column in a terminal."""
    words = [*_heading(shown.columns[column]), *(plain(_short(line[column])) for line in shown.lines)]
    return max(map(len, words))
