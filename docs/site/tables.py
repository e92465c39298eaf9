"""Markdown tables."""

import re
from collections.abc import Iterable, Sequence
from html import escape


def cell(value: object) -> str:
    """A value as a cell of a table holds it: in one line, without what would be a column, an element or emphasis."""
    text = escape(" ".join(str(value).split()), quote=False).replace("|", "\\|")
    return "".join(part if part.startswith("`") else part.replace("*", "\\*") for part in re.split("(`[^`]*`)", text))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of texts that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def common(head: Sequence[str], rows: Sequence[Sequence[str]], keys: int) -> str:
    """A table, with a sentence before it for those of its first `keys` columns in which all of several rows agree."""
    same = [i for i in range(keys) if len(rows) > 1 and len({row[i] for row in rows}) == 1]
    kept = [i for i in range(len(head)) if i not in same]
    said = "In every row: " + ", ".join(f"{head[i]} {rows[0][i]}" for i in same) + ".\n\n" if same else ""
    return said + table([head[i] for i in kept], [[row[i] for i in kept] for row in rows])


def code(value: object) -> str:
    """A value as code; null for none."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else '`""`'
