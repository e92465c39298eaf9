"""Losses of multi-level prompts (FineGrainedAD, arXiv:2510.26464): PromptAD's at each level, and what binds levels."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.components.one_class_losses import OneClassTerms, one_class_terms
from methods.finegrainedad.prompts import LevelFeatures


class Shots(NamedTuple):
    """What a fit sees of the k shots of one category."""

    image: Tensor  # (k, D)
    patches: Tensor  # (k, N, D)
    weights: Tensor  # (J, k, N) of the patches, for each component and, if there is one, the background


class LevelTerms(NamedTuple):
    """Terms of one category's loss before their weights."""

    image: OneClassTerms
    components: tuple[OneClassTerms, ...]
    background: OneClassTerms | None
    regularisation: Tensor


def level_terms(
    features: Tensor, weights: Tensor, text: LevelFeatures, scale: float, margin: float, margin_dim: int = -1
) -> LevelTerms:
    """Compare the features of k normal images with each level's texts.

    Args:
        features: unit features, (k, N, D).
        weights: what multiplies them for each component and the background, (J, k, N) or broadcast to it. The vectors
            themselves are scaled, as released: in the contrast this is a temperature, in the margin more than that.
        text: of their category.
        scale: what the cosines are multiplied by.
        margin: of the explicit anomaly margin.
        margin_dim: what it sums along.
    """
    image = one_class_terms(features, text.image, scale, margin, margin_dim)
    regions = tuple(
        one_class_terms(weight.unsqueeze(-1) * features, level, scale, margin, margin_dim)
        for weight, level in zip(weights, text.regions, strict=True)
    )
    n_components = len(text.components)
    background = None if text.background is None else regions[-1]
    return LevelTerms(image, regions[:n_components], background, regularisation(text))


def regularisation(text: LevelFeatures) -> Tensor:
    """Distance of the learnt anomalous image text from those of the components together and the normal background.

    |m(image) - m(Σ components) - m(background)| with m the mean of unit vectors, no square; 0 without components, and
    without the last term where there is no background.
    """
    if not text.components:
        return text.image.learnt.new_zeros(())
    together = torch.stack([component.learnt for component in text.components]).sum(dim=0)  # (P·Q, D)
    rest = _mean_unit(text.image.learnt) - _mean_unit(together)
    if text.background is not None:
        rest = rest - _mean_unit(text.background.normal)
    distance: Tensor = rest.norm()
    return distance


def add_up(terms: LevelTerms, align_weight: float, reg_weight: float) -> Tensor:
    """The loss; the background's alignment is left out."""
    background = () if terms.background is None else (terms.background,)
    levels: Sequence[OneClassTerms] = (terms.image, *terms.components, *background)
    compared = torch.stack([level.contrast + level.margin for level in levels]).sum()
    aligned = torch.stack([level.alignment for level in (terms.image, *terms.components)]).sum()
    return compared + align_weight * aligned + reg_weight * terms.regularisation


def _mean_unit(texts: Tensor) -> Tensor:
    return F.normalize(texts, dim=-1).mean(dim=0)
