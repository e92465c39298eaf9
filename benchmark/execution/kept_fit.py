"""What a method holds once it is fitted, kept beside the record of its cell, so that it predicts again without a fit.

It is what a checkpoint of the method holds, so that whatever survives a plain Trainer's checkpoint survives here:
parameters, buffers, and all that `on_save_checkpoint` adds, such as the memory of the shots. Tensors lie in a file of
safetensors, plain values in its header. Parameters that were fitted on an auxiliary set lie in `fits/` and are left
out.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from benchmark.records.store import Record
from benchmark.request.cell import canonical, digest
from methods.components.base import Method
from methods.components.clip.weights import hash_weights

SCHEMA = "1"


def path_of(folder: Path, record: Record) -> Path:
    """Where the fit of an attempt lies, whether it was kept or not."""
    return folder / "cells" / record.cell_id / f"attempt-{record.attempt}.fit.safetensors"


def dump(method: Method, cell_id: str, most: float) -> bytes | None:
    """The file of a fitted method; None if its tensors take more than `most` bytes.

    Raises:
        TypeError: a checkpoint of it holds something else than tensors and plain containers, texts and numbers.
    """
    checkpoint: dict[str, Any] = {}
    if method.fits_on != "auxiliary":
        checkpoint["state_dict"] = dict(method.state_dict())
    method.on_save_checkpoint(checkpoint)
    tensors: dict[str, Tensor] = {}
    told = canonical(_pack(checkpoint, tensors))
    if sum(tensor.nbytes for tensor in tensors.values()) > most:
        return None
    return safetensors.torch.save(tensors, _seal(cell_id, told, tensors))


def read(path: Path, cell_id: str) -> dict[str, Any] | None:
    """The checkpoint in a file; None if there is none, or it is not whole or of another cell."""
    try:
        content = path.read_bytes()
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])["__metadata__"]
        whole = header == _seal(cell_id, header["told"], tensors)
        return _unpack(json.loads(header["told"]), tensors) if whole else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError):
        return None


def restore(method: Method, checkpoint: dict[str, Any]) -> None:
    """Give a method what a checkpoint of `read` holds, in the order in which Lightning does.

    Raises:
        BackboneError: it was fitted on another CLIP.
        RuntimeError: its parameters are others than those of the checkpoint.
    """
    method.on_load_checkpoint(checkpoint)
    if "state_dict" in checkpoint:
        method.load_state_dict(checkpoint["state_dict"])


def _seal(cell_id: str, told: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The header of a file, by which it is known to be whole and of its cell."""
    sums = {"sha256": hash_weights(tensors), "told_sha256": digest(told)}
    return {"schema": SCHEMA, "cell": cell_id, "told": told, **sums}


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Plain data with the names of tensors in their places; `tensors` gets them."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"mapping": {key: _pack(each, tensors) for key, each in value.items()}}
    if isinstance(value, list | tuple):
        return [_pack(each, tensors) for each in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"a checkpoint must hold tensors, texts, numbers, and lists and mappings of these; got {value!r}.")


def _unpack(told: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(told, list):
        return [_unpack(each, tensors) for each in told]
    if not isinstance(told, dict):
        return told
    if "tensor" in told:
        return tensors[told["tensor"]]
    return {key: _unpack(each, tensors) for key, each in told["mapping"].items()}
