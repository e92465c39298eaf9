"""Fewer rows that cover a memory: the greedy coreset of PatchCore (section 3.2), as released."""

import torch
from torch import Tensor


def approximate_greedy(features: Tensor, count: int, projection: Tensor | None, start: Tensor) -> Tensor:
    """Choose rows, each time the one that is farthest from those chosen before.

    Distances are Euclidean and of projected rows. They begin as the mean distance to the start rows, which are not
    chosen by that, and this mean stays as a cap: so does the released code, to spare the matrix of all distances.

    Args:
        features: all rows, (n, D).
        count: rows to choose.
        projection: (d, D); None leaves the rows as they are.
        start: start rows, (s,) long.

    Returns:
        Chosen rows in the order of choice, (count,) long; the first one where several are equally far.
    """
    reduced = features if projection is None else features @ projection.T  # (n, d)
    squares = reduced.square().sum(dim=1)

    def distances(rows: Tensor) -> Tensor:  # (n, len(rows))
        return (squares[:, None] + squares[rows] - 2 * reduced @ reduced[rows].T).clamp(min=0).sqrt()

    farthest, chosen = distances(start).mean(dim=1), []
    for _ in range(count):
        chosen.append(farthest.argmax())
        farthest = torch.minimum(farthest, distances(chosen[-1].view(1))[:, 0])
    return torch.stack(chosen)


def sample_coreset(features: Tensor, share: float, projected_dim: int, n_start: int, seed: int) -> Tensor:
    """Keep a share of the rows, (int(n·share), D), with a projection and start rows that `seed` alone decides.

    It runs on the CPU, where every machine samples and ties the same.

    Args:
        features: all rows, (n, D).
        share: of the rows to keep, in (0, 1).
        projected_dim: dimensions of the projection, whose weights lie uniformly within 1 / sqrt(D); D does without.
        n_start: start rows, all where there are fewer.
        seed: of both draws.

    Raises:
        ValueError: no row would be kept.
    """
    rows, (n, dim) = features.cpu(), features.shape
    if not (count := int(n * share)):
        raise ValueError(f"coreset must keep one patch or more of {n}; got a share of {share}.")
    generator, bound = torch.Generator().manual_seed(seed), dim**-0.5
    projection = torch.empty(projected_dim, dim).uniform_(-bound, bound, generator=generator)
    start = torch.randperm(n, generator=generator)[:n_start]
    chosen = approximate_greedy(rows, count, None if projected_dim == dim else projection, start)
    return rows[chosen].to(features.device)
