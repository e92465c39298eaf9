"""One record, by what a user can copy: its file, the folder of its cell, or the cell's id and a results folder."""

import glob
from pathlib import Path

from benchmark.records.store import Record, Store
from benchmark.request.registry import unknown
from datamodules.components.roots import plain_path
from datamodules.components.sample import UserError


class RecordError(UserError):
    """There is no such record, or none that can be used."""


def find_record(record: str | Path, results: str | Path | None = None) -> tuple[Path, Record]:
    """The whole record and its results folder.

    Args:
        record: `DIR/cells/ID/attempt-N.json`, `DIR/cells/ID`, `DIR/ID`, or ID alone, as leaderboard.html shows it.
        results: DIR, where ID stands alone.

    Returns:
        DIR and the attempt of that file, or the current one of that cell.

    Raises:
        RecordError: there is no such cell, or it has not succeeded.
        ConfigError: naming the cells that there are.
    """
    path = plain_path(Path(results, record) if results else Path(record))
    number, cell = None, path
    if path.suffix == ".json":
        number, cell = path.stem, path.parent
    folder = cell.parents[1] if cell.parent.name == "cells" else cell.parent
    if not (folder / "cells").is_dir():
        raise RecordError(
            f"{record} is no record: give DIR/cells/ID/attempt-N.json, or ID and --results DIR; {folder} has no cells."
        )
    store = Store(folder, only=glob.escape(cell.name))
    attempts = [each for each in store.all_records() if number in (None, f"attempt-{each.attempt}")]
    if not attempts:
        if not (folder / "cells" / cell.name).is_dir():
            raise unknown(f"cell of {folder}", cell.name, sorted(each.name for each in (folder / "cells").iterdir()))
        raise RecordError(f"{record} cannot be read as a record of this version of the suite.")
    found = store.current(cell.name) if number is None else attempts[0]
    if found is None or found.status != "ok":
        why = found.error.get("message", "") if found else ""
        raise RecordError(f"{record} has not succeeded{f': {why}' if why else ''}; run the cell again.")
    return folder, store.whole(found)
