"""CoOp as a detector once more, written from its description: one image and one text after the other.

Texts keep all 77 tokens; each image has its own two texts encoded anew.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from tests.support.plain_faprompt import dice, focal, image_tower, text_tower
from tests.support.plain_tower import tokens_after


def encode(clip: Any, tokenizer: Any, context: Tensor, text: str) -> Tensor:
    """Unit feature (D,) of learnt tokens (M, W) and the words after them."""
    ids = tokenizer([f"{'X ' * len(context)}{text}"], context_length=77)
    row = clip.token_embedding(ids)[0]
    row = torch.cat([row[:1], context, row[1 + len(context) :]])
    return F.normalize(text_tower(clip, ids, row[None], [])[0], dim=-1)


class Plain:
    """Contexts are a pair of (M, W), of the normal and of the anomalous text; they may be one tensor."""

    def __init__(self, clip: Any, tokenizer: Any, contexts: tuple[Tensor, Tensor], states: tuple[str, str]) -> None:
        self.clip, self.tokenizer, self.contexts, self.states = clip, tokenizer, contexts, states
        self.vv_from, self.tau = len(clip.visual.transformer.resblocks), 0.01  # no V-V block

    def compare(self, image: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """Of one normalised image (3, S, S): logits (2,) and probabilities of patches (N, 2)."""
        texts = [f"{state} {name}." if state else f"{name}." for state in self.states]
        normal, anomalous = (
            encode(self.clip, self.tokenizer, context, text) for context, text in zip(self.contexts, texts, strict=True)
        )
        (last,) = tokens_after(self.clip, image[None], [len(self.clip.visual.transformer.resblocks)])
        cls = F.normalize(self.clip.visual.ln_post(last[:, 0]) @ self.clip.visual.proj, dim=-1)
        patches = image_tower(self.clip, image[None], self.vv_from)[1]
        rows = [torch.stack([p @ normal, p @ anomalous]).div(self.tau).softmax(dim=0) for p in patches[0]]
        return torch.stack([cls[0] @ normal, cls[0] @ anomalous]) / self.tau, torch.stack(rows)

    def enlarge(self, probabilities: Tensor, size: int) -> Tensor:
        """(N, 2) to (2, size, size)."""
        side = int(len(probabilities) ** 0.5)
        grid = probabilities.T.reshape(1, 2, side, side)
        return F.interpolate(grid, (size, size), mode="bilinear", align_corners=False)[0]

    @torch.no_grad()
    def predict(self, image: Tensor, name: str, sigma: float) -> tuple[float, np.ndarray]:
        """Score and smoothed map of one normalised image."""
        logits, probabilities = self.compare(image, name)
        score = 1 / (1 + torch.exp(logits[0] - logits[1]))
        return float(score), gaussian_filter(self.enlarge(probabilities, image.shape[-1])[1].numpy(), sigma=sigma)

    def loss(self, images: Tensor, names: list[str], mask: Tensor, local_weight: float) -> Tensor:
        """Of normalised images and masks (B, S, S) of 0 and 1."""
        entropies, maps = [], []
        for image, name, truth in zip(images, names, mask, strict=True):
            logits, probabilities = self.compare(image, name)
            entropies.append(-logits.softmax(dim=0)[int(truth.any())].log())
            maps.append(self.enlarge(probabilities, image.shape[-1]))
        all_maps = torch.stack(maps)
        local = focal(all_maps, mask) + dice(all_maps[:, 1], mask) + dice(all_maps[:, 0], 1 - mask)
        return torch.stack(entropies).mean() + local_weight * local
