"""A recorded cell becomes a fitted method again: from what was kept of its fit, else from the same shots."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from benchmark.execution import kept_fit
from benchmark.execution.build import open_backbone
from benchmark.execution.content import hash_captions
from benchmark.execution.data import open_data, target
from benchmark.execution.fitting import read_learnt
from benchmark.execution.refit import Shots, begin, fit_on, remember
from benchmark.records.finding import RecordError
from benchmark.records.store import Record
from benchmark.request import registry
from benchmark.request.cell import VERSIONS, Cell, differences
from benchmark.request.inputs import code, named_files
from benchmark.request.on_disk import load_datamodule
from benchmark.request.settings import compose, parse_words
from benchmark.request.words import Said
from datamodules.components.content import file_digest
from datamodules.components.pixel_probe import pixel_probe
from datamodules.components.sample import DataError
from methods.components.base import Method
from methods.components.clip.backbone import BackboneError, CLIPBackbone

SMALLEST = 8  # side of images that nobody reads


class Revived(NamedTuple):
    """A fitted method, and what it was made of."""

    cell: Cell
    method: Method
    words: Mapping[str, str]  # that name the object of each category
    remarks: list[str]  # what must be said beside its scores


def revive(folder: Path, record: Record, device: str, backbone: str | None) -> Revived:
    """The method of a record as it was after its fit.

    Args:
        folder: the results folder.
        record: a success, whole.
        device: of `trainer.accelerator`.
        backbone: where the same weights lie now, as `bench run --backbone` takes it; None looks where they lay.

    Raises:
        BackboneError: the weights are not those of the record.
        RecordError: a file that a setting names has changed, or a fit on an auxiliary set is gone.
        DataError: the fit was not kept and the shots are gone or altered.
    """
    cell = _placed(folder, record, device, backbone)
    clip = _same_backbone(record, cell)
    _check_files(cell)
    facts = load_datamodule(registry.dataset(cell.dataset))
    words = {category: facts.object_name(category) for category in cell.seen}
    remarks = _what_changed(record, cell)
    checkpoint = kept_fit.read(kept_fit.path_of(folder, record), cell.id) if cell.shots else None
    learnt = _learnt(folder, record)
    if checkpoint is not None or not cell.shots:
        with isolate_rng():
            method = begin(cell, clip, words)
            if learnt is not None:
                method.load_state_dict(learnt)
            if checkpoint is not None:
                kept_fit.restore(method, checkpoint)
        return Revived(cell, method.eval(), words, remarks)
    shots = find_shots(record, cell)
    again = fit_on(cell, clip, words, shots) if learnt is None else remember(cell, clip, words, shots, learnt)
    remarks.append(f"The fit of {record.cell_id} was not kept: the method was fitted again on the same shots.")
    return Revived(cell, again, words, remarks)


def find_shots(record: Record, cell: Cell) -> Shots:
    """The shots of a record, in order.

    Raises:
        DataError: one is gone, or is not the image that it was.
    """
    root = open_data(target(cell, cell.seen), SMALLEST).root
    for its in record.data["shots"].values():
        for shot in its:
            path = root / shot["path"]
            if not path.is_file() or file_digest(path) != shot["sha256"]:
                what = "has changed since" if path.is_file() else "is gone, which was a shot of"
                raise DataError(f"{path} {what} {record.cell_id}.")
    return {category: [root / shot["path"] for shot in its] for category, its in record.data["shots"].items()}


def _placed(folder: Path, record: Record, device: str, backbone: str | None) -> Cell:
    """The cell on this machine; nothing that changes a number is touched."""
    cell, batch = record.cell, record.cost.get("batch_size")
    trainer = replace(cell.where.trainer, accelerator=device, devices=1)  # type: ignore[arg-type]
    trainer = replace(trainer, batch_size=batch) if batch else trainer
    where = replace(cell.where, results=str(folder), trainer=trainer, features=type(cell.where.features)())
    settings = cell.settings
    if backbone is not None:
        said = parse_words((), [Said(f"--backbone {backbone}", ("backbone",), backbone)])
        now = compose([said]).backbone
        settings = replace(settings, backbone=replace(settings.backbone, name=now.name, pretrained=now.pretrained))
    return replace(cell, settings=settings, where=where)


def _same_backbone(record: Record, cell: Cell) -> CLIPBackbone:
    backbone = open_backbone(cell)
    now = {"weights_sha256": backbone.weights_hash, "image_size": backbone.image_size}
    if now != {key: record.backbone[key] for key in now}:
        raise BackboneError(
            f"{record.cell_id} was measured on {record.backbone['label']}, weights {record.backbone['weights_sha256']} "
            f"at {record.backbone['image_size']} px; found were {now['weights_sha256']} at {now['image_size']} px. "
            "--backbone says where the same weights lie."
        )
    return backbone


def _check_files(cell: Cell) -> None:
    """Refuse files of settings, such as words for defects, that are not what they were."""
    now = named_files(cell.method, cell.dataset, cell.settings)
    for key, sha256 in cell.files.items():
        if not key.startswith(("backbone.", "dataset.", "auxiliary.")) and now.get(key) != sha256:
            name = key.partition(".")[2]
            raise RecordError(f"{name}={cell.settings.method[name]} is not the file that {cell.id} was fitted with.")


def _what_changed(record: Record, cell: Cell) -> list[str]:
    """A sentence where code, captions or decoding are others than when the cell was measured."""
    now = {"versions": VERSIONS, "code": code(cell), "pixels": pixel_probe(), "captions": hash_captions(cell)}
    changed = differences({k: v for k, v in record.content.items() if k in now and v}, now)
    since = f"Since {record.cell_id} was measured"
    return [f"{since} there changed {'; '.join(changed)}: scores may differ from the record's."] if changed else []


def _learnt(folder: Path, record: Record) -> dict[str, Tensor] | None:
    """Parameters that were fitted on an auxiliary set; None of a method that is not."""
    if not (key := record.data["auxiliary"].get("fit")):
        return None
    learnt = read_learnt(folder, key)
    if learnt is None:
        raise RecordError(f"{folder}/fits/{key}.safetensors is gone or damaged: run the cell again.")
    return learnt
