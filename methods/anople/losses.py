"""The loss of AnoPLe (arXiv:2408.13516): two terms of pixels, one of images, and one that ties both together."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from methods.components.losses import dice_losses


class AnoPLeTerms(NamedTuple):
    """Terms of the loss, of weight 1 each."""

    dice: Tensor
    focal: Tensor
    image: Tensor
    alignment: Tensor


def anomalous_dice_loss(probability: Tensor, mask: Tensor) -> Tensor:
    """Mean of `dice_losses` of the images whose mask marks a pixel; 0 where there is none.

    Against an empty mask Dice knows no distance: summed over thousands of pixels it stays at 1 until the map is almost
    zero everywhere, and then pulls the harder the closer it is, while the focal loss already says what is normal.

    Args:
        probability: anomalous, (B, H, W).
        mask: (B, H, W) bool.

    Returns:
        Scalar mean over those images.
    """
    marked = mask.flatten(1).any(dim=1)  # (B,)
    return (dice_losses(probability, mask) * marked).sum() / marked.sum().clamp(min=1)


def image_loss(image: Tensor, texts: Tensor, own: Tensor, label: Tensor, scale: float, against: str) -> Tensor:
    """Cross-entropy of images against texts, mean over images.

    Args:
        image: unit features, (B, D).
        texts: unit features of the normal and the abnormal text of K categories, (K, 2, D).
        own: each image's category, (B,) long.
        label: (B,) bool, True for an anomalous image.
        scale: what cosines are multiplied by.
        against: "pair", the texts of the image's category, or "all", where the right category counts too.
    """
    if against == "all":
        return F.cross_entropy(scale * image @ texts.flatten(0, 1).T, 2 * own + label)
    return F.cross_entropy(scale * (texts[own] @ image.unsqueeze(-1)).squeeze(-1), label.long())


def evidence_alignment(
    image: Tensor, patches: Tensor, evidence: Tensor, counted: Tensor, detach: str = "none"
) -> Tensor:
    """One minus the cosine of an image's feature and its anomalous patches together.

    What is published, 1 - <z, sum of M times D>, has no lower bound, so the sum is normalised here, and an image
    without an anomaly, whose sum means nothing, can be left out.

    Args:
        image: unit features, (B, D).
        patches: unit features, (B, N, D).
        evidence: anomalous probability of each patch, (B, N).
        counted: images that count, (B,) bool.
        detach: side without gradient: "none", "patches" with their evidence, or "image".

    Returns:
        Scalar mean over the counted images, in [0, 2]; 0 if there is none.
    """
    together = F.normalize((evidence.unsqueeze(-1) * patches).sum(dim=1), dim=-1)  # (B, D)
    if detach != "none":
        image, together = (image.detach(), together) if detach == "image" else (image, together.detach())
    apart = 1 - (image * together).sum(dim=-1)
    return (apart * counted).sum() / counted.sum().clamp(min=1)
