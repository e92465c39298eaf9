"""The test-time adapter of AnoVL: fitted on the patches of one image, with its texts, and then thrown away.

Gradients are written out: a prediction runs where torch records none.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW

from methods.anovl.draws import fork, normal, uniform


class Adapter(NamedTuple):
    """One for each image: A(x) = (x + tanh(W x/|x| + b) G) / 2, where G are the features of T texts."""

    weight: Tensor  # W, (B, T, D)
    bias: Tensor  # b, (B, T)


class FitSettings(NamedTuple):
    """Of the fit on one image."""

    steps: int
    lr: float  # AdamW's
    weight_decay: float
    noise: float  # deviation of what is added to each value of a patch


def new_adapter(seeds: Tensor, n_texts: int, width: int) -> Adapter:
    """One for each seed, initialised as torch initialises a linear layer: uniform within 1 / sqrt(width)."""
    bound = width**-0.5
    weight = (2 * uniform(fork(seeds, 0), n_texts, width) - 1) * bound
    return Adapter(weight, (2 * uniform(fork(seeds, 1), n_texts) - 1) * bound)


def adapt(x: Tensor, adapter: Adapter, texts: Tensor) -> Tensor:
    """Unit features A(x) / |A(x)|.

    Args:
        x: patch features in the joint space, not unit, (B, N, D).
        adapter: of each image.
        texts: G of each image, unit features (B, T, D).

    Returns:
        (B, N, D).
    """
    return F.normalize(_mix(x, _attend(x, adapter), texts), dim=-1)


def fit_adapter(x: Tensor, pair: Tensor, texts: Tensor, seeds: Tensor, settings: FitSettings) -> Adapter:
    """Fit an adapter on each image alone.

    With p = softmax(A(x) T), and p' that of x with fresh noise in each step, the loss is the mean over patches of

        H(p) - (log p'_anomalous + log p_normal) / 2:

    patches become certain and normal, those with noise anomalous. Each image has its own values, moments and noise, so
    that a batch of them is fitted in one.

    Args:
        x: patch features, not unit, (B, N, D).
        pair: T, the normal and the anomalous text of each image over the temperature, (B, 2, D).
        texts: G, see `adapt`.
        seeds: of each image, (B,).
        settings: of the fit.
    """
    adapter, apart = new_adapter(seeds, texts.shape[1], x.shape[-1]), pair[:, 1] - pair[:, 0]
    optimizer = AdamW(adapter, lr=settings.lr, weight_decay=settings.weight_decay)
    for step in range(settings.steps):
        noisy = x + settings.noise * normal(fork(seeds, 2 + step), *x.shape[1:])
        clean = _gradient(x, adapter, texts, apart, _slope_clean)
        other = _gradient(noisy, adapter, texts, apart, _slope_noisy)
        adapter.weight.grad, adapter.bias.grad = clean.weight + other.weight, clean.bias + other.bias
        optimizer.step()
    return adapter


def _attend(x: Tensor, adapter: Adapter) -> Tensor:
    """tanh(W x/|x| + b), (B, N, T)."""
    return (F.normalize(x, dim=-1) @ adapter.weight.transpose(1, 2) + adapter.bias.unsqueeze(1)).tanh()


def _mix(x: Tensor, attended: Tensor, texts: Tensor) -> Tensor:
    return (x + attended @ texts) / 2


def _slope_clean(logit: Tensor) -> Tensor:
    """Derivative of H(p) - log(p_normal) / 2 by the logit of p_anomalous."""
    anomalous = logit.sigmoid()
    return anomalous / 2 - logit * anomalous * (1 - anomalous)


def _slope_noisy(logit: Tensor) -> Tensor:
    """Derivative of -log(p'_anomalous) / 2."""
    return -(-logit).sigmoid() / 2


def _gradient(x: Tensor, adapter: Adapter, texts: Tensor, apart: Tensor, slope: Callable[[Tensor], Tensor]) -> Adapter:
    """Of the mean over patches of a loss of the logit <A(x) / |A(x)|, apart>, with `apart` (B, D)."""
    attended = _attend(x, adapter)  # (B, N, T)
    mixed = _mix(x, attended, texts)
    length = mixed.norm(dim=-1, keepdim=True)
    unit, apart = mixed / length, apart.unsqueeze(1)
    logit = (unit * apart).sum(dim=-1, keepdim=True)  # (B, N, 1)
    by_mixed = slope(logit) * (apart - logit * unit) / length  # (B, N, D)
    by_attended = by_mixed @ texts.transpose(1, 2) / 2 * (1 - attended.square()) / x.shape[1]
    return Adapter(by_attended.transpose(1, 2) @ F.normalize(x, dim=-1), by_attended.sum(dim=1))
