"""Runs one cell: sample shots, adapt, fit, test, measure. The same function serves every executor."""

import hashlib
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, seed_everything

from benchmark.execution import stopping
from benchmark.execution.build import build_method, close_backbone, open_backbone
from benchmark.execution.data import auxiliary, open_data, target
from benchmark.execution.evaluator import (
    Kept,
    Measured,
    Predictions,
    describe_bins,
    describe_ties,
    measure_test,
    rescored,
)
from benchmark.execution.fitting import fit, make_trainer, spare_cores
from benchmark.execution.leaks import find_leaks
from benchmark.execution.stopwatch import Stopwatch
from benchmark.execution.watch import NOBODY, Watch
from benchmark.request.cell import VERSIONS, Cell, canonical, digest
from datamodules.components.base import AnomalyDataModule
from datamodules.components.decoding import peculiarities
from datamodules.components.pixel_probe import pixel_probe
from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.precision import set_arithmetic
from methods.components.clip.seal import Seal, seal
from methods.components.feature_store.store import FeatureCounts

WORTH_READERS = 64  # test images from which on processes that read them are worth their start
PHASES = ("load", "fit", "test", "metrics")


class BackboneAlteredError(Exception):
    """A method changed what all methods share."""


class Measurement(NamedTuple):
    """What a finished cell adds to its record; the names are those of `Record`."""

    comparison_id: str
    data: dict[str, Any]
    backbone: dict[str, Any]
    metrics: dict[str, dict[str, dict[str, Any]]]
    counts: dict[str, dict[str, int]]
    regions: dict[str, dict[str, Any]]
    leaks: dict[str, Any]
    seconds: dict[str, float]
    peak_memory_mib: float
    features: dict[str, int] | None
    fit: dict[str, Any]
    remarks: list[str]
    cost: dict[str, Any]  # trained parameters, images per second and under what they were timed


def run_cell(cell: Cell, watch: Watch = NOBODY) -> Measurement:
    """Measure `cell` under the eyes of `watch`.

    Raises:
        BackboneAlteredError: the method changed the shared CLIP; what it wrote to the feature store is taken back, and
            the next cell loads the CLIP anew.
        Stopped: the sweep was asked to stop.
    """
    clock = [time.perf_counter()]
    arithmetic = set_arithmetic(cell.settings.protocol.precision)
    backbone = open_backbone(cell)
    device = backbone.mean.device
    counts = backbone.store.counts if backbone.store else None
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with unaltered(backbone):
        seed_everything(cell.seed, workers=True, verbose=False)
        data = open_data(target(cell), backbone.image_size, **loading(cell))
        if cell.where.trainer.num_workers is None and len(data.test_samples) >= WORTH_READERS:
            data.num_workers = spare_cores(device)
        method = build_method(cell, backbone, data).to(device)
        clock.append(time.perf_counter())
        learnt = fit(method, cell, data, device, watch)
        clock.append(time.perf_counter())
        watch.keep_fit(method)
        stopwatch = Stopwatch()
        kept = predict_tests(method, data, cell.settings.protocol.evaluation_size, device, watch, stopwatch)
        watch.keep(kept, data)
        clock.append(time.perf_counter())
    stopping.check()
    protocol = cell.settings.protocol
    ties = describe_ties(kept, data.test_samples)
    measured = measure_test(kept, data, protocol.regions, published=protocol.published_metric)
    clock.append(time.perf_counter())
    seen = data if not cell.fitted else open_data(target(cell, cell.seen), backbone.image_size)
    facts = describe_data(cell, seen) | {"auxiliary": learnt.auxiliary}
    source = auxiliary(cell)
    fitted = open_data(source, backbone.image_size).test_samples if source else []
    return Measurement(
        comparison_id=comparison_id(cell, data, facts),
        data=facts,
        backbone={
            "label": cell.backbone_label,
            "note": cell.note,
            "weights_sha256": backbone.weights_hash,
            "image_size": backbone.image_size,
            "arithmetic": arithmetic,
        },
        metrics=told(measured),
        counts=measured.counts,
        regions=measured.regions,
        leaks=find_leaks(data, facts["shots"], fitted),
        seconds={phase: round(end - start, 4) for phase, start, end in zip(PHASES, clock, clock[1:], strict=False)},
        peak_memory_mib=peak_memory(device),
        features=used_since(backbone, counts),
        fit=learnt.fit,
        remarks=[*method.remarks, *peculiarities(data.test_samples), *describe_bins(measured), *ties],
        cost={
            "trained_parameters": sum(its.numel() for its in method.parameters() if its.requires_grad),
            "batch_size": data.batch_size,
            "device": device_name(device),
            **stopwatch.read(),
        },
    )


