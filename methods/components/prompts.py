"""Prompts and what is made of them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.components.backbone import CLIPBackbone


@torch.no_grad()
def ensemble(backbone: CLIPBackbone, texts: Sequence[str]) -> Tensor:
    """The renormalised mean of the unit features of `texts`, (D,) (CLIP, arXiv:2103.00020, section 3.1.4)."""
    features = backbone.encode_text(backbone.tokenize(texts))  # (T, D)
    return F.normalize(features.mean(dim=0), dim=-1)
