"""Adapts and fits a method: on its shots, or on an auxiliary data set, and then once for all targets.

A fit on an auxiliary set depends on the method, that set, the seed and the backbone, never on the target. What was
learnt is kept as `fits/KEY.safetensors` in the results folder and serves every target and category.
"""

import hashlib
import json
import logging
import math
import os
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import safetensors.torch
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger

from benchmark.execution.content import hash_captions
from benchmark.execution.data import fitted_on, open_data
from benchmark.execution.watch import Watch
from benchmark.records.store import write_atomic
from benchmark.request import registry
from benchmark.request.cell import VERSIONS, Cell, canonical, digest
from benchmark.request.code import MEASURING, code_of
from datamodules.components.base import AnomalyDataModule
from datamodules.components.fit_data import FitData
from datamodules.components.pixel_probe import pixel_probe
from datamodules.components.resampling import unchanged
from methods.components.base import Method
from methods.components.clip.weights import hash_weights

WORTH_WORKERS = 1000  # synthesised images of a fit
MOST_WORKERS = 4
#: Share of a fit's steps, the last ones, over which its terms are averaged.
END = 0.2
CURVE = 200  # points of a loss curve, about


class Learnt(NamedTuple):
    """What a record says of a fit."""

    auxiliary: dict[str, Any]  # the set it was fitted on, its content and the kept fit; {} where that is the target
    fit: dict[str, Any]  # `steps` averaged, `terms` of the loss there, `uninformed` values of some; {} without a fit


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


def quiet() -> None:
    """Silence what Lightning says for every run anew; errors still show."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


def idle_cores(wanted: FitData, device: torch.device) -> int:
    """Processes that are worth their start: 0 where images are read as they are, or few are synthesised.

    Else as many as cores are idle during a fit, at most `MOST_WORKERS`: on a GPU all but one, on the CPU those that
    torch's threads leave.
    """
    synthesised = wanted.steps * (wanted.batch_size or 1)
    return 0 if wanted.augment is unchanged or synthesised < WORTH_WORKERS else spare_cores(device)


def spare_cores(device: torch.device) -> int:
    """Cores that a computation on the device leaves idle, at most `MOST_WORKERS`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = torch.get_num_threads() if device.type == "cpu" else 1
    return max(0, min(MOST_WORKERS, cores - busy))


def fit(
    method: Method,
    cell: Cell,
    data: AnomalyDataModule,
    device: torch.device,
    watch: Watch,
    shown: AnomalyDataModule | None = None,
) -> Learnt:
    """Let the method see what its protocol allows.

    The trainer gets a loader alone: a datamodule knows the test images and their labels. Shots of `data` that the fit
    did not see, those of a category that is held out, are shown after it, so that nothing of them can enter it. What a
    fit on shots sees is opened as the cell says, unless it is `shown`.
    """
    source = data
    if method.fits_on != "nothing":
        asked = cell.where.trainer.num_workers
        workers = idle_cores(method.fit_data, device) if asked is None else asked
        if shown is None or method.fits_on == "auxiliary":
            source = open_data(fitted_on(cell), data.image_size, num_workers=workers, cache_gib=data.cache_gib)
        else:
            source, shown.num_workers = shown, workers
    Method.begin_fit(method, source)  # the base's own: who overrides it would be handed the labels
    learnt = Learnt({}, {})
    if method.fits_on == "shots":
        learnt = Learnt({}, _train(method, source, device, watch))
    elif method.fits_on == "auxiliary":
        with _first_rank_first():
            learnt = _fit_once(method, cell, source, device, watch)
    _take_from_first_rank(method)
    Method.see_shots(method, data)
    return learnt


@contextmanager
def _first_rank_first() -> Iterator[None]:
    """Let the first rank keep what it learns before the others look for it."""
    several = dist.is_available() and dist.is_initialized()
    if several and dist.get_rank():
        dist.barrier()
    yield
    if several and not dist.get_rank():
        dist.barrier()


def _take_from_first_rank(method: Method) -> None:
    """Let all ranks go on with the weights of the first: fits differ in the last digits on GPUs."""
    if dist.is_available() and dist.is_initialized():
        for value in method.state_dict().values():
            shared = value.detach().cpu()
            dist.broadcast(shared, 0)
            value.copy_(shared)


def _fit_once(
    method: Method,
    cell: Cell,
    source: AnomalyDataModule,
    device: torch.device,
    watch: Watch,
) -> Learnt:
    fingerprints = {category: source.fingerprint(category) for category in source.chosen}
    key = _key(method, cell, fingerprints)
    folder = cell.where.results
    path = Path(folder) / "fits" / f"{key}.safetensors" if folder else None
    kept = _read(path, key) if path else None
    reused = kept is not None and _load(method, kept.state)
    fit = kept.fit if kept and reused else _train(method, source, device, watch)
    if path and not reused:
        _write(path, key, _Kept(method.state_dict(), fit))
    facts = {
        "dataset": cell.settings.protocol.auxiliary,
        "fingerprints": fingerprints,
        "fit": key,
        "reused": reused,
    }
    return Learnt(facts, fit)