def fit_ahead(cell: Cell, watch: Watch) -> dict[str, Any]:
    """Make the fit on an auxiliary set that `cell` shares with others, unless it is kept already.

    Returns:
        what a record says of that fit.
    """
    set_arithmetic(cell.settings.protocol.precision)
    backbone = open_backbone(cell)
    with unaltered(backbone):
        seed_everything(cell.seed, workers=True, verbose=False)
        data = open_data(target(cell), backbone.image_size, **loading(cell))
        method = build_method(cell, backbone, data).to(backbone.mean.device)
        return fit(method, cell, data, backbone.mean.device, watch).auxiliary


def predict_tests(
    method: Method,
    data: AnomalyDataModule,
    size: int,
    device: torch.device,
    watch: Watch = NOBODY,
    *timed: Callback,
) -> list[Kept]:
    """What a method says of every test image, maps as squares of side `size`, with raw ones that `watch` wants.

    The trainer gets the loader alone, not the datamodule, which knows the labels. Where memory does not suffice, the
    test begins again with half the batch, as often as there is a half; the method's remarks then say so.
    """
    while True:
        predictions = Predictions(size, watch.raw_bytes)
        trainer = make_trainer(device, watch.loggers, callbacks=[*timed, predictions, watch.pulse])
        try:
            trainer.test(method, dataloaders=data.test_dataloader(), verbose=False)
            return rescored(method, predictions.gather(), data.test_samples)
        except (torch.cuda.OutOfMemoryError, MemoryError):
            if data.batch_size == 1:
                raise
            data.batch_size //= 2
            method.remarks.append(f"Out of memory: the test ran with {data.batch_size} images per batch.")
        if device.type == "cuda":
            torch.cuda.empty_cache()


def loading(cell: Cell) -> dict[str, Any]:
    """How the test images of a cell are read; it changes no number."""
    trainer = cell.where.trainer
    workers = trainer.num_workers or 0
    return {"batch_size": trainer.batch_size, "num_workers": workers, "cache_gib": trainer.pixel_cache_gib}


def told(measured: Measured) -> dict[str, dict[str, dict[str, Any]]]:
    """The metrics as a record has them; one that is of bins has a half-width."""
    return {
        category: {
            name: value._asdict() | ({"half_width": width} if (width := widths.get(name)) is not None else {})
            for name, value in its.items()
        }
        for category, its in measured.metrics.items()
        for widths in [measured.half_widths.get(category, {})]
    }


@contextmanager
def unaltered(backbone: CLIPBackbone) -> Iterator[None]:
    """Prove that what runs inside leaves the shared CLIP as it was, also when it fails."""
    before = _first_seal(backbone)
    if backbone.store:
        backbone.store.mark()
    try:
        yield
    except Exception as error:
        _prove(before, backbone, error)
        raise
    _prove(before, backbone, None)


@lru_cache(maxsize=1)
def _first_seal(backbone: CLIPBackbone) -> Seal:
    """The seal of a backbone as it was loaded."""
    return seal(backbone)


def _prove(before: Seal, backbone: CLIPBackbone, error: Exception | None) -> None:
    if broken := before.broken(backbone):
        close_backbone()
        _first_seal.cache_clear()
        if backbone.store:
            backbone.store.forget()
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise BackboneAlteredError(
            f"the method changed the shared CLIP, which every cell must leave as it was: {', '.join(broken[:5])}{more}."
        ) from error


def used_since(backbone: CLIPBackbone, before: FeatureCounts | None) -> dict[str, int] | None:
    """What the feature store did for this cell."""
    if backbone.store is None or before is None:
        return None
    return {name: value - getattr(before, name) for name, value in backbone.store.counts._asdict().items()}


def describe_data(cell: Cell, data: AnomalyDataModule) -> dict[str, Any]:
    """The shots that the cell saw, by name and content."""
    manifest = data.manifest() if cell.shots else {}
    return {
        "shots": manifest,
        "shot_rule": data.shot_rule,
        "shots_sha256": hashlib.sha256(canonical(manifest).encode()).hexdigest() if cell.shots else None,
    }


def comparison_id(cell: Cell, data: AnomalyDataModule, facts: dict[str, Any]) -> str:
    """Name of what two cells must share for their numbers to compare: equal ids, comparable numbers.

    What the method used to get there (backbone, auxiliary set, seed of the fit, steps) is no part of it.
    """
    rules = {
        "protocol": cell.protocol,
        "versions": VERSIONS,
        "tests": {category: data.test_fingerprint(category) for category in cell.categories},
        "fitted": cell.fitted,
        "shots": [cell.shots, facts["shot_rule"], facts["shots_sha256"]] if cell.shots else [],
        "resolution": [cell.settings.protocol.evaluation_size, cell.settings.protocol.regions],
        "pixels": pixel_probe(),
        "limit": cell.limit,
        "selection": "last step",
    }
    return digest(rules)


def device_name(device: torch.device) -> str:
    """The GPU's name; of a CPU how many threads torch has."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def peak_memory(device: torch.device) -> float:
    """Peak MiB: of the cell on a GPU, of the whole process so far on a CPU."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
