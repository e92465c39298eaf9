"""Markdown tables."""

from collections.abc import Iterable, Sequence
from html import escape


def cell(value: object) -> str:
    """A value as a cell of a table holds it: in one line, without what would be a column or an element."""
    return escape(" ".join(str(value).split()), quote=False).replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of texts that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def code(value: object) -> str:
    """A value as code; null for none."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else '`""`'
