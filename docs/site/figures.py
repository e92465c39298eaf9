"""Figures of the documentation, SVG of one look: the data flow of a method, and what a protocol shows to a model."""

import re
from collections.abc import Collection, Iterable, Mapping
from html import escape
from textwrap import wrap
from typing import NamedTuple

BOX, GAP, LINE, PAD = (106, 46), (23, 18), 15, 4  # px: width and height, between boxes, of a line of text, around all
COLUMNS = 6
MARKS = {"*": "frozen", "+": "learnt", "=": "kept", "!": "result"}
LEGEND = {
    "frozen": "frozen",
    "learnt": "learnt in the fit",
    "kept": "remembered of the shots",
    "result": "what is measured",
}
FIT_ONLY = "in the fit alone"


class FigureError(Exception):
    """A figure's description cannot be drawn."""


class Node(NamedTuple):
    """A box."""

    words: str
    kind: str  # a value of MARKS, or "step"
    row: int
    column: int


class Flow(NamedTuple):
    """Boxes by their words, and arrows: from, to, and whether only a fit has them."""

    nodes: Mapping[str, Node]
    arrows: tuple[tuple[str, str, bool], ...]


def read_flow(text: str) -> Flow:
    """Read the description of a data flow.

    Each line is a row of boxes, left to right, joined by `>` or, where only a fit has the arrow, by `~>`. A mark ends
    the words of a box where it is first named: `*` frozen, `+` learnt, `=` remembered, `!` a result. A box named again
    is the same one. Its row is that of its first line, its column the longest way that leads to it.

    Raises:
        FigureError: arrows run in a circle, two boxes fall into one place, or a page has no room for so many columns.
    """
    rows: dict[str, int] = {}
    kinds: dict[str, str] = {}
    arrows = []
    for line in filter(None, map(str.strip, text.splitlines())):
        row = max(rows.values(), default=-1) + 1  # a line of boxes that are there already takes none
        *parts, last = re.split(r"\s+(~?>)\s+", line)
        words = [each.rstrip("".join(MARKS)) for each in (*parts[::2], last)]
        for said, name in zip((*parts[::2], last), words, strict=True):
            rows.setdefault(name, row)
            if said != name or name not in kinds:
                kinds[name] = MARKS.get(said[len(name) :], "step")
        arrows += [(a, b, sign == "~>") for a, sign, b in zip(words, parts[1::2], words[1:], strict=False)]
    columns = _columns(rows, arrows)
    places = [(rows[name], columns[name]) for name in rows]
    if twice := {place for place in places if places.count(place) > 1}:
        raise FigureError(f"two boxes fall into row and column {sorted(twice)[0]} of the flow:\n{text}")
    if max(columns.values()) >= COLUMNS:
        raise FigureError(f"a flow has at most {COLUMNS} columns, this one {max(columns.values()) + 1}:\n{text}")
    return Flow(
        {name: Node(name, kinds[name], rows[name], columns[name]) for name in rows}, tuple(dict.fromkeys(arrows))
    )


def _columns(names: Iterable[str], arrows: Iterable[tuple[str, str, bool]]) -> dict[str, int]:
    """The length of the longest way to each box."""
    columns, pairs = dict.fromkeys(names, 0), [(a, b) for a, b, _ in arrows]
    for _ in columns:
        late = [(a, b) for a, b in pairs if columns[b] <= columns[a]]
        if not late:
            return columns
        for a, b in late:
            columns[b] = max(columns[b], columns[a] + 1)
    raise FigureError(f"the arrows of a flow run in a circle: {pairs}")


def draw_flow(flow: Flow, title: str) -> str:
    """The flow as SVG of classes that `style.css` colours; its arrows in words are its description.

    Raises:
        FigureError: the words of a box are too many, or boxes stand in the way of an arrow.
    """
    width = (max(node.column for node in flow.nodes.values()) + 1) * (BOX[0] + GAP[0]) - GAP[0]
    height = (max(node.row for node in flow.nodes.values()) + 1) * (BOX[1] + GAP[1])
    kinds = [kind for kind in LEGEND if any(node.kind == kind for node in flow.nodes.values())]
    taken = {(node.row, node.column) for node in flow.nodes.values()}
    parts = [_arrow(flow.nodes[a], flow.nodes[b], fit, taken) for a, b, fit in flow.arrows]
    parts += [_box(node) for node in flow.nodes.values()]
    parts += _legend(kinds, any(fit for *_, fit in flow.arrows), height)
    told = "; ".join(f"{a} leads to {b}" + f" ({FIT_ONLY})" * fit for a, b, fit in flow.arrows)
    return wrapped(parts, width, height + 24, f"Data flow of {title}", told)


