"""Random numbers that depend on the content of an image alone: not on its batch, on the order, or on the device.

They are hashes of counters, computed as tensors, so that no value of an image is waited for: SplitMix64 of Steele, Lea
and Flood (OOPSLA 2014).
"""

import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # as a signed integer
_FACTORS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
_BITS = 23  # of a number below 1, so that its middle is a float32


def content_seeds(images: Tensor, draw: int) -> Tensor:
    """A seed of each image, (B,) int64, from all bits of its float32 pixels (B, ...) and the number of a draw."""
    bits = images.float().contiguous().view(torch.int32).flatten(1).long()
    places = torch.arange(bits.shape[1], device=bits.device) * 2 + 1
    return _mix((_mix(bits) * _mix(places)).sum(dim=1) + draw * 2 + 1)


def fork(seeds: Tensor, number: int) -> Tensor:
    """Other seeds, (B,), for the draw of another thing."""
    return _mix(_mix(seeds) + number)


def uniform(seeds: Tensor, *shape: int) -> Tensor:
    """Numbers in (0, 1), neither end included, (B, *shape) float32."""
    counters = torch.arange(1, math.prod(shape) + 1, device=seeds.device) * _GOLDEN
    drawn = _shift(_mix(seeds.unsqueeze(1) + counters), 64 - _BITS)
    return ((drawn.float() + 0.5) * 2.0**-_BITS).view(-1, *shape)


def normal(seeds: Tensor, *shape: int) -> Tensor:
    """Numbers of N(0, 1), (B, *shape) float32, by the formula of Box and Muller."""
    radius = (-2 * uniform(fork(seeds, 0), *shape).log()).sqrt()
    return radius * (2 * math.pi * uniform(fork(seeds, 1), *shape)).cos()


def _mix(numbers: Tensor) -> Tensor:
    for shift, factor in zip((30, 27), _FACTORS, strict=True):
        numbers = (numbers ^ _shift(numbers, shift)) * factor
    return numbers ^ _shift(numbers, 31)


def _shift(numbers: Tensor, bits: int) -> Tensor:
    """To the right, with zeros from the left."""
    return numbers.bitwise_right_shift(bits).bitwise_and(2 ** (64 - bits) - 1)
