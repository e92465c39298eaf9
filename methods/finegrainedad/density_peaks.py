"""Clusters by density peaks: centres are dense and far from anything denser (Rodriguez and Laio, Science 2014).

The variant that FineGrainedAD (arXiv:2510.26464) takes over: a point's density comes from its k nearest neighbours.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


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
    distances = _distances(points)  # (S, M, M)
    if mask is not None:
        distances = distances.where(mask.unsqueeze(1), distances.amax(dim=(1, 2), keepdim=True) + 1)
    density = distances.topk(k, dim=-1, largest=False).values.square().mean(dim=-1).neg().exp()  # (S, M)
    if noise is not None:
        density = density + noise
    if mask is not None:
        density = density * mask
    peaks = density * _to_denser(distances, density)
    centres = peaks.topk(n_clusters, dim=-1).indices  # (S, C)
    to_centres = distances.gather(1, centres.unsqueeze(-1).expand(-1, -1, n_points))  # (S, C, M)
    own = torch.arange(n_clusters, device=points.device).expand_as(centres)
    return Clusters(centres, to_centres.argmin(dim=1).scatter(1, centres, own))


def nearest_seed(points: Tensor, seeds: Tensor) -> Tensor:
    """Which of its set's `seeds` (S, C) is nearest to each of the points (S, M, F): (S, M) long."""
    chosen = points.gather(1, seeds.unsqueeze(-1).expand(-1, -1, points.shape[-1]))  # (S, C, F)
    distances: Tensor = torch.cdist(points, chosen, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.argmin(dim=-1)


def _distances(points: Tensor) -> Tensor:
    """Euclidean over the root of F, (S, M, M), exactly 0 to itself: the product form of cdist would round it."""
    distances: Tensor = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    return distances / math.sqrt(points.shape[-1])


def _to_denser(distances: Tensor, density: Tensor) -> Tensor:
    """Distance of each point to the nearest denser one, (S, M); the largest of its set for the densest."""
    here, there = density.unsqueeze(2), density.unsqueeze(1)
    index = torch.arange(density.shape[1], device=density.device)
    denser = (there > here) | ((there == here) & (index < index.unsqueeze(1)))  # (S, M, M)
    farthest = distances.amax(dim=(1, 2), keepdim=True)
    nearest: Tensor = distances.where(denser, farthest).amin(dim=-1)
    return nearest
