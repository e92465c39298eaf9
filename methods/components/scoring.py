"""From features to scores and maps. Text features come as (2, D): row 0 normal, row 1 anomalous."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def log_text_probability(features: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Logarithm of the probability of the anomalous text, as exact where the probability is too small for its type.

    Args:
        features: unit features, (..., D).
        text: unit features of the normal and the anomalous text, (2, D); or a pair for each image, (B, 2, D), for
            features (B, N, D).
        temperature: what the cosines are divided by; CLIP's own is about 0.01.

    Returns:
        (...), at most 0.
    """
    cosines = features @ text.transpose(-1, -2)  # (..., 2)
    return (cosines / temperature).log_softmax(dim=-1)[..., 1]


def to_grid(patch_scores: Tensor, grid: tuple[int, int]) -> Tensor:
    """Lay patch scores (..., N) in raster order out on `grid` (rows, columns): (..., rows, columns)."""
    return patch_scores.reshape(*patch_scores.shape[:-1], *grid)


def to_map(
    patch_scores: Tensor, grid: tuple[int, int], size: tuple[int, int], *, align_corners: bool = False
) -> Tensor:
    """Lay patch scores (B, N) out on `grid` and resize bilinearly to `size`: (B, h, w).

    With `align_corners` the centres of the corner patches meet those of the corner pixels, and what lies between is
    stretched; without it each patch keeps its own pixels.
    """
    on_grid = to_grid(patch_scores, grid).unsqueeze(1)  # (B, 1, rows, columns)
    return F.interpolate(on_grid, size, mode="bilinear", align_corners=align_corners).squeeze(1)


def log_harmonic_mean(*logs: Tensor) -> Tensor:
    """Logarithm of the harmonic mean n / (1/s_1 + ... + 1/s_n) of scores, elementwise and broadcast.

    WinCLIP (arXiv:2303.14814) joins its scales so. At CLIP's temperature of 0.01 most normal pixels have a probability
    far below 1e-6, and their order counts: no score is raised to a floor.

    Args:
        logs: logarithms of non-negative scores, log 0 included.
    """
    joined = torch.stack(torch.broadcast_tensors(*logs))
    return math.log(len(logs)) - torch.logsumexp(-joined, dim=0)


def fuse(log_first: Tensor, log_second: Tensor) -> Tensor:
    """1 / (1 / a + 1 / b) of log a and log b, elementwise: half the harmonic mean (PromptAD, arXiv:2404.05231)."""
    return (-torch.logaddexp(-log_first, -log_second)).exp()
