"""Tables of words: in a pipe tab-separated lines, in a terminal as many columns as fit and the rest below each row."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.text import Text

GAP = "  "
LAST = 30  # characters that the last column keeps where it is wrapped beside the others


def plain(text: str) -> str:
    """A text whose control characters and lone surrogates, which a terminal would obey or refuse, are spelt out."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def print_rows(head: Sequence[str], rows: Iterable[Sequence[str]], console: Console) -> None:
    """Print rows of words below their headings; no word is ever broken, so that names, paths and links can be copied.

    In a pipe each row is one line, tab-separated. In a terminal the columns that do not fit stand below their row, each
    behind its heading.
    """
    told = [[plain(word) for word in row] for row in rows]
    if not console.is_terminal:
        print(*("\t".join(row) for row in (head, *told)), sep="\n")
        return
    widths = [max(map(len, column)) for column in zip(head, *told, strict=True)]
    beside, room = _fitting(widths, console.width)
    _print(_aligned(head[:beside], widths), console, "bold")
    for row in told:
        first, *more = _wrapped_last(row[:beside], widths, room) if room else [_aligned(row[:beside], widths)]
        facts = [f"{name}: {word}" for name, word in zip(head[beside:], row[beside:], strict=True) if word]
        for line in (first, *more, *_below(facts, console.width)):
            _print(line, console)


def _fitting(widths: Sequence[int], width: int) -> tuple[int, int]:
    """How many columns stand beside each other, and the room for the last of all where it is wrapped, else 0."""
    ends = [sum(widths[: i + 1]) + len(GAP) * i for i in range(len(widths))]
    if ends[-1] <= width:
        return len(widths), 0
    room = width - (ends[-1] - widths[-1])
    if room >= LAST:
        return len(widths), room
    return max(1, sum(end <= width for end in ends)), 0


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(word.ljust(width) for word, width in zip(row, widths, strict=False)).rstrip()


def _wrapped_last(row: Sequence[str], widths: Sequence[int], room: int) -> Iterator[str]:
    first, *more = _wrap(row[-1], room) or [""]
    yield _aligned([*row[:-1], first], widths)
    before = " " * (sum(widths[:-1]) + len(GAP) * len(widths[:-1]))
    yield from (before + line for line in more)


def _below(facts: Sequence[str], width: int) -> Iterator[str]:
    """Facts on indented lines, several on one where they fit."""
    line = ""
    for fact in (*facts, ""):
        longer = f"{line}; {fact}" if line else fact
        if fact and len(longer) + len(GAP) <= width:
            line = longer
        else:
            yield from _wrap(line, width, GAP, 2 * GAP)
            line = fact


def _wrap(words: str, width: int, first: str = "", others: str = "") -> list[str]:
    return textwrap.wrap(
        words, width, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def _print(line: str, console: Console, style: str = "") -> None:
    console.print(Text(line, style), soft_wrap=True, highlight=False)
