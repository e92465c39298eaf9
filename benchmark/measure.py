"""Runs one cell: draw, adapt, fit, test, measure. The same function serves every executor."""

import hashlib
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.loggers import Logger

from benchmark.cell import Cell, canonical
from benchmark.evaluator import Evaluator
from benchmark.fitting import fit, make_trainer
from benchmark.metrics.names import METRIC_VERSION
from benchmark.opening import build_method, open_backbone, open_data
from benchmark.protocols import PROTOCOL_VERSION
from datamodules.components.base import AnomalyDataModule
from datamodules.components.published_shots import SHOT_SETTINGS
from methods.components.backbone import CLIPBackbone
from methods.components.feature_store import FeatureCounts

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
    features: dict[str, int] | None
    remarks: list[str]


def run_cell(cell: Cell, loggers: Sequence[Logger] = ()) -> Measurement:
    """Measure `cell`, writing curves to `loggers`."""
    clock = [time.perf_counter()]
    backbone = open_backbone(cell)
    device = backbone.mean.device
    counts = backbone.store.counts if backbone.store else None
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seed_everything(cell.seed, workers=True, verbose=False)
    data = open_data(cell, backbone.image_size)
    method = build_method(cell, backbone, data).to(device)
    clock.append(time.perf_counter())
    auxiliary = fit(method, cell, data, device, loggers)
    clock.append(time.perf_counter())
    protocol, known = cell.settings["protocol"], {c: data.masks_known(c) for c in cell.categories}
    evaluator = Evaluator(protocol["evaluation_size"], known, published=protocol["published_metric"])
    trainer = make_trainer(device, loggers, callbacks=[evaluator])
    trainer.test(method, dataloaders=data.test_dataloader(), verbose=False)
    clock.append(time.perf_counter())
    metrics = evaluator.metrics()
    clock.append(time.perf_counter())
    seen = data if not cell.fitted else open_data(replace(cell, categories=cell.seen), backbone.image_size)
    facts = describe_data(cell, seen) | {"auxiliary": auxiliary}
    return Measurement(
        protocol_id=protocol_id(cell, facts),
        data=facts,
        backbone={
            "label": cell.backbone_label,
            "note": cell.note,
            "weights_sha256": backbone.weights_hash,
            "image_size": backbone.image_size,
        },
        metrics={c: {name: value._asdict() for name, value in values.items()} for c, values in metrics.items()},
        counts=evaluator.counts,
        seconds={phase: round(end - start, 4) for phase, start, end in zip(PHASES, clock, clock[1:], strict=False)},
        peak_memory_mib=peak_memory(device),
        features=used_since(backbone, counts),
        remarks=method.remarks,
    )


def used_since(backbone: CLIPBackbone, before: FeatureCounts | None) -> dict[str, int] | None:
    """What the feature store did for this cell."""
    if backbone.store is None or before is None:
        return None
    return {name: value - getattr(before, name) for name, value in backbone.store.counts._asdict().items()}


def describe_data(cell: Cell, data: AnomalyDataModule) -> dict[str, Any]:
    """Which images the cell saw: listing fingerprints, and the shots by name and content."""
    manifest = data.manifest() if cell.shots else {}
    return {
        "fingerprints": {category: data.fingerprint(category) for category in cell.seen},
        "shots": manifest,
        "shot_rule": data.shot_rule,
        "shots_sha256": hashlib.sha256(canonical(manifest).encode()).hexdigest() if cell.shots else None,
    }


def protocol_id(cell: Cell, data: dict[str, Any]) -> str:
    """Name of everything but method and backbone that changes a number; equal ids, comparable rows."""
    dataset, auxiliary = (
        {key: value for key, value in cell.settings[group].items() if key not in SHOT_SETTINGS}
        for group in ("dataset", "auxiliary")
    )
    rules = {
        "protocol": cell.protocol,
        "versions": [PROTOCOL_VERSION, METRIC_VERSION],
        "dataset": [cell.dataset, dataset, cell.variant, data["fingerprints"]],
        "shots": [cell.shots, data["shot_rule"], data["shots_sha256"]],
        "settings": cell.settings["protocol"],
        "auxiliary": [auxiliary, data["auxiliary"].get("fingerprints")],
        "seed": cell.seed,
        "limit": cell.limit,
        "selection": "last step",
    }
    if cell.fitted:
        rules["fitted"] = cell.fitted
    return f"{cell.protocol}-{hashlib.sha256(canonical(rules).encode()).hexdigest()[:10]}"


def peak_memory(device: torch.device) -> float:
    """Peak MiB: of the cell on a GPU, of the whole process so far on a CPU."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
