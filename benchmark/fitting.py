"""Adapts and fits a method: on its shots, or on an auxiliary data set, and then once for all targets.

A fit on an auxiliary set depends on the method, that set, the seed and the backbone, never on the target. What was
learnt is kept as `fits/KEY.pt` in the results folder and serves every target and category.
"""

import hashlib
import io
import pickle
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader

from benchmark import registry
from benchmark.cell import Cell, canonical
from benchmark.opening import open_data
from benchmark.protocols import PROTOCOL_VERSION
from benchmark.store import write_atomic
from datamodules.components.base import AnomalyDataModule
from datamodules.components.reading import Item
from datamodules.components.sample import Batch
from methods.components.base import Method


def make_trainer(device: torch.device, loggers: Sequence[Logger], **settings: Any) -> Trainer:
    """A quiet Trainer on one device. Without checkpoints: the last step counts, nothing is selected."""
    return Trainer(
        accelerator={"cuda": "gpu"}.get(device.type, device.type),
        devices=1,
        logger=list(loggers) or False,
        plugins=[LightningEnvironment()],  # a SLURM or torchrun variable must not make this one-device run a rank
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )


def fit(
    method: Method, cell: Cell, data: AnomalyDataModule, device: torch.device, loggers: Sequence[Logger]
) -> dict[str, Any]:
    """Let the method see what its protocol allows; returns what a record says of an auxiliary fit, else {}.

    A category that is held out is adapted to after the fit, so that nothing of its images can enter it.
    """
    if not cell.fitted:
        _adapt(method, data, device)
        return _learn(method, cell, data, device, loggers)
    _adapt(method, open_data(replace(cell, categories=cell.fitted), data.image_size), device)
    facts = _learn(method, cell, data, device, loggers)
    _adapt(method, data, device)
    return facts


def _adapt(method: Method, data: AnomalyDataModule, device: torch.device) -> None:
    with torch.no_grad():
        for category in data.chosen if data.shots else ():
            shots = data.shot_images(category, data.image_size * method.shot_scale)
            method.adapt(shots.to(device), category)


def _learn(
    method: Method, cell: Cell, data: AnomalyDataModule, device: torch.device, loggers: Sequence[Logger]
) -> dict[str, Any]:
    if method.fits_on == "nothing":
        return {}
    size = data.image_size * method.train_scale
    source = open_data(training_cell(cell, method, size), size)
    if method.fits_on == "shots":
        drawn, steps = method.augmentation(), method.steps
        loader = source.drawn_dataloader(steps, drawn) if steps else source.train_dataloader()
        _train(method, read_once(loader) if method.remembers_shots else loader, device, loggers)
        return {}
    return _fit_once(method, cell, source, data, device, loggers)


def read_once(loader: DataLoader[Item]) -> DataLoader[Batch]:
    """The batches of one epoch, held in memory and given in the same order in every epoch."""
    batches: Any = list(loader)
    return DataLoader(batches, batch_size=None)


def training_cell(cell: Cell, method: Method, image_size: int) -> Cell:
    """The cell whose data a method is fitted on: the method's own batches, masks as large as the images."""
    shots = replace(cell, categories=cell.fitted or cell.categories)
    source = shots if method.fits_on == "shots" else auxiliary_cell(cell)
    return replace(
        source,
        settings={**source.settings, "protocol": {**source.settings["protocol"], "evaluation_size": image_size}},
        where={**source.where, "trainer": {**source.where["trainer"], "batch_size": method.config.batch_size}},
    )


def auxiliary_cell(cell: Cell) -> Cell:
    """A cell on all categories of the auxiliary data set."""
    facts = registry.dataset(cell.settings["protocol"]["auxiliary"])
    return replace(
        cell,
        dataset=facts.name,
        variant=facts.variant,
        categories=facts.categories,
        shots=0,
        limit=None,
        settings={**cell.settings, "dataset": cell.settings["auxiliary"]},
        where={**cell.where, "root": cell.where["auxiliary_root"]},
    )


def _fit_once(
    method: Method,
    cell: Cell,
    source: AnomalyDataModule,
    data: AnomalyDataModule,
    device: torch.device,
    loggers: Sequence[Logger],
) -> dict[str, Any]:
    facts = {
        "dataset": cell.settings["protocol"]["auxiliary"],
        "fingerprints": {category: source.fingerprint(category) for category in source.chosen},
        "shared_images": shared_images(source, data),
    }
    key = _key(method, cell, facts["fingerprints"])
    folder = cell.where.get("results")
    path = Path(folder) / "fits" / f"{key}.pt" if folder else None
    state = _read(path, key) if path else None
    reused = state is not None and _load(method, state)
    if not reused:
        _train(method, source.labelled_dataloader(), device, loggers)
        if path:
            _write(path, key, method.state_dict())
    return facts | {"fit": key, "reused": reused}


def _train(method: Method, loader: Any, device: torch.device, loggers: Sequence[Logger]) -> None:
    make_trainer(device, loggers, max_epochs=method.max_epochs).fit(method, loader)
    method.to(device)


def _key(method: Method, cell: Cell, fingerprints: dict[str, str]) -> str:
    """Everything that a fit depends on, hashed."""
    parts = {
        "method": [cell.method, cell.settings["method"], cell.code],
        "auxiliary": [cell.settings["protocol"]["auxiliary"], cell.settings["auxiliary"], fingerprints],
        "seed": cell.seed,
        "backbone": [method.backbone.weights_hash, method.backbone.image_size, method.backbone.position_resize],
        "precision": cell.settings["protocol"]["precision"],
        "version": PROTOCOL_VERSION,
    }
    return f"{cell.method}-{hashlib.sha256(canonical(parts).encode()).hexdigest()[:16]}"


def _read(path: Path, key: str) -> dict[str, torch.Tensor] | None:
    """What was learnt, or None if there is no such file or it is not whole and ours: then it is fitted anew."""
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        return kept["state"] if kept["key"] == key else None
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError):
        return None


def _load(method: Method, state: dict[str, torch.Tensor]) -> bool:
    """Whether `state` fits the method; only then is it loaded."""
    wanted = {name: value.shape for name, value in method.state_dict().items()}
    if {name: value.shape for name, value in state.items()} != wanted:
        return False
    method.load_state_dict(state)
    return True


def _write(path: Path, key: str, state: dict[str, torch.Tensor]) -> None:
    buffer = io.BytesIO()
    torch.save({"key": key, "state": {name: value.cpu() for name, value in state.items()}}, buffer)
    write_atomic(path, buffer.getvalue())


def shared_images(source: AnomalyDataModule, target: AnomalyDataModule) -> list[str]:
    """Test images of the target whose bytes are also in the auxiliary test split, by name."""
    seen = {digest for _, digest in _digests(source)}
    return [name for name, digest in _digests(target) if digest in seen]


def _digests(data: AnomalyDataModule) -> list[tuple[str, str]]:
    samples = [sample for category in data.chosen for sample in data.tests(category)]
    return [(data.relative(s.image), _digest(s.image, s.image.stat().st_mtime_ns)) for s in samples]


@cache
def _digest(path: Path, modified: int) -> str:
    """Sha256 of a file, read once per process: every cell of a sweep compares the same sets."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
