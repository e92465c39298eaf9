"""`leaderboard.html`: the whole leaderboard in one file that asks no other for anything."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmark.records import predictions
from benchmark.records.leaderboard import LeaderboardTables, csv_text
from benchmark.records.page.content import behind, describe
from benchmark.records.page.gallery import show_images
from benchmark.records.store import Record, Store, write_atomic

FILE = "leaderboard.html"
HERE = Path(__file__).parent
#: In the order in which they are run.
SCRIPTS = ("start.js", "table.js", "panel.js", "chart.js", "views.js", "controls.js")
WITHOUT_PICTURES = {"groups": [], "said": ["No pictures: this page was made with `--no-pictures`."]}
HEAD = 4096  # bytes at the beginning of a page in which its digest stands


def write_page(store: Store, made: LeaderboardTables, *, anew: bool = False, pictures: bool = True) -> Path:
    """Write the page of a results folder, unless the one that is there tells of the same records.

    Args:
        store: the records.
        made: the tables that were made of them.
        anew: write it whatever is there, since images may have come meanwhile.
        pictures: show images of the data sets, whose licence may forbid to publish them.

    Raises:
        StoreError: it cannot be written.
    """
    path = store.folder / FILE
    told = _digest(store, made.records, csv_text(made.wide), csv_text(made.published))
    if anew or not _holds(path, told):
        rows = behind(made)
        data = describe(store, made.wide, rows, made.published)
        data["gallery"] = show_images(store, made.wide, rows) if pictures else WITHOUT_PICTURES
        write_atomic(path, render(data, told))
    return path


def render(data: dict[str, Any], told: str = "") -> str:
    """The page that shows the data; its digest stands in its head.

    Nothing of the data becomes markup: it is one JSON without a "<", and the script puts it into the page as text. The
    page may run this script and this style alone, and may load nothing but images that it holds itself.
    """
    script = '"use strict";\n' + "".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    style = (HERE / "page.css").read_text(encoding="utf-8")
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    parts = {
        "policy": f"{policy}; base-uri 'none'; form-action 'none'",
        "digest": told,
        "title": html.escape(str(data["title"])),
        "style": style,
        "data": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "script": script,
    }
    template = (HERE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def _hash(text: str) -> str:
    """What the policy of a page calls an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _digest(store: Store, records: Sequence[Record], *tables: str) -> str:
    """Of all that a page is made of but the images of data sets, without reading what was kept of the tests."""
    total = hashlib.sha256()
    for path in sorted(HERE.glob("*.*")):
        total.update(path.read_bytes())
    for record in records:
        kept = None
        with suppress(OSError):
            found = predictions.path_of(store.folder, record).stat()
            kept = (found.st_size, found.st_mtime_ns)
        total.update(repr((record.cell_id, record.attempt, record.status, record.started, kept)).encode())
    for table in tables:
        total.update(table.encode(errors="backslashreplace"))
    return total.hexdigest()


def _holds(path: Path, told: str) -> bool:
    """Whether a page tells of the records with this digest."""
    try:
        with path.open("rb") as file:
            return f'content="{told}"'.encode() in file.read(HEAD)
    except OSError:
        return False
