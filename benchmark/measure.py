"""Runs one cell: draw, adapt, fit, test, measure. The same function serves every executor."""

import hashlib
import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import Logger

from benchmark import registry
from benchmark.cell import Cell, canonical
from benchmark.evaluator import Evaluator
from benchmark.metrics.names import METRIC_VERSION
from benchmark.protocols import PROTOCOL_VERSION
from datamodules.components.base import AnomalyDataModule
from datamodules.components.roots import find_root
from datamodules.components.shots import SHOT_RULE
from methods.components.backbone import CLIPBackbone
from methods.components.base import Method

PHASES = ("load", "fit", "test", "metrics")


class Measurement(NamedTuple):
    """What a finished cell adds to its record; the names are those of `Record`."""

    protocol_id: str
    data: dict[str, Any]
    backbone: dict[str, Any]
    metrics: dict[str, dict[str, dict[str, Any]]]
    counts: dict[str, dict[str, int]]
    seconds: dict[str, float]
    peak_memory_mib: float


def run_cell(cell: Cell, loggers: Sequence[Logger] = ()) -> Measurement:
    """Measure `cell`, writing curves to `loggers`."""
    clock = [time.perf_counter()]
    device = resolve_device(cell.where["trainer"]["accelerator"])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    backbone = load_backbone(canonical(cell.settings["backbone"]), cell.settings["protocol"]["precision"], device)
    seed_everything(cell.seed, workers=True, verbose=False)
    data = open_data(cell, backbone.image_size)
    method = build_method(cell, backbone, data).to(device)
    clock.append(time.perf_counter())
    _fit(method, cell, data, device, loggers)
    clock.append(time.perf_counter())
    evaluator = Evaluator(
        cell.settings["protocol"]["evaluation_size"], {c: data.masks_known(c) for c in cell.categories}
    )
    trainer = make_trainer(device, loggers, callbacks=[evaluator])
    trainer.test(method, dataloaders=data.test_dataloader(), verbose=False)
    clock.append(time.perf_counter())
    metrics = evaluator.metrics()
    clock.append(time.perf_counter())
    facts = describe_data(cell, data)
    return Measurement(
        protocol_id=protocol_id(cell, facts),
        data=facts,
        backbone={
            "label": cell.backbone_label,
            "weights_sha256": backbone.weights_hash,
            "image_size": backbone.image_size,
        },
        metrics={c: {name: value._asdict() for name, value in values.items()} for c, values in metrics.items()},
        counts=evaluator.counts,
        seconds={phase: round(end - start, 4) for phase, start, end in zip(PHASES, clock, clock[1:], strict=False)},
        peak_memory_mib=peak_memory(device),
    )


def resolve_device(accelerator: str) -> torch.device:
    """The device of "cpu", "gpu", "mps" or "auto", which takes a GPU when there is one."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if accelerator == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    if (accelerator == "gpu" and not cuda) or (accelerator == "mps" and not mps):
        raise registry.ConfigError(f"trainer.accelerator={accelerator}, but torch {torch.__version__} sees none.")
    return torch.device("cuda" if accelerator == "gpu" else accelerator)


@lru_cache(maxsize=1)
def load_backbone(settings: str, precision: Any, device: torch.device) -> CLIPBackbone:
    """The backbone of these settings (canonical JSON), loaded once and lent to every cell."""
    values = {key: value for key, value in json.loads(settings).items() if key != "label"}
    return CLIPBackbone.load(**values, precision=precision, device=device)


def open_data(cell: Cell, image_size: int) -> AnomalyDataModule:
    """The target data set of a cell; no image is read yet."""
    facts = registry.dataset(cell.dataset)
    cls = registry.load(facts, AnomalyDataModule)
    data: AnomalyDataModule = cls(
        data_root(facts, cell.where["root"]),
        cell.categories,
        image_size=image_size,
        evaluation_size=cell.settings["protocol"]["evaluation_size"],
        shots=cell.shots,
        seed=cell.seed,
        batch_size=cell.where["trainer"]["batch_size"],
        num_workers=cell.where["trainer"]["num_workers"],
        limit=cell.limit,
        config=cls.Config(**cell.settings["dataset"]),
    )
    return data


def data_root(facts: registry.DatasetFacts, explicit: str | None) -> Path | None:
    """Where a data set lies; None if it needs no folder and none is named. DataError if it is absent."""
    if not facts.needs_root and not explicit:
        return None
    return find_root(facts.name, facts.folder_name, facts.source, explicit)


def build_method(cell: Cell, backbone: CLIPBackbone, data: AnomalyDataModule) -> Method:
    """The method of a cell with its resolved settings."""
    cls = registry.load(registry.method(cell.method), Method)
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in cell.settings["method"].items()}
    method: Method = cls(backbone, {c: data.object_name(c) for c in cell.categories}, cls.Config(**settings))
    return method


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


def _fit(method: Method, cell: Cell, data: AnomalyDataModule, device: torch.device, loggers: Sequence[Logger]) -> None:
    if cell.shots:
        with torch.no_grad():
            for category in cell.categories:
                method.adapt(data.shot_images(category).to(device), category)
    if method.fits_on == "nothing":
        return
    source = open_data(training_cell(cell, method), data.image_size)
    loader = source.labelled_dataloader() if method.fits_on == "auxiliary" else source.train_dataloader()
    make_trainer(device, loggers, max_epochs=method.max_epochs).fit(method, loader)
    method.to(device)


def training_cell(cell: Cell, method: Method) -> Cell:
    """The cell whose data a method is fitted on, in the method's own batches."""
    where = {**cell.where, "trainer": {**cell.where["trainer"], "batch_size": method.config.batch_size}}
    if method.fits_on == "shots":
        return replace(cell, where=where)
    auxiliary = registry.dataset(cell.settings["protocol"]["auxiliary"])
    return replace(
        cell,
        dataset=auxiliary.name,
        variant=auxiliary.variant,
        categories=auxiliary.categories,
        shots=0,
        limit=None,
        settings={**cell.settings, "dataset": cell.settings["auxiliary"]},
        where={**where, "root": cell.where["auxiliary_root"]},
    )


def describe_data(cell: Cell, data: AnomalyDataModule) -> dict[str, Any]:
    """Which images the cell saw: listing fingerprints, and the shots by name and content."""
    manifest = data.manifest() if cell.shots else {}
    return {
        "fingerprints": {category: data.fingerprint(category) for category in cell.categories},
        "shots": manifest,
        "shots_sha256": hashlib.sha256(canonical(manifest).encode()).hexdigest() if cell.shots else None,
    }


def protocol_id(cell: Cell, data: dict[str, Any]) -> str:
    """Name of everything but method and backbone that changes a number; equal ids, comparable rows."""
    rules = {
        "protocol": cell.protocol,
        "versions": [PROTOCOL_VERSION, METRIC_VERSION],
        "dataset": [cell.dataset, cell.settings["dataset"], cell.variant, data["fingerprints"]],
        "shots": [cell.shots, SHOT_RULE, data["shots_sha256"]],
        "settings": cell.settings["protocol"],
        "auxiliary": cell.settings["auxiliary"],
        "seed": cell.seed,
        "limit": cell.limit,
        "selection": "last step",
    }
    return f"{cell.protocol}-{hashlib.sha256(canonical(rules).encode()).hexdigest()[:10]}"


def peak_memory(device: torch.device) -> float:
    """Peak MiB: of the cell on a GPU, of the whole process so far on a CPU."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
