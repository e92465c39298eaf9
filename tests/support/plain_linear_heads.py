"""Linear heads once more, written from their description in numpy: one image, one tap and one patch after the other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from tests.support.plain_tower import tokens_after


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.sqrt((v**2).sum())


def probability(token: np.ndarray, pair: np.ndarray, tau: float) -> np.ndarray:
    """Of both classes, of one token and the vectors of one head, (2,)."""
    power = np.exp([float(unit(token) @ unit(vector)) / tau for vector in pair])
    return power / power.sum()


@torch.no_grad()
def tokens(clip: Any, x: Tensor, blocks: Sequence[int], *, joint: bool) -> np.ndarray:
    """Tokens of each tap after the last norm, projected if `joint`: (L, B, 1 + N, width), class token first."""
    after = [clip.visual.ln_post(each) for each in tokens_after(clip, x, blocks)]
    return np.stack([((each @ clip.visual.proj) if joint else each).double().numpy() for each in after])


def examine(tapped: np.ndarray, image: np.ndarray, pixels: np.ndarray, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the class tokens (L, B, 2) and of patches (L, B, N, 2).

    `image` and `pixels` are the vectors of each tap, (L, 2, width).
    """
    heads = range(len(tapped))
    of_image = [[probability(tapped[h, b, 0], image[h], tau) for b in range(tapped.shape[1])] for h in heads]
    of_patches = [
        [[probability(token, pixels[h], tau) for token in tapped[h, b, 1:]] for b in range(tapped.shape[1])]
        for h in heads
    ]
    return np.array(of_image), np.array(of_patches)


def enlarge(grid: np.ndarray, size: int) -> np.ndarray:
    """A square grid (n, n) bilinearly to (size, size), with pixel centres in proportion and edges held."""
    out = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            at = [min(max((i + 0.5) * len(grid) / size - 0.5, 0), len(grid) - 1) for i in (row, column)]
            low = [int(a) for a in at]
            high = [min(a + 1, len(grid) - 1) for a in low]
            (r, c), (i, j), (k, m) = (at[0] - low[0], at[1] - low[1]), low, high
            upper = (1 - c) * grid[i, j] + c * grid[i, m]
            out[row, column] = (1 - r) * upper + r * ((1 - c) * grid[k, j] + c * grid[k, m])
    return out


def predict(of_image: np.ndarray, of_patches: np.ndarray, size: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores (B,) and smoothed maps (B, size, size)."""
    side = int(of_patches.shape[2] ** 0.5)
    maps = [
        gaussian_filter(sum(enlarge(layer[b, :, 1].reshape(side, side), size) for layer in of_patches), sigma)
        for b in range(of_patches.shape[1])
    ]
    return of_image[..., 1].mean(axis=0), np.stack(maps) / len(of_patches)


def loss(of_image: np.ndarray, of_patches: np.ndarray, mask: np.ndarray, weight: float) -> float:
    """Cross-entropy, focal and both Dice losses, sum over taps; masks (B, size, size) of 0 and 1."""
    eps, total, images, size = 1e-5, 0.0, range(mask.shape[0]), mask.shape[1]
    side = int(of_patches.shape[2] ** 0.5)
    for h in range(len(of_image)):
        focal, dice, entropy = [], [], []
        for b in images:
            entropy.append(-np.log(of_image[h, b, int(mask[b].any())]))
            grids = of_patches[h, b].reshape(side, side, 2)
            p = [enlarge(grids[..., c], size) for c in (0, 1)]
            g = [1 - mask[b], mask[b]]
            true = sum(np.clip(g[c], eps, 1 - eps) * p[c] for c in (0, 1)) + eps
            focal.append((-((1 - true) ** 2) * np.log(true)).mean())
            dice.append(sum(1 - (2 * (p[c] * g[c]).sum() + 1) / (p[c].sum() + g[c].sum() + 1) for c in (0, 1)))
        total += np.mean(entropy) + weight * (np.mean(focal) + np.mean(dice))
    return float(total)
