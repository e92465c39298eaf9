"""FAPrompt: compound abnormality prompts, conditioned on the most anomalous patches of each image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from datamodules.components.sample import Batch
from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone, ImageFeatures, Tokens
from methods.components.clip.depth import in_proportion
from methods.components.losses import check_masks, focal_cross_entropy, local_terms, named_terms, orthogonality_loss
from methods.components.maps import class_maps, class_probabilities
from methods.components.prediction import Finish, Prediction
from methods.components.prompts import CompoundPrompts, DeepPrompts, Unchanged, join
from methods.components.scoring import to_grid


class Stages(NamedTuple):
    """Both passes over B images. Stage 1 knows the learnt prompts alone, stage 2 adds a prior from the image."""

    features: ImageFeatures
    text: Tensor  # (1 + K, D) stage 1, not normalised, row 0 normal
    prototypes1: Tensor  # (2, D) unit, row 0 normal
    patches1: Tensor  # (B, N, 2) probabilities
    selected: Tensor  # (B, M) long, the patches that make the prior
    prior: Tensor  # (B, W)
    conditioned: Tensor  # (B, K, D) anomalous texts of stage 2, not normalised
    prototypes2: Tensor  # (B, 2, D) unit, row 0 normal
    patches2: Tensor  # (B, N, 2) probabilities
    logits: Tensor  # (B, 2) of the image against stage 2
    score: Tensor  # (B,) in [0, 1]


class FAPromptTerms(NamedTuple):
    """Terms of the loss before their weights; 1 and 2 are the stages."""

    focal1: Tensor
    dice1_anomalous: Tensor
    dice1_normal: Tensor
    focal2: Tensor
    dice2_anomalous: Tensor
    dice2_normal: Tensor
    image_ce: Tensor
    image_focal: Tensor
    orthogonality: Tensor
    prior: Tensor


#: Weights of the terms, in their order (released code, train.py).
WEIGHTS = (1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 1.0, 1.0, 0.1, 1.0)


def select_patches(probability: Tensor, count: int, selection: str) -> Tensor:
    """Indices of the patches that make the prior.

    Args:
        probability: of the anomalous class, (B, N).
        count: patches to select.
        selection: "topk" takes the most anomalous ones in descending order, "first" the first in raster order.

    Returns:
        (B, count) long.

    Raises:
        ValueError: there are fewer patches, or no such selection.
    """
    n_images, n_patches = probability.shape
    if count > n_patches:
        raise ValueError(f"n_prior_patches must be at most the {n_patches} patches of an image; got {count}.")
    if selection == "topk":
        return probability.topk(count, dim=1).indices
    if selection == "first":
        return torch.arange(count, device=probability.device).expand(n_images, -1)
    raise ValueError(f"prior_selection must be 'topk' or 'first'; got {selection!r}.")


class FAPrompt(Method["FAPrompt.Config"]):
    """FAPrompt (Zhu et al., ICCV 2025), fitted on an auxiliary data set and blind to categories.

    Stage 1 compares the patches p of an image (V-V attention, last block) with the normal text and the mean of K
    anomalous texts. The M most anomalous patches pass through a small network to a prior; stage 2 adds it to the
    anomalous prompts' own tokens and compares again. With s1, s2 the anomalous probabilities of patches and s of the
    class token in stage 2, the map is (s1 + s2) / 2, enlarged and smoothed, and the score
    (s + (2 max s1 + max s2) / 3) / 2.

    The paper's text was not at hand: formulas are those of the released code (mala-lab/FAPrompt, commit 7e9d9d2), and
    "paper" below means its figures. Kept as released: the cosines' temperature is fixed; the prior loss is summed over
    the normal images and the orthogonality over the pairs of a batch; only the last block's patches are used, since
    the released options for more have no effect. Left out: 5.5 million parameters that nothing reads. Not in the
    code: a batch of one image is allowed.
    """

    paper = "https://arxiv.org/abs/2410.10289"
    published = ("FAPrompt",)
    protocols = ("zero_shot",)
    needs = ("text_tower", "patch_tokens")
    fits_on = "auxiliary"
    # The release trains 15 epochs and tests the checkpoint of epoch 7 (train.sh, test.sh). Its learning rate has no
    # schedule, so a fit that stops after 7 is that checkpoint, and no epoch is picked by a score.
    max_epochs = 7

    @dataclass(kw_only=True)
    class Config:
        """Settings.

        Attributes:
            batch_size: images per step.
            lr: Adam's learning rate.
            betas: Adam's decay rates.
            n_ctx_normal: E, learnt tokens that all prompts share.
            n_ctx_anomalous: E', further tokens of each anomalous prompt; 1 in the release before commit 514b972.
            n_anomalous: K, anomalous prompts.
            n_prior_patches: M, patches that make the prior.
            depth: text blocks with learnt tokens, the first included; None takes 9 of 12, rounded down.
            deep_length: tokens overwritten before each text block but the first.
            vv_from: image blocks before the V-V stream; None takes 5 of 24 (the last 19), rounded down.
            temperature: divisor of the logits of every softmax.
            sigma: deviation of the map's Gaussian, in pixels of an image of side `sigma_at`; others in proportion.
            sigma_at: side of the image, in pixels, that `sigma` is given for.
            prior_selection: "topk", the most anomalous patches, is the paper; the released code computes them, then
                takes the "first" of the raster (train.py:109, test.py:118).
            image_focal_score_as: the released focal loss reads the fused score, a number in [0, 1], as a "logit"
                (train.py:54, 148), which holds its sigmoid in [0.5, 0.73]; "probability" is the plain reading.
            class_norm: the released code leaves `ln_post` out of the class token; True is CLIP's own.
            round_deep_prompts: the released code rounds deep prompts and their gradients to float16, which moves
                text features by 1e-4; True repeats that.
        """

        batch_size: Annotated[int, ">= 1"] = 8
        lr: Annotated[float, "> 0"] = 1e-3
        betas: Annotated[tuple[float, float], ">= 0, < 1"] = (0.5, 0.999)
        n_ctx_normal: Annotated[int, ">= 1"] = 5
        n_ctx_anomalous: Annotated[int, ">= 1"] = 2
        n_anomalous: Annotated[int, ">= 1"] = 10
        n_prior_patches: Annotated[int, ">= 1"] = 10
        depth: Annotated[int | None, ">= 1"] = None
        deep_length: Annotated[int, ">= 1"] = 4
        vv_from: Annotated[int | None, ">= 0"] = None
        temperature: Annotated[float, "> 0"] = 0.07
        sigma: Annotated[float, ">= 0"] = 10.0
        sigma_at: Annotated[int, ">= 1"] = 518
        prior_selection: Literal["topk", "first"] = "topk"
        image_focal_score_as: Literal["logit", "probability"] = "logit"
        class_norm: bool = False
        round_deep_prompts: bool = False

    def __init__(self, backbone: CLIPBackbone, categories: Mapping[str, str], config: Config | None = None) -> None:
        super().__init__(backbone, categories, config)
        cfg = self.config
        vv_from, depth = cfg.vv_from, cfg.depth
        self.vv_from = in_proportion(5, 24, backbone.n_image_blocks) if vv_from is None else vv_from
        depth = in_proportion(9, 12, backbone.n_text_blocks) if depth is None else depth
        self.prompts = CompoundPrompts(backbone, cfg.n_ctx_normal, cfg.n_ctx_anomalous, cfg.n_anomalous)
        self.deep = DeepPrompts(depth, cfg.deep_length, backbone, rounded=cfg.round_deep_prompts)
        patches = cfg.n_prior_patches * backbone.embed_dim
        self.prior = nn.Sequential(
            nn.Linear(patches, patches // 16), nn.ReLU(), nn.Linear(patches // 16, backbone.text_width)
        )
        self._stage1 = Unchanged[Tensor]()

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=self.config.lr, betas=self.config.betas)

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        stages = self.examine(images)
        size = (images.shape[2], images.shape[3])
        patches = (stages.patches1[..., 1] + stages.patches2[..., 1]) / 2  # (B, N)
        finish = Finish(size, self.config.sigma * (min(size) / self.config.sigma_at))
        return Prediction(stages.score, to_grid(patches, stages.features.grid), finish)

    def loss(self, batch: Batch) -> Tensor:
        terms = self.loss_terms(batch)
        self.terms = named_terms(terms)
        return torch.stack([w * term for w, term in zip(WEIGHTS, terms, strict=True)]).sum()

    def loss_terms(self, batch: Batch) -> FAPromptTerms:
        """What `loss` adds up.

        Raises:
            ValueError: the masks have another size than the images.
        """
        size = check_masks(batch)
        stages = self.examine(batch.image)
        grid = stages.features.grid
        priors = stages.prior.square().mean(dim=1)  # (B,)
        return FAPromptTerms(
            *local_terms(class_maps(stages.patches1, grid, size), batch.mask),
            *local_terms(class_maps(stages.patches2, grid, size), batch.mask),
            F.cross_entropy(stages.logits, batch.label.long()),
            focal_cross_entropy(stages.score, batch.label, self.config.image_focal_score_as),
            orthogonality_loss(stages.text[1:]),
            torch.where(batch.label, 0, priors).sum(),
        )

    def examine(self, images: Tensor) -> Stages:
        """Run both stages over images, (B, 3, H, W) in [0, 1]."""
        cfg = self.config
        features = self.backbone.encode_image(
            images,
            layers=(self.backbone.n_image_blocks,),
            stream="vv_from_ordinary",
            vv_from=self.vv_from,
            class_norm=cfg.class_norm,
        )
        patches = features.patches[0]  # (B, N, D)
        text = self._stage1((*self.prompts.parameters(), *self.deep.parameters()), self._encode_stage1)
        normal, anomalous = text[0], text[1:].mean(dim=0)
        prototypes1 = F.normalize(torch.stack([normal, anomalous]), dim=-1)
        patches1 = class_probabilities(patches, prototypes1, cfg.temperature)

        selected = select_patches(patches1[..., 1].detach(), cfg.n_prior_patches, cfg.prior_selection)
        prior = self.prior(patches.take_along_dim(selected.unsqueeze(-1), dim=1).flatten(1))
        conditioned = self._encode(self.prompts.anomalous(prior)).unflatten(0, (len(images), -1))
        prototypes2 = F.normalize(
            torch.stack([self._repeat(normal, len(images)), conditioned.mean(dim=1)], dim=1), dim=-1
        )
        patches2 = class_probabilities(patches, prototypes2, cfg.temperature)

        logits = (prototypes2 @ features.image.unsqueeze(-1)).squeeze(-1) / cfg.temperature
        max1, max2 = patches1[..., 1].amax(dim=1), patches2[..., 1].amax(dim=1)
        score = (logits.softmax(dim=1)[:, 1] + (2 * max1 + max2) / 3) / 2
        return Stages(
            features, text, prototypes1, patches1, selected, prior, conditioned, prototypes2, patches2, logits, score
        )

    def _encode_stage1(self) -> Tensor:
        no_prior = torch.zeros_like(self.prompts.normal_ctx[:1])
        return self._encode(join(self.prompts.normal(), self.prompts.anomalous(no_prior)))

    def _repeat(self, normal: Tensor, count: int) -> Tensor:
        """The normal text's feature for each image, (B, D)."""
        if self.config.round_deep_prompts:  # each use rounds its own gradient, so one use for all would round another
            return self._encode(join(*[self.prompts.normal()] * count))
        return normal.expand(count, -1)

    def _encode(self, tokens: Tokens) -> Tensor:
        """Features of prompts, (T, D), not normalised: prototypes are made of the raw ones."""
        return self.backbone.encode_text(tokens, deep_prompts=self.deep(len(tokens.ids)), normalise=False)
