"""AnomalyCLIP: one normal and one anomalous prompt, learnt for any object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam, Optimizer

from datamodules.components.sample import Batch
from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone, ImageFeatures
from methods.components.clip.depth import blocks_at, in_proportion
from methods.components.losses import check_masks, local_terms, named_terms
from methods.components.maps import class_maps, class_probabilities
from methods.components.prediction import Finish, Prediction
from methods.components.prompts import DeepPrompts, Templates, Unchanged, join, new_prompt, write_context
from methods.components.scoring import to_grid


class AnomalyCLIPTerms(NamedTuple):
    """Terms of the loss; those of maps before their weight, summed over layers."""

    focal: Tensor
    dice_anomalous: Tensor
    dice_normal: Tensor
    image_ce: Tensor


class AnomalyCLIP(Method["AnomalyCLIP.Config"]):
    """AnomalyCLIP (Zhou et al., ICLR 2024), fitted on an auxiliary data set and blind to categories.

    The texts are E learnt tokens and "object.", and E others and "damaged object.", with learnt tokens in deeper text
    blocks too. The score is the anomalous probability of the class token, the map that of the patches (V-V attention,
    last block), enlarged and smoothed. The loss is the cross-entropy of the score plus `local_weight` times the maps'
    focal and Dice losses, which are summed over `layers` where there are several.

    Formulas are those of the released code (zqhang/AnomalyCLIP, commit 45ed4dd), and so are the defaults, but for
    `round_deep_prompts`. The anomalous probability alone makes the map, which equals half of itself and one minus the
    normal one. The release adds the maps of layers up where this takes their mean, which orders alike. Left out:
    parameters that nothing reads.
    """

    paper = "https://arxiv.org/abs/2310.18961"
    published = ("AnomalyCLIP",)
    protocols = ("zero_shot",)
    needs = ("text_tower", "patch_tokens")
    fits_on = "auxiliary"
    max_epochs = 15

    @dataclass(kw_only=True)
    class Config:
        """Settings.

        Attributes:
            batch_size: images per step.
            lr: Adam's learning rate.
            betas: Adam's decay rates, of the released code.
            n_ctx: E, learnt tokens of each text.
            depth: text blocks with learnt tokens, the first included; None takes 9 of 12, rounded down.
            deep_length: tokens overwritten before each text block but the first.
            layers: blocks whose patches make maps, as fractions of the tower's depth. The released scripts take the
                last alone, and so do all published results (issue 82). The default of train.py and early versions of
                the paper name 6, 12, 18 and 24 of 24, (0.25, 0.5, 0.75, 1.0), of which no result is published.
            local_weight: weight of the maps' losses, the lambda of the release (train.py:50). The first release had
                none, but added in place, which made its four layers all the last one (issues 18 and 64): four times
                the last one's loss, too.
            vv_from: image blocks before the V-V stream; None takes 5 of 24 (the last 19), rounded down.
            temperature: divisor of the logits of every softmax.
            sigma: deviation of the map's Gaussian, in pixels of an image of side `sigma_at`; others in proportion.
            sigma_at: side of the image, in pixels, that `sigma` is given for.
            class_norm: the released code leaves `ln_post` out of the class token and its author finds no difference
                (issue 14); True is CLIP's own.
            round_deep_prompts: the released code rounds deep prompts and their gradients to float16; True repeats it.
        """

        batch_size: Annotated[int, ">= 1"] = 8
        lr: Annotated[float, "> 0"] = 1e-3
        betas: Annotated[tuple[float, float], ">= 0, < 1"] = (0.5, 0.999)
        n_ctx: Annotated[int, ">= 1"] = 12
        depth: Annotated[int | None, ">= 1"] = None
        deep_length: Annotated[int, ">= 1"] = 4
        layers: Annotated[tuple[float, ...], "> 0, <= 1"] = (1.0,)
        local_weight: Annotated[float, ">= 0"] = 4.0
        vv_from: Annotated[int | None, ">= 0"] = None
        temperature: Annotated[float, "> 0"] = 0.07
        sigma: Annotated[float, ">= 0"] = 4.0
        sigma_at: Annotated[int, ">= 1"] = 518
        class_norm: bool = False
        round_deep_prompts: bool = False

    def __init__(self, backbone: CLIPBackbone, categories: Mapping[str, str], config: Config | None = None) -> None:
        super().__init__(backbone, categories, config)
        cfg = self.config
        if cfg.n_ctx < 1:
            raise ValueError(f"n_ctx must be 1 or more; got {cfg.n_ctx}.")
        self.layers = blocks_at(cfg.layers, backbone.n_image_blocks)
        self.vv_from = in_proportion(5, 24, backbone.n_image_blocks) if cfg.vv_from is None else cfg.vv_from
        depth = in_proportion(9, 12, backbone.n_text_blocks) if cfg.depth is None else cfg.depth
        held = "X " * cfg.n_ctx  # any word of one token holds a place
        self.templates = Templates(backbone, f"{held}object.", f"{held}damaged object.")
        self.normal_ctx = new_prompt(cfg.n_ctx, backbone.text_width)
        self.anomalous_ctx = new_prompt(cfg.n_ctx, backbone.text_width)
        self.deep = DeepPrompts(depth, cfg.deep_length, backbone, rounded=cfg.round_deep_prompts)
        self._text = Unchanged[Tensor]()

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=self.config.lr, betas=self.config.betas)

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        features, text = self._encode_image(images), self.encode_text()
        size = (images.shape[2], images.shape[3])
        patches = [
            class_probabilities(p, text, self.config.temperature)[..., 1] for p in features.patches
        ]  # L of (B, N)
        finish = Finish(size, self.config.sigma * (min(size) / self.config.sigma_at))
        score = self._logits(features, text).softmax(dim=1)[:, 1]
        return Prediction(score, to_grid(torch.stack(patches).mean(dim=0), features.grid), finish)

    def loss(self, batch: Batch) -> Tensor:
        *local, image_ce = terms = self.loss_terms(batch)
        self.terms = named_terms(terms)
        return image_ce + self.config.local_weight * torch.stack(local).sum()

    def loss_terms(self, batch: Batch) -> AnomalyCLIPTerms:
        """What `loss` adds up.

        Raises:
            ValueError: the masks have another size than the images.
        """
        size = check_masks(batch)
        features, text = self._encode_image(batch.image), self.encode_text()
        local = []
        for patches in features.patches:  # (B, N, D)
            probabilities = class_probabilities(patches, text, self.config.temperature)
            local.append(torch.stack(local_terms(class_maps(probabilities, features.grid, size), batch.mask)))
        focal, dice_anomalous, dice_normal = torch.stack(local).sum(dim=0)
        image_ce = F.cross_entropy(self._logits(features, text), batch.label.long())
        return AnomalyCLIPTerms(focal, dice_anomalous, dice_normal, image_ce)

    def encode_text(self) -> Tensor:
        """Unit features of the normal and the anomalous text, (2, D)."""
        return self._text(self.parameters(), self._encode_text)

    def _encode_text(self) -> Tensor:
        tokens = join(
            write_context(self.templates.normal, self.normal_ctx.unsqueeze(0)),
            write_context(self.templates.anomalous, self.anomalous_ctx.unsqueeze(0)),
        )
        return self.backbone.encode_text(tokens, deep_prompts=self.deep(len(tokens.ids)))

    def _encode_image(self, images: Tensor) -> ImageFeatures:
        return self.backbone.encode_image(
            images,
            layers=self.layers,
            stream="vv_from_ordinary",
            vv_from=self.vv_from,
            class_norm=self.config.class_norm,
        )

    def _logits(self, features: ImageFeatures, text: Tensor) -> Tensor:
        """Of images, (B, 2)."""
        return features.image @ text.T / self.config.temperature
