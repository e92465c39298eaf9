"""PatchCore: how far is a patch, with its neighbourhood, from those of the normal shots? No text, no training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone, ImageFeatures
from methods.components.clip.depth import blocks_at
from methods.components.memory import Bank, ShotMemory
from methods.components.prediction import Finish, Prediction
from methods.components.scoring import to_grid
from methods.patchcore.coreset import sample_coreset
from methods.patchcore.neighbours import Neighbours, nearest, reweighted_score
from methods.patchcore.patches import Norm, normalise, patch_features


class PatchCore(Method["PatchCore.Config"]):
    """PatchCore (Roth et al., CVPR 2022) on the patch tokens of a vision transformer.

    Tokens of two blocks, each with its neighbourhood of 3 x 3, are averaged to one feature for each patch. The memory
    holds those of all shots, or a coreset of them. A patch's score is the squared distance to the nearest one, the
    image's score is the largest of its patches, and the map is that of the patches, enlarged and smoothed.

    The paper's text was not at hand: formulas are those of the released code (amazon-science/patchcore-inspection,
    commit fcaa92f), certain but for what follows. That code takes blocks 2 and 3 of a Wide-ResNet-50-2 and cannot read
    a transformer (its issue 71): blocks at one half and three quarters of the depth, and as many dimensions as a token
    has, are our reading. Its image score is the plain maximum of squared distances; the paper's reweighting, which it
    leaves out, is `image_score`. Few-shot figures in print do not say whether they use a coreset: none is used here,
    and 0.1 is what the released scripts say. Left out: the centre crop, since the whole image is measured; scaling of
    scores over the test set, which changes no rank within a category; the ensemble of three networks.
    """

    paper = "https://arxiv.org/abs/2106.08265"
    published = ("PatchCore",)
    protocols = ("few_shot", "multi_class")
    needs = ("patch_tokens", "category if bank=per_class")

    @dataclass(kw_only=True)
    class Config:
        """Settings.

        Attributes:
            layers: blocks whose tokens are compared, as fractions of the tower's depth.
            neighbourhood: side of what is averaged around a patch, in patches; odd. The released network has cells of
                8 px, a transformer patches of 14 or more, where a token that stands out reaches nine of them; 1 keeps
                each token apart.
            layer_dim: dimensions that each block is pooled to; None takes the tower's width (1024 as released).
            dim: dimensions that both blocks together are pooled to; None takes the width (1024 as released).
            norm: tokens as they leave a block ("none", faithful), of "unit" length, or "layer_norm" without weights. A
                few channels of a transformer's tokens are so large that they alone decide a distance between raw ones.
            coreset: share of the patches of a category that is remembered; 1 remembers all. The released scripts take
                0.1 of all normal images.
            projection_dim: dimensions that distances are measured in while a coreset is chosen.
            n_start: patches that a coreset's first distances are measured from.
            n_neighbours: squared distances that a patch's score is the mean of.
            image_score: the "maximum" over patches is the released code; "reweighted_memory" and "reweighted_query" are
                both readings of the paper's equation 7, the neighbours of the nearest remembered patch (anomalib) or of
                the test patch. Those measure distances that are not squared.
            n_reweighting: b, neighbours in equation 7; unknown, 9 is anomalib's.
            sigma: deviation of the map's Gaussian, in pixels of an image of side `sigma_at`; others in proportion.
            sigma_at: side of the image, in pixels, that `sigma` is given for.
            bank: shots that an image is compared with: those of its own category ("per_class"), "pooled" over all
                categories, or as many "retrieved" from all by class feature, which needs whole shots: coreset=1. The
                last two never ask for the category. A coreset is chosen for each category.
        """

        layers: Annotated[tuple[float, ...], "> 0, <= 1"] = (0.5, 0.75)
        neighbourhood: Annotated[int, ">= 1"] = 3
        layer_dim: Annotated[int | None, ">= 1"] = None
        dim: Annotated[int | None, ">= 1"] = None
        norm: Norm = "none"
        coreset: Annotated[float, "> 0, <= 1"] = 1.0
        projection_dim: Annotated[int, ">= 1"] = 128
        n_start: Annotated[int, ">= 1"] = 10
        n_neighbours: Annotated[int, ">= 1"] = 1
        image_score: Literal["maximum", "reweighted_memory", "reweighted_query"] = "maximum"
        n_reweighting: Annotated[int, ">= 2"] = 9
        sigma: Annotated[float, ">= 0"] = 4.0
        sigma_at: Annotated[int, ">= 1"] = 224
        bank: Bank = "per_class"

    def __init__(self, backbone: CLIPBackbone, categories: Mapping[str, str], config: Config | None = None) -> None:
        super().__init__(backbone, categories, config)
        cfg = self.config
        if not cfg.neighbourhood % 2:
            raise ValueError(f"neighbourhood must be odd, so that a patch has a middle; got {cfg.neighbourhood}.")
        if cfg.bank == "retrieved" and cfg.coreset < 1:
            raise ValueError(f"bank=retrieved compares with whole shots: it needs coreset=1; got {cfg.coreset}.")
        self.blocks = blocks_at(cfg.layers, backbone.n_image_blocks)
        self.memory = ShotMemory(cfg.bank)
        self._seed = int(torch.randint(2**62, ()))  # of coresets, one for all categories

    @torch.no_grad()
    def adapt(self, shots: Tensor, category: str) -> None:
        cfg, features = self.config, self._encode(shots)
        patches = self._describe(features)  # (k, N, D)
        if cfg.coreset < 1:
            rows = patches.flatten(0, 1)
            kept = sample_coreset(rows, cfg.coreset, cfg.projection_dim, cfg.n_start, self._seed)
            patches = kept.unsqueeze(1)  # (n, 1, D)
        self.memory.remember(category, (patches,), features.image)

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        features, size = self._encode(images), (images.shape[2], images.shape[3])
        patches = self._describe(features)  # (B, N, D)
        scores, distances = patches.new_empty(len(patches)), patches.new_empty(patches.shape[:2])  # (B,), (B, N)
        for rows, (memory,) in self.memory.banks(categories, features.image, patches.device):
            found = nearest(patches[rows], memory, self.config.n_neighbours)
            distances[rows] = found.distance.mean(dim=-1)
            scores[rows] = self._score(patches[rows], found, memory)
        finish = Finish(size, self.config.sigma * (min(size) / self.config.sigma_at))
        return Prediction(scores, to_grid(distances, features.grid), finish)

    def _score(self, patches: Tensor, found: Neighbours, memory: Tensor) -> Tensor:
        """Of images, (B,)."""
        cfg = self.config
        if cfg.image_score == "maximum":
            return found.distance.mean(dim=-1).amax(dim=1)
        around: Literal["memory", "query"] = "memory" if cfg.image_score == "reweighted_memory" else "query"
        return reweighted_score(patches, found, memory, cfg.n_reweighting, around)

    def _encode(self, images: Tensor) -> ImageFeatures:
        return self.backbone.encode_image(images, taps=self.blocks)

    def _describe(self, features: ImageFeatures) -> Tensor:
        """Patches with their neighbourhoods, (B, N, D)."""
        cfg, width = self.config, self.backbone.image_width
        tokens = normalise(features.taps, cfg.norm).transpose(2, 3)  # (L, B, width, N)
        layers = list(to_grid(tokens, features.grid))  # L of (B, width, rows, columns)
        return patch_features(layers, cfg.neighbourhood, cfg.layer_dim or width, cfg.dim or width)
