"""From features to scores and maps. Text features come as (2, D): row 0 normal, row 1 anomalous."""

import torch
import torch.nn.functional as F
from torch import Tensor


def text_probability(features: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Probability of the anomalous text.

    Args:
        features: unit features, (..., D).
        text: unit features of the normal and the anomalous text, (2, D); or a pair for each image, (B, 2, D), for
            features (B, N, D).
        temperature: what the cosines are divided by; CLIP's own is about 0.01.

    Returns:
        (...), in [0, 1].
    """
    cosines = features @ text.transpose(-1, -2)  # (..., 2)
    probability: Tensor = (cosines / temperature).softmax(dim=-1)[..., 1]
    return probability


def to_grid(patch_scores: Tensor, grid: tuple[int, int]) -> Tensor:
    """Lay patch scores (..., N) in raster order out on `grid` (rows, columns): (..., rows, columns)."""
    return patch_scores.reshape(*patch_scores.shape[:-1], *grid)


def to_map(patch_scores: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Lay patch scores (B, N) out on `grid` and resize bilinearly (corners not aligned) to `size`: (B, h, w)."""
    on_grid = to_grid(patch_scores, grid).unsqueeze(1)  # (B, 1, rows, columns)
    return F.interpolate(on_grid, size, mode="bilinear", align_corners=False).squeeze(1)


def harmonic_mean(*scores: Tensor, eps: float = 1e-6) -> Tensor:
    """Harmonic mean n / (1/s_1 + ... + 1/s_n), elementwise and broadcast.

    WinCLIP (arXiv:2303.14814) joins its scales so; PromptAD (arXiv:2404.05231) leaves out the factor n = 2.

    Args:
        scores: non-negative scores.
        eps: what smaller scores are raised to, so that a zero gives nearly zero and no NaN.
    """
    inverses = [1 / score.clamp(min=eps) for score in scores]
    return len(scores) / torch.stack(torch.broadcast_tensors(*inverses)).sum(dim=0)


def fuse(first: Tensor, second: Tensor) -> Tensor:
    """1 / (1 / a + 1 / b): half the harmonic mean, elementwise; scores below 1e-6 count as 1e-6."""
    return harmonic_mean(first, second) / 2
