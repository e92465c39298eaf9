"""From a record back to the method that it measured: built, fitted and shown its shots as `bench run` does."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch import seed_everything

from benchmark.execution.build import build_method, open_backbone
from benchmark.execution.content import Contents
from benchmark.execution.data import open_data, target
from benchmark.execution.fitting import fit
from benchmark.execution.run_cell import describe_data, loading
from benchmark.execution.watch import NOBODY
from benchmark.records.store import Record
from benchmark.request.cell import Cell, differences
from benchmark.request.inputs import named_files
from datamodules.components.base import AnomalyDataModule
from datamodules.components.sample import UserError
from methods.components.base import Method
from methods.components.clip.precision import set_arithmetic


class ChangedError(UserError):
    """What a record was measured with is no longer there."""


class Fitted(NamedTuple):
    """A method as a record measured it."""

    method: Method  # on the CPU
    data: AnomalyDataModule  # with the test images of the record
    changed: list[str]  # what is otherwise since the record and may or may not change its scores, in words


def fitted_method(record: Record, folder: Path) -> Fitted:
    """Build and fit the method of a record; a fit on an auxiliary set is taken from `folder`/fits where it is kept.

    Args:
        record: whole, of status "ok".
        folder: the results folder that it lies in.

    Raises:
        ChangedError: weights, shots, the auxiliary set or a file that a setting names are others now.
        DataError: its data are not where they were.
    """
    cell = _here(record.cell, folder)
    changed = differences(record.content, Contents({}).of(cell))
    files = named_files(cell.method, cell.dataset, cell.settings)
    lost = [key for key, sha256 in cell.files.items() if files.get(key) != sha256]
    lost += [words for words in changed if words.startswith("auxiliary")]
    if lost:
        raise _changed(record, "; ".join(lost))
    set_arithmetic(cell.settings.protocol.precision)
    backbone = open_backbone(cell)
    if backbone.weights_hash != record.backbone["weights_sha256"]:
        raise _changed(record, "the weights of the backbone")
    device = backbone.mean.device
    seed_everything(cell.seed, workers=True, verbose=False)
    data = open_data(target(cell), backbone.image_size, **loading(cell))
    seen = data if not cell.fitted else open_data(target(cell, cell.seen), backbone.image_size)
    if describe_data(cell, seen)["shots_sha256"] != record.data["shots_sha256"]:
        raise _changed(record, "the shots")
    method = build_method(cell, backbone, data).to(device)
    fit(method, cell, data, device, NOBODY)
    backbone.cpu()
    return Fitted(method.cpu().eval(), data, changed)


def _here(cell: Cell, folder: Path) -> Cell:
    """The cell on whatever device this machine has, without loggers and feature store; it changes no number."""
    where = cell.where
    trainer, features = replace(where.trainer, accelerator="auto"), replace(where.features, enabled=False)
    return replace(cell, where=replace(where, results=str(folder), trainer=trainer, features=features))


def _changed(record: Record, what: str) -> ChangedError:
    return ChangedError(
        f"{record.cell_id} can no longer be fitted as it was measured, for these are others now: {what}. "
        "The same `bench run` measures it anew."
    )
