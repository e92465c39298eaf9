"""Opens what a cell names: device, backbone, method. Nothing is computed yet."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from benchmark.request import registry
from benchmark.request.cell import Cell, canonical
from benchmark.request.code import code_of, hash_code
from datamodules.components.base import AnomalyDataModule
from datamodules.components.roots import cache_folder
from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone
from methods.components.feature_store.store import FeatureStore

GIB = 2**30


def resolve_device(accelerator: str) -> torch.device:
    """The device of "cpu", "gpu", "mps" or "auto", which takes a GPU when there is one."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if accelerator == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    if (accelerator == "gpu" and not cuda) or (accelerator == "mps" and not mps):
        raise registry.ConfigError(f"trainer.accelerator={accelerator}, but torch {torch.__version__} sees none.")
    return torch.device("cuda" if accelerator == "gpu" else accelerator)


def open_backbone(cell: Cell) -> CLIPBackbone:
    """The backbone of a cell, loaded once per process, with the feature store that the cell asks for."""
    device = resolve_device(cell.where.trainer.accelerator)
    files = tuple(cell.files.get(f"backbone.{key}") for key in ("name", "pretrained"))  # by content, not by path
    settings = canonical(cell.settings.backbone.arguments)
    backbone = _load_backbone(settings, files, cell.settings.protocol.precision, device)
    features = cell.where.features
    backbone.store = _open_store(features.folder, features.max_gib) if features.enabled else None
    return backbone


@lru_cache(maxsize=1)
def _open_store(folder: str | None, max_gib: float) -> FeatureStore:
    place = Path(folder).expanduser() if folder else cache_folder() / "features"
    try:
        return FeatureStore(place, int(max_gib * GIB), hash_code(code_of([CLIPBackbone.__module__])))
    except (OSError, ValueError) as error:
        raise registry.ConfigError(f"features.folder={place} cannot be used: {error}") from error


@lru_cache(maxsize=1)
def _load_backbone(settings: str, files: tuple[str | None, ...], precision: Any, device: torch.device) -> CLIPBackbone:
    return CLIPBackbone.load(**json.loads(settings), precision=precision, device=device)


def close_backbone() -> None:
    """Forget the loaded backbone; the next cell loads it anew."""
    _load_backbone.cache_clear()


def build_method(cell: Cell, backbone: CLIPBackbone, data: AnomalyDataModule) -> Method:
    """The method of a cell with its resolved settings."""
    return name_method(cell, backbone, {c: data.object_name(c) for c in cell.seen})


def name_method(cell: Cell, backbone: CLIPBackbone, words: Mapping[str, str]) -> Method:
    """Likewise, with the words that name the object of each category."""
    cls = registry.load(registry.method(cell.method), Method)
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in cell.settings.method.items()}
    method: Method = cls(backbone, words, cls.Config(**settings))
    return method
