"""What a results folder says of the cells of a request: done, failed, missing or stale. Loads no CLIP and no method."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmark.execution.content import Contents
from benchmark.records.store import Store
from benchmark.request.cell import Cell, differences
from benchmark.request.registry import data_root, dataset
from datamodules.components.sample import DataError


class State(NamedTuple):
    """Whether a cell must run, and why."""

    name: str  # done, failed, missing, or stale when its code, data or pixels are no longer those of its record
    why: str = ""


def state(cell: Cell, store: Store, contents: Contents) -> State:
    """What the results folder says of a cell; files are looked at only where there is a record."""
    record = store.current(cell.id)
    if record is None:
        return State("missing")
    if record.status != "ok":
        return State("failed")
    changed = differences(record.content, contents.of(cell))
    return State("stale", "; ".join(changed)) if changed else State("done")


def absent_data(cells: Sequence[Cell]) -> dict[str, str]:
    """The data sets, targets and auxiliary ones, that are not on disk, and where they were looked for."""
    roots = {cell.dataset: cell.where.root for cell in cells}
    roots |= {name: cell.where.auxiliary_root for cell in cells if (name := cell.settings.protocol.auxiliary)}
    absent = {}
    for name, root in roots.items():
        try:
            data_root(dataset(name), root)
        except DataError as error:
            absent[name] = str(error)
    return absent


def cell_states(cells: Sequence[Cell], store: Store, absent: Mapping[str, str]) -> dict[str, State]:
    """State of each cell by id; data sets that are absent are not compared with what a record knows of them."""
    contents = Contents(absent)
    return {cell.id: state(cell, store, contents) for cell in cells}
