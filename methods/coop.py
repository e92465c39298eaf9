"""CoOp: learnt context before the category's name, taken as a zero-shot detector; what AnomalyCLIP sets out from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from datamodules.components.sample import Batch
from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone, ImageFeatures
from methods.components.clip.depth import in_proportion
from methods.components.losses import check_masks, local_terms
from methods.components.maps import class_maps, class_probabilities
from methods.components.prediction import Finish, Prediction
from methods.components.prompts import Unchanged, new_prompt, write_context
from methods.components.scoring import to_grid


def one_warm_epoch(epoch: int, *, start: float, epochs: int) -> float:
    """Factor of the learning rate: `start` in the first epoch, then a cosine from 1 that ends after `epochs` of it."""
    return start if epoch == 0 else (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2


class CoOp(Method["CoOp.Config"]):
    """CoOp (Zhou et al., IJCV 2022) as the tables of AnomalyCLIP and FAPrompt have it, fitted on an auxiliary data set.

    The texts are M learnt tokens and "normal NAME.", and M learnt tokens and "anomalous NAME.", with the category's
    name. The score is the anomalous probability of the class token, the map that of the last block's patches, enlarged
    and smoothed. The loss is the cross-entropy of the score. Both towers are frozen.

    CoOp itself is KaiyangZhou/CoOp ff61507. Nobody has released the detector: the templates and what makes the map are
    recalled from AnomalyCLIP's appendix, its loss is inferred from pixel AUROCs below 50, which cross-entropy alone
    with ordinary attention explains. AnomalyCLIP's run and GlocalCLIP's own one differ by up to 21 points of image
    AUROC, so this is a set-up of ours beside theirs. CoCoOp, whose context also depends on the image, is left out: no
    source at hand says how it was made a detector.
    """

    paper = "https://arxiv.org/abs/2109.01134"
    published = ("CoOp",)
    protocols = ("zero_shot",)
    needs = ("text_tower", "patch_tokens", "category")
    fits_on = "auxiliary"
    # CoOp's 200 belong to 16 images a class; 15 over an auxiliary set are about as many steps as AnomalyCLIP's.
    max_epochs = 15

    @dataclass(kw_only=True)
    class Config:
        """Settings. [s] is stated by CoOp's code, [r] recalled, [i] inferred, [u] unknown.

        Attributes:
            batch_size: images per step [s].
            lr: SGD's learning rate after the first epoch, at the start of a cosine to zero [s].
            lr_first: that of the first epoch [s].
            momentum: SGD's [r].
            weight_decay: SGD's, of the learnt tokens [r].
            n_ctx: M, learnt tokens of each text [s]; AnomalyCLIP has 12.
            context: "shared" by both texts, as by all classes in CoOp [i]; "per_state" is AnomalyCLIP's.
            states: words before the name, of the normal and the anomalous text [r]; ("", "damaged") are AnomalyCLIP's.
            stream: where the map's patches come from [i]. "vv_from_ordinary" is AnomalyCLIP's V-V attention: the one
                switch that shows where its gain in maps comes from.
            vv_from: image blocks before the V-V stream; None takes 5 of 24 (the last 19), rounded down.
            local_weight: weight of the map's focal and Dice losses [i]. 0 is CoOp; 4, with the states, the stream and a
                context of AnomalyCLIP, is AnomalyCLIP without deep prompts and with names.
            temperature: divisor of the logits, what CLIP's training ends with [s]. It orders no score otherwise: the
                probability rises with the difference of both cosines. It changes the fit, and what smoothing does.
            sigma: deviation of the map's Gaussian, in pixels of an image of side `sigma_at`; others in proportion [r].
            sigma_at: side of the image, in pixels, that `sigma` is given for [r].
        """

        batch_size: Annotated[int, ">= 1"] = 32
        lr: Annotated[float, "> 0"] = 2e-3
        lr_first: Annotated[float, "> 0"] = 1e-5
        momentum: Annotated[float, ">= 0, < 1"] = 0.9
        weight_decay: Annotated[float, ">= 0"] = 5e-4
        n_ctx: Annotated[int, ">= 1"] = 16
        context: Literal["shared", "per_state"] = "shared"
        states: tuple[str, str] = ("normal", "anomalous")
        stream: Literal["ordinary", "vv_from_ordinary"] = "ordinary"
        vv_from: Annotated[int | None, ">= 0"] = None
        local_weight: Annotated[float, ">= 0"] = 0.0
        temperature: Annotated[float, "> 0"] = 0.01
        sigma: Annotated[float, ">= 0"] = 4.0
        sigma_at: Annotated[int, ">= 1"] = 518

    def __init__(self, backbone: CLIPBackbone, categories: Mapping[str, str], config: Config | None = None) -> None:
        super().__init__(backbone, categories, config)
        cfg = self.config
        if cfg.n_ctx < 1:
            raise ValueError(f"n_ctx must be 1 or more; got {cfg.n_ctx}.")
        self.vv_from = in_proportion(5, 24, backbone.n_image_blocks) if cfg.vv_from is None else cfg.vv_from
        self.ctx = new_prompt(2 if cfg.context == "per_state" else 1, cfg.n_ctx, backbone.text_width)
        self._text = Unchanged[Tensor]()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        cfg = self.config
        optimizer = SGD(self.parameters(), lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay)
        factor = partial(one_warm_epoch, start=cfg.lr_first / cfg.lr, epochs=self.max_epochs)
        return [optimizer], [LambdaLR(optimizer, factor)]

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        if unknown := sorted(set(categories) - set(self.categories)):
            raise ValueError(f"categories must be among {', '.join(self.categories)}; got {', '.join(unknown)}.")
        features, size = self._encode_image(images), (images.shape[2], images.shape[3])
        every = self._text(self.parameters(), lambda: self.encode_text(list(self.categories.values())))
        rows = {category: row for row, category in enumerate(self.categories)}
        text = every[[rows[category] for category in categories]]  # (B, 2, D)
        patches = class_probabilities(features.patches[0], text, self.config.temperature)[..., 1]  # (B, N)
        finish = Finish(size, self.config.sigma * (min(size) / self.config.sigma_at))
        score = self._logits(features, text).softmax(dim=1)[:, 1]
        return Prediction(score, to_grid(patches, features.grid), finish)

    def loss(self, batch: Batch) -> Tensor:
        """Scalar training loss.

        Raises:
            ValueError: `local_weight` is above 0 and the masks have another size than the images.
        """
        features, words = self._encode_image(batch.image), [self.words_of(key) for key in batch.category]
        distinct = list(dict.fromkeys(words))
        text = self.encode_text(distinct)[[distinct.index(each) for each in words]]  # (B, 2, D)
        image_ce = F.cross_entropy(self._logits(features, text), batch.label.long())
        if not self.config.local_weight:
            return image_ce
        probabilities = class_probabilities(features.patches[0], text, self.config.temperature)  # (B, N, 2)
        maps = class_maps(probabilities, features.grid, check_masks(batch))
        return image_ce + self.config.local_weight * torch.stack(local_terms(maps, batch.mask)).sum()

    def encode_text(self, words: Sequence[str]) -> Tensor:
        """Unit features of the normal and the anomalous text of C objects, (C, 2, D)."""
        held = "X " * self.config.n_ctx  # any word of one token holds a place
        tokens = self.backbone.tokenize(
            [held + f"{state} {name}.".lstrip() for name in words for state in self.config.states]
        )
        context = self.ctx.expand(2, -1, -1).repeat(len(words), 1, 1)  # (2 C, M, W)
        return self.backbone.encode_text(write_context(tokens, context)).view(len(words), 2, -1)

    def _encode_image(self, images: Tensor) -> ImageFeatures:
        cfg = self.config
        vv_from = self.vv_from if cfg.stream == "vv_from_ordinary" else 0  # one key of a store for the plain pass
        return self.backbone.encode_image(
            images, layers=(self.backbone.n_image_blocks,), stream=cfg.stream, vv_from=vv_from
        )

    def _logits(self, features: ImageFeatures, text: Tensor) -> Tensor:
        """Of images, (B, 2)."""
        cosines: Tensor = (text @ features.image.unsqueeze(-1)).squeeze(-1)
        return cosines / self.config.temperature
