"""Nearest rows of a memory, and scores of images from them (PatchCore, section 3.3)."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

_VALUES_AT_ONCE = 2**24  # 64 MiB of float32


class Neighbours(NamedTuple):
    """The b nearest rows of a memory, the nearest first."""

    distance: Tensor  # (..., b) squared Euclidean
    row: Tensor  # (..., b) long


def nearest(features: Tensor, memory: Tensor, count: int) -> Neighbours:
    """The `count` rows of `memory` (M, D), all where it has fewer, that are nearest to each of `features` (..., D).

    Rows are found by inner products; the distances of those found are those of the difference, exact to the last
    digits also where features are long and near.
    """
    flat, count = features.flatten(0, -2), min(count, len(memory))
    squares, found = memory.square().sum(dim=1), []
    for part in flat.split(max(1, _VALUES_AT_ONCE // max(len(memory), count * flat.shape[1]))):
        rows = torch.addmm(squares, part, memory.T, alpha=-2).topk(count, largest=False).indices  # (n, b)
        found.append(Neighbours((part.unsqueeze(1) - memory[rows]).square().sum(dim=-1), rows))
    shape = (*features.shape[:-1], count)
    return Neighbours(*(torch.cat(each).view(shape) for each in zip(*found, strict=True)))


def reweighted_score(
    patches: Tensor, found: Neighbours, memory: Tensor, count: int, around: Literal["memory", "query"]
) -> Tensor:
    """Equations 6 and 7 of the paper: the farthest patch's distance, less where its nearest row has near rows itself.

    s = (1 - exp(s*) / Σ exp |p* - m|) s*, where p* is the patch farthest from its nearest row m*, s* that distance and
    the sum is over the `count` rows nearest to m*, itself among them, or to p*.

    Args:
        patches: features, (B, N, D).
        found: their neighbours, (B, N, b).
        memory: (M, D).
        count: rows of the sum.
        around: whose near rows are summed over: of m* ("memory") or of p* ("query"). The paper can be read both ways.

    Returns:
        (B,), at least 0.
    """
    images = torch.arange(len(patches), device=patches.device)
    farthest = found.distance[..., 0].argmax(dim=1)  # (B,)
    patch, row = patches[images, farthest], found.row[images, farthest, 0]
    distance = found.distance[images, farthest, 0].sqrt()  # (B,)
    near = memory[nearest(memory[row] if around == "memory" else patch, memory, count).row]  # (B, count, D)
    others = (patch.unsqueeze(1) - near).norm(dim=-1)  # (B, count)
    score: Tensor = (1 - (distance - others.logsumexp(dim=1)).exp()) * distance
    return score
