"""Critical-difference diagrams after Demšar (2006), drawn as SVG: methods on a line of mean ranks, bars join equals."""

import textwrap
from collections.abc import Sequence
from html import escape

from benchmark.records.ranks import Ranking

WIDTH, MARGIN = 900, 230  # px; the margins hold the names of the methods
LINE, TOP = 20, 70  # px between names; px above the axis
NAME = 24  # letters of a name in a margin
LETTERS = 110  # of a sentence, in a line of that width
STYLE = "font-family: sans-serif; font-size: 13px"


def diagram(found: Sequence[Ranking], without: Sequence[str]) -> str:
    """One SVG of all rankings, one below the other.

    Args:
        found: rankings; those that could not be made are left out.
        without: what is said where there is none, a line each.
    """
    parts: list[str] = []
    height = 10
    for ranking in (its for its in found if not its.why_not):
        drawn, its_height = _panel(ranking)
        parts.append(f'<g transform="translate(0 {height})">{drawn}</g>')
        height += its_height
    if not parts:
        lines = [line for sentence in without for line in textwrap.wrap(sentence, LETTERS)]
        parts = [_text(10, 30 + LINE * place, line) for place, line in enumerate(lines)]
        height += 20 + LINE * len(lines)
    body = "\n".join(parts)
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    background = f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="{STYLE}">\n{background}\n{body}\n</svg>\n'


def _panel(its: Ranking) -> tuple[str, int]:
    """The drawing of one ranking and its height in px; the best methods stand left."""
    count, bars = len(its.methods), its.alike()
    below = TOP + 12 + 8 * len(bars)  # px to the first name
    left = (count + 1) // 2  # methods whose names stand on the left
    parts = [
        _text(10, 15, f"Mean rank over {len(its.datasets)} data sets: {its.title}"),
        _line(_x(1, count), TOP, _x(count, count), TOP),
    ]
    for mark in range(1, count + 1):
        parts += [
            _line(_x(mark, count), TOP - 5, _x(mark, count), TOP),
            _text(_x(mark, count), TOP - 9, mark, "middle"),
        ]
    parts += _ruler(its.critical_difference, count)
    for place, (method, rank) in enumerate(zip(its.methods, its.ranks, strict=True)):
        row = place if place < left else count - 1 - place
        x, y = _x(rank, count), below + LINE * (row + 1)
        end, anchor = (MARGIN - 15, "end") if place < left else (WIDTH - MARGIN + 15, "start")
        parts += [_line(x, TOP, x, y), _line(x, y, end, y)]
        parts.append(_text(end + (-5 if anchor == "end" else 5), y + 4, f"{_short(method)} ({rank:.2f})", anchor))
    for number, (first, last) in enumerate(bars):
        y = TOP + 10 + 8 * number
        parts.append(_line(_x(its.ranks[first], count) - 4, y, _x(its.ranks[last], count) + 4, y, width=4))
    return "\n".join(parts), below + LINE * (left + 2)


def _short(name: str) -> str:
    """A name that fits the margin; ranks.csv has all of it."""
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"


def _ruler(critical: float, count: int) -> list[str]:
    """The critical difference as a length, above the axis; no longer than the axis."""
    start, end = _x(1, count), _x(min(1 + critical, count), count)
    longer = " (longer than the axis)" if 1 + critical > count else ""
    ends = [_line(x, TOP - 38, x, TOP - 30) for x in (start, end)]
    return [_line(start, TOP - 34, end, TOP - 34), *ends, _text(end + 8, TOP - 30, f"CD = {critical:.2f}{longer}")]


def _x(rank: float, count: int) -> float:
    return MARGIN + (rank - 1) / (count - 1) * (WIDTH - 2 * MARGIN)


def _line(x1: float, y1: float, x2: float, y2: float, width: int = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="black" stroke-width="{width}"/>'


def _text(x: float, y: float, words: object, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(str(words))}</text>'
