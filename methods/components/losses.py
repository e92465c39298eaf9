"""Losses of prompt learners. Maps hold the probabilities of both classes: 0 is normal, 1 anomalous."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.components.sample import Batch

_FOCAL_EPS = 1e-5  # of the released code of AnomalyCLIP: label smoothing, and what keeps the logarithm finite


def check_masks(batch: Batch) -> tuple[int, int]:
    """Height and width that images and masks of `batch` share, so that maps of the input size meet every mask pixel.

    Raises:
        ValueError: the masks have another size than the images.
    """
    images, masks = tuple(batch.image.shape[-2:]), tuple(batch.mask.shape[-2:])
    if masks != images:
        raise ValueError(
            f"Masks must have the size of the images, {images[0]} x {images[1]}, to be compared with maps; got "
            f"{' x '.join(map(str, masks))}."
        )
    return images[0], images[1]


class LocalTerms(NamedTuple):
    """The three terms that compare maps with masks, scalars of weight 1."""

    focal: Tensor
    dice_anomalous: Tensor
    dice_normal: Tensor


def named_terms(terms: Any) -> dict[str, Tensor]:
    """The scalars of a named tuple or a mapping, without gradient, by name; of nested ones by path, "seg.margin"."""
    fields: Mapping[str, Any] = terms if isinstance(terms, Mapping) else terms._asdict()
    found: dict[str, Tensor] = {}
    for name, value in fields.items():
        nested = {"": value} if isinstance(value, Tensor) else named_terms(value)
        found |= {f"{name}.{inner}".rstrip("."): scalar.detach() for inner, scalar in nested.items()}
    return found


def focal_loss(maps: Tensor, mask: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss of pixels (arXiv:1708.02002, section 3.2), without class weights.

    -(1 - p)^gamma log p, where p is the probability of the true class smoothed by 1e-5, as AnomalyCLIP's released
    code has it.

    Args:
        maps: (B, 2, H, W), both classes sum to 1.
        mask: (B, H, W) bool, True on anomalous pixels.
        gamma: how much certain pixels count less.

    Returns:
        Scalar mean over all pixels.
    """
    normal, anomalous = maps.unbind(dim=1)
    true, other = torch.where(mask, anomalous, normal), torch.where(mask, normal, anomalous)
    p = (1 - _FOCAL_EPS) * true + _FOCAL_EPS * other + _FOCAL_EPS
    return (-((1 - p) ** gamma) * p.log()).mean()


def dice_loss(probability: Tensor, mask: Tensor) -> Tensor:
    """The mean over images of `dice_losses`."""
    return dice_losses(probability, mask).mean()


def dice_losses(probability: Tensor, mask: Tensor) -> Tensor:
    """One minus the smoothed Dice coefficient (2 Σ p m + 1) / (Σ p + Σ m + 1) of each image (arXiv:1606.04797).

    Args:
        probability: of the pixels that the mask marks, (B, H, W).
        mask: (B, H, W) bool.

    Returns:
        (B,), in [0, 1).
    """
    target = mask.to(probability)
    overlap = (probability * target).sum(dim=(1, 2))
    sizes = probability.sum(dim=(1, 2)) + target.sum(dim=(1, 2))
    return 1 - (2 * overlap + 1) / (sizes + 1)


def local_terms(maps: Tensor, mask: Tensor) -> LocalTerms:
    """Focal and both Dice losses of `maps` (B, 2, H, W) against `mask` (B, H, W) bool (arXiv:2310.18961)."""
    return LocalTerms(focal_loss(maps, mask), dice_loss(maps[:, 1], mask), dice_loss(maps[:, 0], ~mask))


def orthogonality_loss(features: Tensor) -> Tensor:
    """Sum over all pairs of the absolute cosine of `features` (K, D), a scalar in [0, K (K - 1) / 2]."""
    unit = F.normalize(features, dim=-1)
    return (unit @ unit.T).abs().triu(diagonal=1).sum()


def focal_cross_entropy(score: Tensor, label: Tensor, read_as: Literal["logit", "probability"]) -> Tensor:
    """(1 - exp(-b))² b, where b is the binary cross-entropy of image scores, mean over images.

    Args:
        score: (B,), in [0, 1] if read as a probability.
        label: (B,) bool, True for an anomalous image.
        read_as: "logit" sends the score through a sigmoid first.
    """
    entropy = F.binary_cross_entropy_with_logits if read_as == "logit" else F.binary_cross_entropy
    b = entropy(score, label.to(score), reduction="none")
    return ((1 - (-b).exp()) ** 2 * b).mean()
