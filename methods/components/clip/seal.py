"""Whether a method left the shared CLIP as it found it: a seal is taken before a cell and looked at after it.

Version counters of tensors miss edits through `.data`, and a hash of the weights that was computed once says nothing
of later, so the bits themselves are summed up. A backbone whose seal is broken is to be loaded anew. A patched class
is not mended by that: it stays broken for the rest of the process, in which no honest cell can run any more.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.image_tower import resize_positions

_WORDS = 2**15  # of 8 bytes that are summed up at once, in cache and on one thread: waiting for others would cost more
_WORDS_OF_A_GPU = 2**22  # which is busy with that many
_PRIME = 0x9E3779B97F4A7C15 - 2**64  # odd, so that multiplication by it loses nothing
_UNSEALED = {"store", "_positions"}  # another cell has another store; the positions are compared with new ones
_LARGE = 1000  # entries of a mapping that must hold plain values, as the words of a tokenizer
_GROWING = {"cache"}  # words that the tokenizer has met
_PLAIN = {bool, int, float, str, bytes, type(None), torch.dtype, torch.device}


class Seal(NamedTuple):
    """What a backbone was, from `seal`."""

    facts: Mapping[str, object]

    def broken(self, backbone: CLIPBackbone) -> list[str]:
        """Name all that is not as it was sealed, sorted; [] of a backbone that was left alone.

        Weights and buffers by their bits, types, shapes and devices; attributes, hooks, flags and functions of every
        module; classes against what they were when they were first sealed in this process. The feature store is free,
        and so are the words that the tokenizer remembers.
        """
        now = _facts(backbone)
        return sorted(
            [f"{name} was removed" for name in self.facts if name not in now]
            + [f"{name} was added" for name in now if name not in self.facts]
            + [f"{name} was altered" for name, fact in now.items() if name in self.facts and fact != self.facts[name]]
            + _foreign_positions(backbone)
            + _patched(backbone)
        )


def seal(backbone: CLIPBackbone) -> Seal:
    """Take the seal of a backbone; its hashes, which are kept, are computed first."""
    _ = backbone.image_tower_hash, backbone.weights_hash, _patched(backbone)
    return Seal(_facts(backbone))


def checksum(tensor: Tensor) -> int:
    """64 bits that depend on every bit of `tensor` and its place, computed where the tensor lies.

    Any change within 8 bytes changes them for certain, any other change but for one chance in about 2⁶⁴.
    """
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    weights, mixed, shifted = _chunk(data.device)
    total = torch.zeros((), dtype=torch.int64, device=data.device)
    for part in data.split(8 * weights.numel()):
        rest = -part.numel() % 8
        aligned = F.pad(part, (0, rest)) if rest or part.storage_offset() % 8 else part
        words = aligned.view(torch.int64)
        count = words.numel()
        product, upper = mixed[:count], shifted[:count]
        torch.mul(words, weights[:count], out=product)
        torch.bitwise_right_shift(product, 32, out=upper)
        total = total * _PRIME + product.bitwise_xor_(upper).sum()  # else top bits of two words could cancel out
    return int(total)


@cache
def _chunk(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Odd weights that tell the places of a chunk apart, and room for two results, each (words,) int64."""
    words = _WORDS if device.type == "cpu" else _WORDS_OF_A_GPU
    weights = (2 * torch.arange(words, device=device) + 1) * _PRIME
    return weights, torch.empty_like(weights), torch.empty_like(weights)


class _Same:
    """Equal only to itself; it keeps the object, so that no other can get its address."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    __hash__ = None  # type: ignore[assignment]  # facts are compared, never looked up


def _facts(backbone: CLIPBackbone) -> dict[str, object]:
    facts: dict[str, object] = {"a hook of all modules": nn.modules.module._has_any_global_hook()}
    for path, module in backbone.named_modules(prefix="backbone"):
        facts[f"the class of {path}"] = type(module)
        for name, value in vars(module).items():
            if name in ("_parameters", "_buffers", "_modules"):
                facts.update((f"{path}.{key}", _fact(each)) for key, each in value.items())
            elif name not in _UNSEALED or module is not backbone:
                facts[f"{path}.{name}"] = _fact(value)
    for name, value in vars(backbone.tokenizer).items():
        if name not in _GROWING:
            facts[f"backbone.tokenizer.{name}"] = _fact(value)
    return facts


def _fact(value: Any) -> object:
    """Something equal to itself later exactly if `value` is as it was."""
    if type(value) in _PLAIN:
        return type(value), value
    if isinstance(value, Tensor):
        described = type(value), value.dtype, value.shape, value.device, value.requires_grad
        return *described, checksum(value)
    if isinstance(value, Mapping) and len(value) > _LARGE:
        return type(value), dict(value)
    if isinstance(value, Mapping):
        return type(value), [(_fact(key), _fact(each)) for key, each in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [_fact(each) for each in value]
    return _Same(value)


def _patched(backbone: CLIPBackbone) -> list[str]:
    """Members of the classes at work that are not what they were when this was first asked."""
    classes = {cls for part in (*backbone.modules(), backbone.tokenizer) for cls in type(part).__mro__} - {object}
    pairs = [(cls, _members(cls), _first_seen(cls)) for cls in classes]
    return [
        f"{cls.__module__}.{cls.__qualname__}.{name} was patched"
        for cls, now, first in pairs
        for name in now | first
        if now.get(name) is not first.get(name)
    ]


def _members(cls: type) -> dict[str, object]:
    return {name: value for name, value in vars(cls).items() if callable(value) or hasattr(value, "__get__")}


@cache
def _first_seen(cls: type) -> dict[str, object]:
    return _members(cls)


def _foreign_positions(backbone: CLIPBackbone) -> list[str]:
    """Kept positions that are not what the weights give."""
    foreign = []
    for key, kept in backbone._positions.items():
        grid, mode, _ = key
        with torch.no_grad(), torch.autocast(backbone.mean.device.type, enabled=False):
            if not torch.equal(kept, resize_positions(backbone.clip.visual, grid, mode)):
                foreign.append(f"backbone._positions of {key} were altered")
    return foreign
