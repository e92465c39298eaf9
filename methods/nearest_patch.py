"""Nearest patch: how far is a patch from every patch of the normal shots? No text, no training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.depth import blocks_at
from methods.components.memory import Bank, ShotMemory
from methods.components.prediction import Prediction
from methods.components.scoring import to_grid


def turned(images: Tensor, angles: int) -> Tensor:
    """Every image at `angles` equal steps of a full turn, mirrored at its edges where a corner would be empty.

    Args:
        images: (k, 3, H, H), squares.
        angles: 1 returns the images as they are.

    Returns:
        (angles · k, 3, H, H): all images at angle 0, then all at the first step, and so on.
    """
    turns = [images]
    for step in range(1, angles):
        angle = 2 * math.pi * step / angles
        cos, sin = math.cos(angle), math.sin(angle)
        theta = images.new_tensor([[cos, -sin, 0.0], [sin, cos, 0.0]]).expand(len(images), -1, -1)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        turns.append(F.grid_sample(images, grid, padding_mode="reflection", align_corners=False))
    return torch.cat(turns)


class NearestPatch(Method["NearestPatch.Config"]):
    """The reference branch of APRIL-GAN (arXiv:2305.17382, few-shot setting) on its own.

    With f_l(p) the token of patch p after block l, as it leaves the block (no `ln_post`, no projection to the joint
    space) and scaled to unit length, and M_l the tokens of all patches of the k shots of the category,

        map(p) = mean over l of (1 - max over r in M_l of <f_l(p), r>),    score = max over p of map(p).

    APRIL-GAN adds its layers up where this takes their mean, which orders alike, and enlarges the map before the
    maximum, which bilinear interpolation can only lower. Its score also has a text branch, which is left out here.
    What it is worth on photographs of screws, and why: docs/memories-on-screw.md.
    """

    paper = "https://arxiv.org/abs/2305.17382"
    protocols = ("few_shot", "multi_class")
    needs = ("patch_tokens", "category if bank=per_class")

    @dataclass(kw_only=True)
    class Config:
        """Settings.

        Attributes:
            layers: blocks compared, as fractions of the tower's depth; 6, 12, 18 and 24 of 24 in APRIL-GAN.
            bank: shots that an image is compared with: those of its own category ("per_class"), "pooled" over all
                categories, or as many "retrieved" from all by class feature. The last two never ask for the category.
            angles: every shot is remembered at so many equal steps of a full turn, for objects that lie at any angle;
                8 in AnomalyDINO (arXiv:2405.14529), 1 in APRIL-GAN.
        """

        layers: Annotated[tuple[float, ...], "> 0, <= 1"] = (0.25, 0.5, 0.75, 1.0)
        bank: Bank = "per_class"
        angles: Annotated[int, ">= 1"] = 1

    def __init__(self, backbone: CLIPBackbone, categories: Mapping[str, str], config: Config | None = None) -> None:
        super().__init__(backbone, categories, config)
        self.blocks = blocks_at(self.config.layers, backbone.n_image_blocks)
        self.memory = ShotMemory(self.config.bank)

    @torch.no_grad()
    def adapt(self, shots: Tensor, category: str) -> None:
        shots = turned(shots, self.config.angles)
        features = self.backbone.encode_image(shots, taps=self.blocks)  # taps (L, k · angles, N, width)
        self.memory.remember(category, F.normalize(features.taps, dim=-1), features.image)

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        features = self.backbone.encode_image(images, taps=self.blocks)
        taps = F.normalize(features.taps, dim=-1)  # (L, B, N, width)
        layers = self.memory.distances(taps, categories, features.image)  # L of (B, N)
        distance = torch.stack(layers).mean(dim=0)  # (B, N)
        return Prediction(distance.amax(dim=-1), to_grid(distance, features.grid))