def _corner(node: Node) -> tuple[int, int]:
    return node.column * (BOX[0] + GAP[0]), node.row * (BOX[1] + GAP[1])


def _box(node: Node) -> str:
    x, y = _corner(node)
    lines = wrap(node.words, 16)
    if len(lines) > 3:
        raise FigureError(f"a box holds three lines of 16 letters, not {node.words!r}")
    first = y + BOX[1] / 2 - LINE * (len(lines) - 1) / 2 + 4
    texts = "".join(
        f'<text x="{x + BOX[0] / 2:g}" y="{first + LINE * number:g}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    )
    return f'<g class="{node.kind}"><rect x="{x}" y="{y}" width="{BOX[0]}" height="{BOX[1]}" rx="6"/>{texts}</g>'


def _arrow(a: Node, b: Node, fit: bool, taken: Collection[tuple[int, int]]) -> str:
    """An arrow that changes its row in the last gap or, where a box stands in its way, in the first one."""
    (x1, y1), (x2, y2) = _corner(a), _corner(b)
    x1, y1, y2 = x1 + BOX[0], y1 + BOX[1] // 2, y2 + BOX[1] // 2
    between = range(a.column + 1, b.column)
    if all((a.row, column) not in taken for column in between):
        start, end = x2 - GAP[0], x2
    elif all((b.row, column) not in taken for column in between):
        start, end = x1, x1 + GAP[0]
    else:
        raise FigureError(f"boxes stand in the way of the arrow from {a.words!r} to {b.words!r}")
    bend = GAP[0] * 2 // 3
    line = f"M{x1} {y1}H{start}C{start + bend} {y1} {end - bend} {y2} {end} {y2}H{x2}"
    return (
        f'<path class="arrow{" fit" * fit}" d="{line}"/>'
        f'<path class="arrow" d="M{x2 - 6} {y2 - 4}L{x2} {y2}L{x2 - 6} {y2 + 4}"/>'
    )


def _legend(kinds: Iterable[str], fit: bool, y: int) -> list[str]:
    parts, x = [], 0
    for kind in kinds:
        parts.append(f'<g class="{kind}"><rect x="{x}" y="{y}" width="18" height="12" rx="3"/></g>')
        parts.append(f'<text class="said" x="{x + 24}" y="{y + 11}">{LEGEND[kind]}</text>')
        x += 40 + 7 * len(LEGEND[kind])
    if fit:
        parts.append(f'<path class="arrow fit" d="M{x} {y + 6}h22"/>')
        parts.append(f'<text class="said" x="{x + 28}" y="{y + 11}">{FIT_ONLY}</text>')
    return parts


def wrapped(parts: Iterable[str], width: float, height: float, title: str, told: str) -> str:
    """A figure that scrolls where the screen is narrower."""
    box = f"{-PAD} {-PAD} {width + 2 * PAD} {height + 2 * PAD}"
    return (
        f'<figure class="drawn"><svg role="img" viewBox="{box}" style="max-width: {width + 2 * PAD}px">'
        f"<title>{escape(title)}</title><desc>{escape(told)}</desc>{''.join(parts)}</svg></figure>"
    )


# What a protocol shows: two normal shots and three test images for each of three categories.

TILE, STEP, ROW = 26, 32, 44  # px: side of an image, from one to the next, from one category to the next
CATEGORIES = ("bottle", "cable", "screw")
SHOTS, MODEL, TESTS = 150, 330, 520  # px: where each begins
TEST_IMAGES = (False, True, False)  # which are anomalous


def draw_protocol(name: str) -> str:
    """What one protocol shows to a model, and what it is tested on."""
    return {
        "zero_shot": _zero_shot,
        "few_shot": _few_shot,
        "multi_class": _multi_class,
        "leave_one_class_out": _held_out,
    }[name]()


def _tile(x: float, y: float, anomalous: bool = False, seen: str = "") -> str:
    mark = f'<circle cx="{x + 17}" cy="{y + 10}" r="4"/>' if anomalous else ""
    return f'<g class="image {seen}"><rect x="{x}" y="{y}" width="{TILE}" height="{TILE}" rx="3"/>{mark}</g>'


def _tiles(x: float, y: float, anomalous: Iterable[bool], seen: str = "") -> str:
    return "".join(_tile(x + STEP * number, y, each, seen) for number, each in enumerate(anomalous))


def _said(x: float, y: float, text: str) -> str:
    return f'<text class="said" x="{x}" y="{y}">{escape(text)}</text>'


def _model(top: float, bottom: float, text: str = "model") -> str:
    """A box from the middle of one row to that of another."""
    y, height = top - 14, bottom - top + 28
    words = f'<text x="{MODEL + 50}" y="{y + height / 2 + 4}">{text}</text>'
    return f'<g class="learnt"><rect x="{MODEL}" y="{y}" width="100" height="{height}" rx="6"/>{words}</g>'


def _line(x1: float, y1: float, x2: float, y2: float, fit: bool = False) -> str:
    return (
        f'<path class="arrow{" fit" * fit}" d="M{x1} {y1}C{x1 + 24} {y1} {x2 - 24} {y2} {x2} {y2}"/>'
        f'<path class="arrow" d="M{x2 - 7} {y2 - 4}L{x2} {y2}L{x2 - 7} {y2 + 4}"/>'
    )


def _scene(parts: list[str], name: str, shots: bool, told: str, tested: Iterable[int] = (0, 1, 2)) -> str:
    """The parts, and what all protocols have: names of categories, test images, heads."""
    heads = [_said(TESTS, 12, "test images"), _said(SHOTS, 12, "shots, normal" if shots else "another data set")]
    for row, category in enumerate(CATEGORIES):
        if shots or row in tested:
            parts.append(_said(0 if shots else TESTS + 110, _y(row) + 4, category))
        if row in tested:
            parts.append(_tiles(TESTS, _y(row) - TILE / 2, TEST_IMAGES))
    return wrapped([*heads, *parts], TESTS + 170, _y(2) + 24, name, told)


def _y(row: int) -> int:
    """The middle of a category's row."""
    return 42 + ROW * row


def _zero_shot() -> str:
    other = [_tiles(SHOTS - 40, _y(row) - TILE / 2, (False, True, True, False), "auxiliary") for row in range(3)]
    parts = [*other, _model(_y(0), _y(2)), *(_line(SHOTS + 90, _y(r), MODEL, _y(r), fit=True) for r in range(3))]
    parts += [_line(MODEL + 100, _y(row), TESTS - 6, _y(row)) for row in range(3)]
    told = "A model that may be fitted on normal and anomalous images of another data set judges all categories."
    return _scene(parts, "zero_shot", shots=False, told=told)


def _few_shot() -> str:
    parts = []
    for row in range(3):
        parts += [_tiles(SHOTS, _y(row) - TILE / 2, (False, False), "shot"), _model(_y(row), _y(row))]
        parts += [_line(SHOTS + 64, _y(row), MODEL, _y(row)), _line(MODEL + 100, _y(row), TESTS - 6, _y(row))]
    return _scene(parts, "few_shot", shots=True, told="Each category has a model of its own, made of its own shots.")


def _multi_class() -> str:
    parts = [_model(_y(0), _y(2), "one model")]
    for row in range(3):
        parts.append(_tiles(SHOTS, _y(row) - TILE / 2, (False, False), "shot"))
        parts += [_line(SHOTS + 64, _y(row), MODEL, _y(row)), _line(MODEL + 100, _y(row), TESTS - 6, _y(row))]
    return _scene(parts, "multi_class", shots=True, told="One model for all categories, made of the shots of all.")


def _held_out() -> str:
    parts = [_model(_y(0), _y(2), "one model")]
    for row in range(3):
        parts.append(_tiles(SHOTS, _y(row) - TILE / 2, (False, False), "shot"))
        parts.append(_line(SHOTS + 64, _y(row), MODEL, _y(row), fit=row < 2))
    parts += [_line(MODEL + 100, _y(2), TESTS - 6, _y(2)), _said(SHOTS + 68, _y(0) - 8, "fitted on")]
    parts.append(_said(SHOTS + 68, _y(2) - 8, "remembered"))
    told = "A model is fitted on the shots of bottle and cable; those of screw, which is tested, are only remembered."
    return _scene(parts, "leave_one_class_out", shots=True, told=told, tested=(2,))
