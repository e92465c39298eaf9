"""AF-CLIP once more, written from its description: neighbours, heads and pairs of patches one after the other."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from tests.support.plain_faprompt import text_tower
from tests.support.plain_tower import tokens_after


def averaged(tokens: Tensor, side: int) -> Tensor:
    """Of one image, class token first, (1 + N, width): patches over side x side neighbours, zeros beyond the edge."""
    n, reach = int(len(tokens[1:]) ** 0.5), side // 2
    near = [(i, j) for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)]
    total = sum(math.exp(-(i * i + j * j) / (2 * 4.0**2)) for i, j in near)
    rows = [tokens[0]]
    for row in range(n):
        for column in range(n):
            found = torch.zeros_like(tokens[0])
            for i, j in near:
                if 0 <= row + i < n and 0 <= column + j < n:
                    weight = math.exp(-(i * i + j * j) / (2 * 4.0**2)) / total
                    found = found + weight * tokens[1 + (row + i) * n + column + j]
            rows.append(found)
    return torch.stack(rows)


class Plain:
    """`learnt` are the values of the attention layer and the learnt tokens, by the names of the method's state."""

    def __init__(self, clip: Any, tokenizer: Any, learnt: Mapping[str, Tensor], blocks: Sequence[int]) -> None:
        self.clip, self.tokenizer, self.learnt, self.blocks = clip, tokenizer, learnt, blocks
        self.heads, self.tau, self.gamma = 8, 0.07, 4.0

    def texts(self) -> Tensor:
        """Unit features (2, D)."""
        context, rows = self.learnt["ctx"], []
        for text in ("without defect.", "with defect."):
            ids = self.tokenizer([text], context_length=77)
            moved = torch.cat([torch.zeros(1, len(context), dtype=ids.dtype), ids], dim=1)[:, :77]
            embeddings = torch.cat([context, self.clip.token_embedding(ids)[0]])[:77]
            rows.append(F.normalize(text_tower(self.clip, moved, embeddings[None], [])[0], dim=0))
        return torch.stack(rows)

    def sets(self, image: Tensor) -> list[Tensor]:
        """Token sets (1 + N, width) of one normalised image (3, S, S)."""
        with torch.no_grad():
            taps = tokens_after(self.clip, image[None], self.blocks)
        return [averaged(tap[0], side) if side > 1 else tap[0] for tap in taps for side in (1, 3, 5)]

    def adapt(self, tokens: Tensor) -> Tensor:
        """Unit features (1 + N, D) of a token set."""
        w = {key.removeprefix("attention."): value for key, value in self.learnt.items()}
        x = (tokens - tokens.mean(dim=1, keepdim=True)) / (tokens.var(dim=1, keepdim=True, correction=0) + 1e-5).sqrt()
        x = x * w["norm.weight"] + w["norm.bias"]
        q, k, v = (x @ w[f"{name}.weight"].T for name in ("queries", "keys", "values"))
        side, mixed = q.shape[1] // self.heads, []
        for head in range(self.heads):
            a, b, c = (each[:, head * side : (head + 1) * side] for each in (q, k, v))
            mixed.append((a @ b.T / math.sqrt(side)).softmax(dim=1) @ c)
        out = torch.cat(mixed, dim=1) @ w["out.weight"].T + w["out.bias"]
        return F.normalize(self.clip.visual.ln_post(out) @ self.clip.visual.proj, dim=1)

    def probabilities(self, adapted: Sequence[Tensor]) -> Tensor:
        """Of the anomalous text for each token, (1 + N,)."""
        normal, anomalous = self.texts()
        logits = [sum(each @ text for each in adapted) / self.tau for text in (normal, anomalous)]
        return 1 / (1 + torch.exp(logits[0] - logits[1]))

    def enlarge(self, patches: Tensor, size: int, sigma: float) -> np.ndarray:
        n = int(len(patches) ** 0.5)
        large = F.interpolate(patches.view(1, 1, n, n), (size, size), mode="bilinear", align_corners=False)[0, 0]
        return gaussian_filter(large.numpy(), sigma=sigma)

    @torch.no_grad()
    def predict(self, image: Tensor, shots: Sequence[Tensor], share: float, sigma: float) -> tuple[float, np.ndarray]:
        """Score and smoothed map of one normalised image, with normalised shots or none."""
        sets = self.sets(image)
        found = self.probabilities([self.adapt(each) for each in sets])
        score, patches = found[0], found[1:]
        if shots:
            known, far = [self.sets(shot) for shot in shots], torch.zeros_like(patches)
            for index, own in enumerate(sets):
                memory = torch.cat([each[index][1:] for each in known])
                for i, patch in enumerate(own[1:]):
                    cosines = [float(F.cosine_similarity(patch, other, dim=0)) for other in memory]
                    far[i] += (1 - max(cosines)) / 2 / len(sets)
            score, patches = far.max() + share * score, far + share * patches
        return float(score), self.enlarge(patches, image.shape[-1], sigma)

    def focal(self, p: Tensor, t: Tensor) -> Tensor:
        entropy = -(t * p.log() + (1 - t) * (1 - p).log())
        return (entropy * (1 - (t * p + (1 - t) * (1 - p))) ** self.gamma).mean()

    def target(self, mask: Tensor) -> Tensor:
        """(B, N) of masks (B, S, S) of 0 and 1."""
        n = self.clip.visual.conv1.stride[0]
        small = F.interpolate(mask[:, None], mask.shape[-1] // n, mode="bilinear", align_corners=False).flatten(1)
        return torch.where(small > 0.5, 1.0, torch.where(small < 0.5, 0.0, 0.5))

    def terms(self, images: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Losses of normalised images and masks."""
        adapted = [[self.adapt(each) for each in self.sets(image)] for image in images]
        found = torch.stack([self.probabilities(each) for each in adapted])
        label, target = mask.flatten(1).any(dim=1).float(), self.target(mask)
        hinges = []
        for index in range(len(adapted[0])):
            mixed, same = [], []
            for image, truth in zip(adapted, target, strict=True):
                patches = image[index][1:]
                for i, one in enumerate(truth.tolist()):
                    for j, other in enumerate(truth.tolist()):
                        if {one, other} <= {0.0, 1.0}:
                            (same if one == other else mixed).append(patches[i] @ patches[j])
            apart = torch.stack(mixed).mean() - torch.stack(same).mean() if mixed else torch.zeros(())
            hinges.append(apart if apart > 0 else torch.zeros(()))
        return {
            "image_focal": self.focal(found[:, 0], label),
            "map_focal": self.focal(found[:, 1:], target),
            "map_l1": (found[:, 1:] - target).abs().mean(),
            "alignment": torch.stack(hinges).mean(),
        }
