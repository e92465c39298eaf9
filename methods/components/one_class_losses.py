"""Losses of prompts that are learnt from normal images alone (PromptAD, arXiv:2404.05231)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.components.semantic_concatenation import ConcatenatedFeatures


class OneClassTerms(NamedTuple):
    """Terms of a loss before their weights, each a mean over images."""

    contrast: Tensor
    margin: Tensor
    alignment: Tensor


def one_class_terms(
    features: Tensor, text: ConcatenatedFeatures, scale: float, margin: float, margin_dim: int = -1
) -> OneClassTerms:
    """All terms of features (..., D) of normal images against the texts of what they show; see the terms."""
    normal, anomalous = text.prototypes
    return OneClassTerms(
        normal_contrast(features, normal, F.normalize(text.anomalous, dim=-1), scale),
        anomaly_margin(features, normal, anomalous, margin, margin_dim),
        alignment(text.manual, text.learnt),
    )


def normal_contrast(features: Tensor, normal: Tensor, anomalous: Tensor, scale: float) -> Tensor:
    """Cross-entropy of the normal prototype against every anomalous text.

    Args:
        features: unit features of normal images, (..., D).
        normal: unit prototype, (D,).
        anomalous: unit features of K texts, (K, D).
        scale: what the cosines are multiplied by.

    Returns:
        Scalar mean over the features.
    """
    logits = scale * features.flatten(0, -2) @ torch.cat([normal.unsqueeze(0), anomalous]).T  # (M, 1 + K)
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))


def anomaly_margin(features: Tensor, normal: Tensor, anomalous: Tensor, margin: float, dim: int = -1) -> Tensor:
    """Explicit anomaly margin: max(0, Σ (v - n)² - Σ (v - a)² + margin), mean over what the sums along `dim` leave.

    Args:
        features: unit features v of normal images, (..., D).
        normal: unit prototype n, (D,).
        anomalous: unit prototype a, (D,).
        margin: by how much the anomalous prototype is to be farther.
        dim: what is summed; the last makes squared distances, no other does.

    Returns:
        Scalar.
    """
    near, far = (features - normal).square().sum(dim=dim), (features - anomalous).square().sum(dim=dim)
    return F.relu(near - far + margin).mean()


def alignment(manual: Tensor, learnt: Tensor) -> Tensor:
    """Squared distance between the means of the unit manual (M, D) and the unit learnt texts (L, D), in [0, 4]."""
    first, second = (F.normalize(texts, dim=-1).mean(dim=0) for texts in (manual, learnt))
    return (first - second).square().sum()
