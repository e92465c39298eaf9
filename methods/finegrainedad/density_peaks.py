"""Clusters by density peaks: centres are dense and far from anything denser (Rodriguez and Laio, Science 2014).

The variant that FineGrainedAD (arXiv:2510.26464) takes over: a point's density comes from its k nearest neighbours.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

_PAIRS_AT_ONCE = 2**24  # distances; 64 MiB of float32


class Clusters(NamedTuple):
    """Clusters of S sets of M points each."""

    centres: Tensor  # (S, C) long, points with the highest peaks, the highest first
    ids: Tensor  # (S, M) long, the nearest centre of each point


def density_peaks(
    points: Tensor, n_clusters: int, k: int, mask: Tensor | None = None, noise: Tensor | None = None
) -> Clusters:
    """Cluster every set of points by itself, all in one batch.

    With d the Euclidean distance over the root of F, the density is exp(-mean d²) of the k nearest points, the point
    itself among them, and a peak is the density times the distance to the nearest denser point; of equal points the
    earlier one counts as denser.

    Distances are computed block by block of points, and again for what needs the densities of all: memory grows with
    M k and not with M².

    Args:
        points: (S, M, F).
        n_clusters: C, 1 to M.
        k: neighbours that make a density, 1 to M; 1 gives every point the same.
        mask: (S, M) bool; points outside it are farther than any other, of density 0, and so no centre before the
            last. What id they get says nothing.
        noise: (S, M) that is added to the densities.

    Raises:
        ValueError: `n_clusters` or `k` is out of range.
    """
    n_points = points.shape[1]
    if not (1 <= n_clusters <= n_points and 1 <= k <= n_points):
        raise ValueError(f"n_clusters and k must be 1 to {n_points}, the points; got {n_clusters} and {k}.")
    density, farthest = _densities(points, k, mask)  # (S, M), (S,)
    if noise is not None:
        density = density + noise
    if mask is not None:
        density = density * mask
    peaks = density * _to_denser(points, density, mask, farthest)
    centres = peaks.topk(n_clusters, dim=-1).indices  # (S, C)
    to_centres = _hide(_distances(_choose(points, centres), points), mask, farthest)  # (S, C, M)
    own = torch.arange(n_clusters, device=points.device).expand_as(centres)
    return Clusters(centres, to_centres.argmin(dim=1).scatter(1, centres, own))


def nearest_seed(points: Tensor, seeds: Tensor) -> Tensor:
    """Which of its set's `seeds` (S, C) is nearest to each of the points (S, M, F): (S, M) long."""
    distances: Tensor = torch.cdist(points, _choose(points, seeds), compute_mode="donot_use_mm_for_euclid_dist")
    return distances.argmin(dim=-1)


def _choose(points: Tensor, index: Tensor) -> Tensor:
    """The points (S, M, F) of each set that `index` (S, C) names, (S, C, F)."""
    return points.gather(1, index.unsqueeze(-1).expand(-1, -1, points.shape[-1]))


def _distances(here: Tensor, there: Tensor) -> Tensor:
    """Euclidean over the root of F, (S, R, M), exactly 0 to itself: the product form of cdist would round it."""
    distances: Tensor = torch.cdist(here, there, compute_mode="donot_use_mm_for_euclid_dist")
    return distances / math.sqrt(here.shape[-1])


def _hide(distances: Tensor, mask: Tensor | None, farthest: Tensor) -> Tensor:
    """Distances (S, R, M) with `farthest` (S,) to each of the M points that the mask leaves out."""
    return distances if mask is None else distances.where(mask.unsqueeze(1), farthest.view(-1, 1, 1))


def _blocks(points: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of R points of every set, with the distances of these to all, (S, R, M)."""
    n_sets, n_points = points.shape[:2]
    size = max(1, _PAIRS_AT_ONCE // (n_sets * n_points))
    for start in range(0, n_points, size):
        block = slice(start, start + size)
        yield block, _distances(points[:, block], points)


def _densities(points: Tensor, k: int, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Density of each point, (S, M), and the largest distance of each set, (S,): 1 beyond all to what is masked."""
    nearest, largest = [], []
    for _, distances in _blocks(points):
        largest.append(distances.amax(dim=(1, 2)))
        shown = _hide(distances, mask, largest[-1].new_full(largest[-1].shape, torch.inf))
        nearest.append(shown.topk(k, dim=-1, largest=False).values)
    farthest = torch.stack(largest).amax(dim=0)
    if mask is not None:
        farthest = torch.where(mask.all(dim=1), farthest, farthest + 1)
    near = torch.cat(nearest, dim=1)  # (S, M, k)
    near = near.where(near.isfinite(), farthest.view(-1, 1, 1))
    return near.square().mean(dim=-1).neg().exp(), farthest


def _to_denser(points: Tensor, density: Tensor, mask: Tensor | None, farthest: Tensor) -> Tensor:
    """Distance of each point to the nearest denser one, (S, M); `farthest` (S,) for the densest."""
    index, there = torch.arange(density.shape[1], device=density.device), density.unsqueeze(1)
    nearest = []
    for block, distances in _blocks(points):
        here = density[:, block].unsqueeze(2)
        denser = (there > here) | ((there == here) & (index < index[block].unsqueeze(1)))  # (S, R, M)
        shown = _hide(distances, mask, farthest)
        nearest.append(shown.where(denser, farthest.view(-1, 1, 1)).amin(dim=-1))
    return torch.cat(nearest, dim=1)
