"""Linear heads: learnt vectors in place of what prompts make of a text tower; the control of prompt learning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam, Optimizer

from datamodules.components.sample import Batch
from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.depth import blocks_at
from methods.components.clip.image_tower import project
from methods.components.losses import check_masks, local_terms, named_terms
from methods.components.maps import class_maps, class_probabilities
from methods.components.prediction import Finish, Prediction
from methods.components.prompts import new_prompt
from methods.components.scoring import to_grid


class Read(NamedTuple):
    """What the heads of L taps say of B images; class 0 is normal, 1 anomalous."""

    logits: Tensor  # (L, B, 2) of the class tokens
    patches: Tensor  # (L, B, N, 2) probabilities
    grid: tuple[int, int]  # rows and columns of patches


class LinearHeadsTerms(NamedTuple):
    """Terms of the loss, each summed over taps; those of maps before their weight."""

    focal: Tensor
    dice_anomalous: Tensor
    dice_normal: Tensor
    image_ce: Tensor


class LinearHeads(Method["LinearHeads.Config"]):
    """The heads of UniADet (2026), fitted on an auxiliary data set and blind to categories; no text tower takes part.

    All that a prompt learner hands to its comparison is two vectors, one normal and one anomalous. Here they are the
    parameters: two for the class token and two for the patches of each tap. If that matches learnt prompts, prompts
    are not what helps. Probabilities are the softmax over both cosines; the score is the mean over taps of the class
    token's, the map that of the patches', enlarged and smoothed. The loss is the cross-entropy of each class token
    plus `local_weight` times focal and Dice losses of each map, summed over taps.

    No code is released. Its README (gaobb/UniADet e47cf9c) states vectors apart for tasks and for layers, the kinds of
    losses and 0.015 M values. Left out is its class-aware augmentation, which it does not describe: by its own table
    that costs 0.2 points of image AUROC on MVTec AD and 2.0 on VisA; left out too is its memory for few shots. Where
    it is silent, the optimiser and what becomes of maps are those of AnomalyCLIP, the prompt learner to compare with.
    """

    paper = "https://arxiv.org/abs/2601.05552"
    protocols = ("zero_shot",)
    needs = ("patch_tokens",)
    fits_on = "auxiliary"
    max_epochs = 15  # unknown; AnomalyCLIP's

    @dataclass(kw_only=True)
    class Config:
        """Settings. [s] is stated by the source, [i] inferred from it, [u] unknown and taken from AnomalyCLIP.

        Attributes:
            batch_size: images per step [u].
            lr: Adam's learning rate [u].
            betas: Adam's decay rates [u].
            layers: taps, as fractions of the tower's depth [i]: vectors of their own for each layer are stated, which
                layers are not.
            space: what is compared. "tokens" are those of the tower, after `ln_post`: four layers of L/14 then have
                16,384 values [i]. "joint" are their projections, in which prompts are compared, 12,288 values.
            split_tasks: class tokens have vectors of their own [s]; False lets them share the patches'.
            split_layers: each tap has vectors of its own [s]; False lets all share the same.
            local_weight: weight of the maps' losses [i].
            temperature: divisor of the logits of every softmax [u].
            sigma: deviation of the map's Gaussian, in pixels of an image of side `sigma_at`; others in proportion [u].
            sigma_at: side of the image, in pixels, that `sigma` is given for [s].
        """

        batch_size: Annotated[int, ">= 1"] = 8
        lr: Annotated[float, "> 0"] = 1e-3
        betas: Annotated[tuple[float, float], ">= 0, < 1"] = (0.5, 0.999)
        layers: Annotated[tuple[float, ...], "> 0, <= 1"] = (0.25, 0.5, 0.75, 1.0)
        space: Literal["tokens", "joint"] = "tokens"
        split_tasks: bool = True
        split_layers: bool = True
        local_weight: Annotated[float, ">= 0"] = 1.0
        temperature: Annotated[float, "> 0"] = 0.07
        sigma: Annotated[float, ">= 0"] = 4.0
        sigma_at: Annotated[int, ">= 1"] = 518

    def __init__(self, backbone: CLIPBackbone, categories: Mapping[str, str], config: Config | None = None) -> None:
        super().__init__(backbone, categories, config)
        cfg = self.config
        self.taps = blocks_at(cfg.layers, backbone.n_image_blocks)
        width = backbone.image_width if cfg.space == "tokens" else backbone.embed_dim
        tasks, layers = 2 if cfg.split_tasks else 1, len(self.taps) if cfg.split_layers else 1
        self.vectors = new_prompt(tasks, layers, 2, width)  # task 0 is the image, the last one its patches

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=self.config.lr, betas=self.config.betas)

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        read, size = self.read(images), (images.shape[2], images.shape[3])
        finish = Finish(size, self.config.sigma * (min(size) / self.config.sigma_at))
        score = read.logits.softmax(dim=-1)[..., 1].mean(dim=0)
        return Prediction(score, to_grid(read.patches[..., 1].mean(dim=0), read.grid), finish)

    def loss(self, batch: Batch) -> Tensor:
        *local, image_ce = terms = self.loss_terms(batch)
        self.terms = named_terms(terms)
        return image_ce + self.config.local_weight * torch.stack(local).sum()

    def loss_terms(self, batch: Batch) -> LinearHeadsTerms:
        """What `loss` adds up.

        Raises:
            ValueError: the masks have another size than the images.
        """
        size, read, label = check_masks(batch), self.read(batch.image), batch.label.long()
        local = [torch.stack(local_terms(class_maps(p, read.grid, size), batch.mask)) for p in read.patches]
        image_ce = torch.stack([F.cross_entropy(logits, label) for logits in read.logits])
        focal, dice_anomalous, dice_normal = torch.stack(local).sum(dim=0)
        return LinearHeadsTerms(focal, dice_anomalous, dice_normal, image_ce.sum())

    def read(self, images: Tensor) -> Read:
        """Compare the tokens of images, (B, 3, H, W) in [0, 1], with the vectors."""
        features = self.backbone.encode_image(images, taps=self.taps)
        unit = F.normalize(self.vectors, dim=-1).expand(-1, len(self.taps), -1, -1)  # (tasks, L, 2, width)
        image, temperature = self._compared(features.class_taps), self.config.temperature  # (L, B, width)
        logits = image @ unit[0].transpose(1, 2) / temperature
        patches = [
            class_probabilities(self._compared(tokens), pair, temperature)  # (B, N, 2)
            for tokens, pair in zip(features.taps, unit[-1], strict=True)
        ]
        return Read(logits, torch.stack(patches), features.grid)

    @torch.no_grad()
    def _compared(self, tokens: Tensor) -> Tensor:
        """Unit vectors of the space that is asked for, of tokens (..., width)."""
        visual = self.backbone.clip.visual
        with self.backbone.autocast():
            if self.config.space == "joint":
                return project(visual, tokens)
            return F.normalize(visual.ln_post(tokens).float(), dim=-1)