class _Steps(Callback):
    """Counts the batches that a fit has seen: Lightning ends an epoch early without an error for several reasons.

    Keeps the terms of the last ones. The first step is logged, and from there as many as make a curve.
    """

    def __init__(self, wanted: int) -> None:
        self.count, self.between = 0, max(1, wanted // CURVE)
        self.last = deque[Mapping[str, torch.Tensor]](maxlen=max(1, int(wanted * END)))

    def on_train_batch_start(self, trainer: Trainer, *arguments: Any, **named: Any) -> None:
        trainer.log_every_n_steps = self.between if self.count else 1  # type: ignore[attr-defined]

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *arguments: Any, **named: Any) -> None:
        self.count += 1
        self.last.append(dict(pl_module.terms))

    def describe(self, shares: Mapping[str, str]) -> dict[str, Any]:
        """What a record says of the fit; `shares` are those of the method."""
        names = dict.fromkeys(name for terms in self.last for name in terms)
        means = {name: fmean(float(each[name]) for each in self.last if name in each) for name in names}
        terms = {name: value if math.isfinite(value) else None for name, value in means.items()}
        uninformed = {name: binary_entropy(means[share]) for name, share in shares.items() if share in means}
        return {"steps": len(self.last), "terms": terms} | ({"uninformed": uninformed} if uninformed else {})


def binary_entropy(share: float) -> float:
    """The least cross-entropy, in nats, of a guess that knows only how frequent the one of two classes is."""
    return -sum(p * math.log(p) for p in (share, 1 - share) if p > 0)


def _train(method: Method, source: AnomalyDataModule, device: torch.device, watch: Watch) -> dict[str, Any]:
    """Fit to the last batch of the last epoch; returns `Learnt.fit`.

    Raises:
        RuntimeError: the fit ended before.
    """
    loader: Any = source.fit_loader(method.fit_data)
    wanted = method.max_epochs * len(loader)
    steps = _Steps(wanted)
    trainer = make_trainer(device, watch.loggers, max_epochs=method.max_epochs, callbacks=[steps, watch.pulse])
    trainer.fit(method, loader)
    if steps.count != wanted:
        raise RuntimeError(
            f"the fit of {type(method).__name__} must see {wanted} batches ({method.max_epochs} epochs of "
            f"{len(loader)}), it ended after {steps.count}: a hook of the method stopped it."
        )
    method.to(device)
    return steps.describe(method.shares)


def _key(method: Method, cell: Cell, fingerprints: dict[str, str]) -> str:
    """Everything that a fit depends on, hashed; files by their content, so that one may move."""
    auxiliary, settings = registry.dataset(cell.settings.protocol.auxiliary or ""), cell.by_content
    parts = {
        "method": [
            cell.method,
            settings["method"],
            code_of((MEASURING, *registry.method(cell.method).modules, *auxiliary.modules)),
        ],
        "auxiliary": [auxiliary.name, settings["auxiliary"], fingerprints, pixel_probe()],
        "captions": hash_captions(cell),
        "seed": cell.seed,
        "backbone": [method.backbone.weights_hash, settings["backbone"], method.backbone.image_size],
        "precision": cell.settings.protocol.precision,
        "versions": VERSIONS,
    }
    return f"{cell.method}-{hashlib.sha256(canonical(parts).encode()).hexdigest()[:16]}"


class _Kept(NamedTuple):
    """What a file of `fits/` holds."""

    state: dict[str, torch.Tensor]
    fit: dict[str, Any]


def _seal(key: str, kept: _Kept) -> dict[str, str]:
    """The metadata of a file, by which it is known to be whole and ours."""
    fit = canonical(kept.fit)
    return {"key": key, "sha256": hash_weights(kept.state), "fit": fit, "fit_sha256": digest(fit)}


def _read(path: Path, key: str) -> _Kept | None:
    """What was learnt, or None if there is no such file or it is not whole and ours: then it is fitted anew."""
    try:
        content = path.read_bytes()
        state = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        kept = _Kept(state, json.loads(metadata["fit"]))
        return kept if metadata == _seal(key, kept) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError):
        return None


def read_learnt(folder: str | Path, key: str) -> dict[str, torch.Tensor] | None:
    """What a kept fit on an auxiliary set has learnt; None if there is no such file or it is not whole and ours."""
    kept = _read(Path(folder) / "fits" / f"{key}.safetensors", key)
    return kept.state if kept else None


def _load(method: Method, state: dict[str, torch.Tensor]) -> bool:
    """Whether `state` fits the method; only then is it loaded."""
    wanted = {name: (value.shape, value.dtype) for name, value in method.state_dict().items()}
    if {name: (value.shape, value.dtype) for name, value in state.items()} != wanted:
        return False
    method.load_state_dict(state)
    return True


def _write(path: Path, key: str, kept: _Kept) -> None:
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in kept.state.items()}
    write_atomic(path, safetensors.torch.save(tensors, _seal(key, _Kept(tensors, kept.fit))))
