"""AnoVL once more, written from its description: one image at a time, gradients by autograd, AdamW spelled out.

Random weights and noise are given to it. Words are lists of texts.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates, uniform_filter
from torch import Tensor

from tests.support.plain_faprompt import text_tower
from tests.support.plain_tower import tokens_after


def encode_texts(clip: Any, tokenizer: Any, sides: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
    """T (2, D) and G, unit features of all texts."""
    raw = []
    for texts in sides:
        ids = tokenizer(list(texts), context_length=77)
        raw.append(text_tower(clip, ids, clip.token_embedding(ids), []))
    means = [side.sum(dim=0) / len(side) for side in raw]
    return torch.stack([m / m.norm() for m in means]), torch.cat([side / side.norm(dim=1)[:, None] for side in raw])


def vv_patches(clip: Any, x: Tensor) -> Tensor:
    """Projected patches (N, D), not unit, of one normalised image (1, 3, S, S): V-V attention in every block."""
    visual, blocks = clip.visual, clip.visual.transformer.resblocks
    ordinary = [None, *tokens_after(clip, x, range(1, len(blocks)))]
    start = _before_blocks(clip, x)
    u = start
    for index, block in enumerate(blocks):
        source = start if index == 0 else ordinary[index]
        attn, h = block.attn, block.ln_1(source)
        width = h.shape[-1]
        v = F.linear(h, attn.in_proj_weight[2 * width :], attn.in_proj_bias[2 * width :])[0]
        side, mixed = width // attn.num_heads, []
        for head in range(attn.num_heads):
            own = v[:, head * side : (head + 1) * side]
            mixed.append((own @ own.T / math.sqrt(side)).softmax(dim=-1) @ own)
        u = u + attn.out_proj(torch.cat(mixed, dim=1))
    return (visual.ln_post(u) @ visual.proj)[0, 1:]


def _before_blocks(clip: Any, x: Tensor) -> Tensor:
    """Tokens that enter the first block, which is made to do nothing."""
    kept: list[Tensor] = []
    handle = clip.visual.transformer.resblocks[0].register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    tokens_after(clip, x, [1])
    handle.remove()
    return kept[0]


def class_feature(clip: Any, x: Tensor) -> Tensor:
    """Unit (D,) of one normalised image."""
    (last,) = tokens_after(clip, x, [len(clip.visual.transformer.resblocks)])
    return F.normalize(clip.visual.ln_post(last[0, 0]) @ clip.visual.proj, dim=0)


def resample(image: np.ndarray, where: Callable[[float, float], tuple[float, float]]) -> np.ndarray:
    """(3, S, S) read at `where` of each pixel's (x, y), both -1 and 1 at the edges; mirrored outside."""
    side = image.shape[1]
    at = np.zeros((2, side, side))
    for row in range(side):
        for column in range(side):
            x, y = where((2 * column + 1) / side - 1, (2 * row + 1) / side - 1)
            at[:, row, column] = ((y + 1) * side - 1) / 2, ((x + 1) * side - 1) / 2
    return np.stack([map_coordinates(channel, at, order=1, mode="reflect") for channel in image])


def views(image: np.ndarray) -> list[np.ndarray]:
    """The image (3, S, S) and 21 others."""
    out = [image]
    for k in (-4, -3, -2, -1, 1, 2, 3, 4):
        angle = k * math.pi / 16
        c, s = math.cos(angle), math.sin(angle)
        out.append(resample(image, lambda x, y, c=c, s=s: (c * x + s * y, c * y - s * x)))
    for dx, dy in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        for far in (0.1, 0.2):
            out.append(resample(image, lambda x, y, dx=dx, dy=dy, far=far: (x + far * dx, y + far * dy)))
    grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    quarter = [np.stack([np.rot90(channel, k) for channel in image]) for k in (1, 2, 3)]
    return [*out, image[:, :, ::-1].copy(), np.stack([grey] * 3), *quarter]


def transform(x: Tensor, weight: Tensor, bias: Tensor, texts: Tensor) -> Tensor:
    """A(x), made unit, row by row."""
    rows = []
    for row in x:
        mixed = 0.5 * row + 0.5 * torch.tanh(weight @ (row / row.norm()) + bias) @ texts
        rows.append(mixed / mixed.norm())
    return torch.stack(rows)


def adapter_loss(x: Tensor, noise: Tensor, weight: Tensor, bias: Tensor, pair: Tensor, texts: Tensor) -> Tensor:
    """Of one image's patches (N, D) and what is added to them; `pair` is T over the temperature."""
    clean = (transform(x, weight, bias, texts) @ pair.T).softmax(dim=1)
    noisy = (transform(x + noise, weight, bias, texts) @ pair.T).softmax(dim=1)
    entropy = -(clean * clean.log()).sum(dim=1)
    return (entropy + 0.5 * (-noisy[:, 1].log() - clean[:, 0].log())).mean()


def fit(
    x: Tensor,
    noises: Sequence[Tensor],
    start: tuple[Tensor, Tensor],
    pair: Tensor,
    texts: Tensor,
    lr: float,
    decay: float,
) -> list[Tensor]:
    """Weight and bias after a step for each noise."""
    values = [each.detach().double().clone().requires_grad_() for each in start]
    first, second = [[torch.zeros_like(v) for v in values] for _ in range(2)]
    x, pair, texts = x.double(), pair.double(), texts.double()
    for step, noise in enumerate(noises, start=1):
        loss = adapter_loss(x, noise.double(), values[0], values[1], pair, texts)
        for i, gradient in enumerate(torch.autograd.grad(loss, values)):
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.999 * second[i] + 0.001 * gradient**2
            mean, spread = first[i] / (1 - 0.9**step), (second[i] / (1 - 0.999**step)).sqrt()
            with torch.no_grad():
                values[i] *= 1 - lr * decay
                values[i] -= lr * mean / (spread + 1e-8)
    return [v.detach() for v in values]


def enlarge(grid: np.ndarray, size: int) -> np.ndarray:
    """(n, n) bilinearly to (size, size) with the corners on the corners."""
    at = np.stack(np.meshgrid(*[np.linspace(0, len(grid) - 1, size)] * 2, indexing="ij"))
    return map_coordinates(grid, at, order=1)


def anomaly_map(unit: Tensor, pair: Tensor, size: int) -> np.ndarray:
    """Of unit patch features (N, D), with `pair` T over the temperature."""
    probability = (unit.double() @ pair.double().T).softmax(dim=1)[:, 1]
    side = int(len(unit) ** 0.5)
    return enlarge(uniform_filter(probability.view(side, side).numpy(), size=3, mode="nearest"), size)


def score(clip: Any, image: Tensor, mean: Tensor, std: Tensor, pair: Tensor) -> float:
    """Of one image (3, S, S) in [0, 1]."""
    found = []
    for view in views(image.double().numpy()):
        feature = class_feature(clip, (torch.from_numpy(view).float()[None] - mean) / std)
        found.append((pair @ feature).softmax(dim=0)[1].item())
    return sum(found) / len(found)
