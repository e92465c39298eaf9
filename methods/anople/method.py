"""AnoPLe: text and visual prompts that inform each other, fitted on simulated anomalies of the normal shots alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from datamodules.components.fit_data import FitData
from datamodules.components.sample import Batch
from methods.anople.coupled_prompts import BlockPrompts
from methods.anople.late_memory import LateMemory
from methods.anople.losses import AnoPLeTerms, anomalous_dice_loss, evidence_alignment, image_loss
from methods.anople.network import AnoPLeNetwork
from methods.anople.schedules import warm_cosine
from methods.anople.simulation import Mixing, Simulation, cut
from methods.components.base import Method, Prediction
from methods.components.clip.backbone import CLIPBackbone, ImageFeatures
from methods.components.clip.depth import blocks_at, in_proportion
from methods.components.losses import check_masks, dice_loss, focal_loss, named_terms
from methods.components.maps import gaussian_smooth
from methods.components.memory import Bank
from methods.components.scoring import log_harmonic_mean, log_text_probability, to_map
from methods.components.synthesis.pipeline import Synthesis, add_noise
from methods.components.synthesis.views import VIEWS


def image_score(kind: str, log_probability: Tensor, distances: Tensor, fused: Tensor) -> Tensor:
    """The score (B,) of `AnoPLe.Config.image_score`, of log p (B,), m (B, h, w) and A (B, h, w)."""
    if kind == "map_top":
        pixels = fused.flatten(1)
        return pixels.topk(max(1, pixels.shape[1] // 100), dim=1).values.mean(dim=1)
    highest = (distances if kind == "text_memory" else fused).amax(dim=(1, 2))
    return highest if kind == "map" else log_harmonic_mean(log_probability, highest.log()).exp()


class AnoPLe(Method["AnoPLe.Config"]):
    """AnoPLe (Lee et al., CVPR 2026; "v1" is its preprint of 2024), fitted on simulated anomalies of k normal shots.

    At every prompted block each tower sees its own prompts and a projection of the other's. An image is seen whole
    and in four tiles, each with a learnt signal: a prefix token of the image tower in "v2", which is one model for all
    categories; in "v1", one for each, added to what the decoder reads. Only the whole image is seen in a test. A light
    decoder makes patch features, whose comparison with both texts is the map M; the map of the test is the harmonic
    mean of M and the distance to the shots' patches. The loss is Dice and focal of M, cross-entropy of the image, and
    one minus the cosine of the image's feature and its patches weighted by M.

    Neither the paper's text nor code was at hand. Stated by the authors: frozen CLIP; coupling in both directions;
    the kinds of simulated anomalies; decoder, views, signals, alignment; neither words for defects nor other networks.
    From a third party's summary: the formula of the coupling, "abnormal" before the name, five views, the test with
    the whole image alone, the loss and its equal weights, harmonic mean. All else is a setting, [i]nferred from related
    work or [u]nknown, and numbers may differ from the paper's. Two choices have no setting: signals and visual prompts
    get no positions, and of the pixels' loss each view counts as an image.
    """

    paper = "https://arxiv.org/abs/2408.13516"
    protocols = ("multi_class", "few_shot", "leave_one_class_out")
    needs = ("text_tower", "patch_tokens", "category")
    fits_on = "shots"
    max_epochs = 1
    train_scale = 2
    shares: ClassVar[dict[str, str]] = {"image": "anomalous"}

    @dataclass(kw_only=True)
    class Config:
        """Settings.

        Attributes:
            variant: edition of the method; only the place of the signal differs, and "v1" refuses several categories.
            prompts: towers with learnt prompts; of "text" or "visual" alone nothing is coupled.
            coupling: which tower sees a projection of the other's prompts.
            multi_scale: False fits on the whole image alone.
            prefix: False leaves the views' signals out.
            alignment: False leaves its loss out.
            decoder: False compares CLIP's own patch features.
            steps: [u] batches of the fit.
            batch_size: [u] shots of a batch, resampled evenly over categories; "pairs" makes two images of each, and
                `multi_scale` five views of an image.
            batch: [i] "pairs" shows each shot as it is and with an anomaly, whose kinds take turns; "kinds" shows it
                once, as each kind of the mix in turn.
            bank: [i] which shots a test image is compared with, see `ShotMemory`.
            depth: [u] J, prompted blocks of each tower; None takes 9 of 12 of the shallower one.
            n_text, n_visual: [u] own prompts of a block, of the text and of the image tower.
            share_projections: [i] one projection for all blocks.
            vv_attention: [u] V-V attention from the first block on makes the patch features that are corrected.
            mix: [u] kinds that take turns: "normal", "pixel", "latent".
            pixel_kinds: [i] kinds of simulated anomalies of the pixels.
            exponents: [i] smallest and largest power of two of the cells of the Perlin noise.
            textures: [i] folder of images that textures are cut from; None takes the shots themselves.
            jitter: [u] largest change of brightness, contrast and saturation of a resampled shot.
            latent_block: [i] block before which tokens are noised, from 0; None takes 6 of 12.
            latent_ratio: [i] range of the noise's length, in lengths of the token.
            decoder_width: [u] of decoder and "conv" head, a multiple of 8; None takes 256 of a tower 896 wide.
            decoder_layers: [u] blocks whose tokens it reads, as fractions of the depth.
            mask_head: [i] "text" compares with the texts, "conv" does not.
            dice_on: [i] views whose map is compared by Dice, the "anomalous" or "all"; code that related work shares
                takes all, whose empty masks have no gradient until the map is nearly zero, and then a huge one.
            focal_gamma: [i] exponent of the focal loss.
            image_texts: [i] the image's cross-entropy against the "pair" of its category or "all" texts.
            image_views: [u] views with that loss, "all" or the "whole" image.
            align_on: [i] views that are aligned, "abnormal" or "all".
            align_detach: [i] side of the alignment that gets no gradient: "none", "patches" or "image".
            memory_layers: [i] blocks compared with the shots, as fractions of the depth; 3 and 8 of 12.
            memory_features: [i] of the "prompted" tower, or in a second pass "plain" CLIP's.
            image_score: [u] of p, the image's anomalous probability, m the distances and A the map before it is
                smoothed: "text_map" is the harmonic mean of p and max A, "text_memory" of p and max m, "map" is max A,
                "map_top" the mean of the highest 1 % of A.
            map_size: [u] side of the map, in pixels, at which it is smoothed.
            sigma: [i] deviation of the map's Gaussian, in pixels of the map.
            lr: [u] learning rate of AdamW for prompts and signals.
            lr_decoder: [u] learning rate for decoder and head.
            lr_last: [u] learning rate where both cosines end.
            weight_decay: [u] weight decay of AdamW.
            warm_up: [u] steps in which the rates rise; of a shorter fit a twelfth.
            clip: [u] largest norm of the gradient.
        """

        variant: Literal["v2", "v1"] = "v2"
        prompts: Literal["both", "text", "visual"] = "both"
        coupling: Literal["both", "none", "text_to_image", "image_to_text"] = "both"
        multi_scale: bool = True
        prefix: bool = True
        alignment: bool = True
        decoder: bool = True
        steps: Annotated[int, ">= 1"] = 600
        batch_size: Annotated[int, ">= 1"] = 8
        batch: Mixing = "pairs"
        bank: Bank = "per_class"
        depth: Annotated[int | None, ">= 1"] = None
        n_text: Annotated[int, ">= 1"] = 4
        n_visual: Annotated[int, ">= 1"] = 4
        share_projections: bool = False
        vv_attention: bool = False
        mix: tuple[Literal["normal", "pixel", "latent"], ...] = ("normal", "pixel", "latent")
        pixel_kinds: tuple[Literal["perlin", "cutpaste", "scar"], ...] = ("perlin",)
        exponents: Annotated[tuple[int, int], ">= 0"] = (0, 5)
        textures: str | None = None
        jitter: Annotated[float, ">= 0, < 1"] = 0.1
        latent_block: Annotated[int | None, ">= 0"] = None
        latent_ratio: Annotated[tuple[float, float], ">= 0"] = (0.25, 1.0)
        decoder_width: Annotated[int | None, ">= 8"] = None
        decoder_layers: Annotated[tuple[float, ...], "> 0, <= 1"] = (1.0,)
        mask_head: Literal["text", "conv"] = "text"
        dice_on: Literal["anomalous", "all"] = "anomalous"
        focal_gamma: Annotated[float, ">= 0"] = 2.0
        image_texts: Literal["pair", "all"] = "pair"
        image_views: Literal["all", "whole"] = "all"
        align_on: Literal["abnormal", "all"] = "abnormal"
        align_detach: Literal["none", "patches", "image"] = "none"
        memory_layers: Annotated[tuple[float, ...], "> 0, <= 1"] = (0.25, 0.6667)
        memory_features: Literal["prompted", "plain"] = "prompted"
        image_score: Literal["text_map", "text_memory", "map", "map_top"] = "text_map"
        map_size: Annotated[int, ">= 1"] = 256
        sigma: Annotated[float, ">= 0"] = 4.0
        lr: Annotated[float, "> 0"] = 5e-4
        lr_decoder: Annotated[float, "> 0"] = 1e-3
        lr_last: Annotated[float, ">= 0"] = 1e-5
        weight_decay: Annotated[float, ">= 0"] = 1e-4
        warm_up: Annotated[int, ">= 0"] = 50
        clip: Annotated[float, "> 0"] = 1.0

    def __init__(self, backbone: CLIPBackbone, categories: Mapping[str, str], config: Config | None = None) -> None:
        super().__init__(backbone, categories, config)
        cfg = self.config
        if cfg.variant == "v1" and len(categories) > 1:
            raise ValueError(f"variant 'v1' is one model for each category (few_shot); got {', '.join(categories)}.")
        self.n_views = VIEWS if cfg.multi_scale else 1
        self.network = AnoPLeNetwork(backbone, categories, cfg, self.n_views)
        self.scale = math.exp(backbone.logit_scale)
        self.taps = blocks_at(cfg.memory_layers, backbone.n_image_blocks)
        middle = in_proportion(6, 12, backbone.n_image_blocks)
        self.latent_block = middle if cfg.latent_block is None else cfg.latent_block
        self.memory = LateMemory(cfg.bank, len(self.taps))

    @property
    def fit_data(self) -> FitData:
        return super().fit_data._replace(repeats=self.augmentation().repeats)

    def augmentation(self) -> Simulation:
        cfg, patch = self.config, self.backbone.patch_size
        synthesis = Synthesis(kinds=cfg.pixel_kinds, exponents=cfg.exponents, textures=cfg.textures)
        return Simulation(synthesis=synthesis, mix=cfg.mix, mixing=cfg.batch, jitter=cfg.jitter, patch=patch)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        cfg, reader = self.config, self.network.reader
        decoder = [p for part in (reader.decoder, reader.head) if part is not None for p in part.parameters()]
        others = [p for p in self.parameters() if all(p is not known for known in decoder)]
        groups = [{"params": others, "lr": cfg.lr}, {"params": decoder, "lr": cfg.lr_decoder}]
        optimizer = AdamW(groups, weight_decay=cfg.weight_decay)
        schedule = warm_cosine(optimizer, cfg.steps, min(cfg.warm_up, cfg.steps // 12), cfg.lr_last)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, *args: Any, **settings: Any) -> None:
        clip_grad_norm_(self.parameters(), self.config.clip)

    def adapt(self, shots: Tensor, category: str) -> None:
        self.memory.keep(category, shots)

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        cfg, network, prompts = self.config, self.network, self.network.prompts()
        size = (cfg.map_size, cfg.map_size)
        features = network.encode(self.backbone, images, prompts, taps=self.taps)
        text = network.read_texts(self.backbone, prompts, categories)  # (B, 2, D)
        textual = network.read_maps(self.backbone, features, text, size).logits.log_softmax(dim=1)[:, 1]
        distances = self._compare(images, features, categories, prompts)  # (B, N)
        visual = to_map(distances, features.grid, size)
        fused = log_harmonic_mean(textual, visual.log()).exp()  # (B, h, w)
        probability = log_text_probability(features.image.unsqueeze(1), text, 1 / self.scale).squeeze(1)  # (B,)
        score = image_score(cfg.image_score, probability, visual, fused)
        return Prediction(score, gaussian_smooth(fused, cfg.sigma))

    def _compare(
        self, images: Tensor, features: ImageFeatures, categories: Sequence[str], prompts: BlockPrompts
    ) -> Tensor:
        if self.config.memory_features == "plain":
            plain = partial(self.backbone.encode_image, taps=self.taps)
            return self.memory.distances(plain(images), categories, plain, ())
        network = self.network
        look = partial(network.encode, self.backbone, prompts=prompts, taps=self.taps)
        prefix = () if network.prefix is None else (network.prefix,)
        return self.memory.distances(features, categories, look, (*network.prompts.parameters(), *prefix))

    def loss(self, batch: Batch) -> Tensor:
        terms = self.loss_terms(batch)
        self.terms |= named_terms(terms)
        return torch.stack(terms).sum()

    def loss_terms(self, batch: Batch) -> AnoPLeTerms:
        """What `loss` adds up, of images and masks (B, 2S, 2S)."""
        cfg, network, patch = self.config, self.network, self.backbone.patch_size
        height, width = check_masks(batch)
        views, prompts = cut(batch, self.n_views, patch), network.prompts()
        keys = list(self.categories if cfg.image_texts == "all" else dict.fromkeys(batch.category))
        texts = network.texts.encode(self.backbone, prompts.text, keys)  # (K, 2, D)
        own = torch.tensor([keys.index(key) for key in batch.category], device=texts.device)
        own = own.repeat_interleave(self.n_views)  # (B·V,)
        edit = self._noise(views.noised)
        features = network.encode(self.backbone, views.image, prompts, views.view, edit=edit)
        size = (height // 2, width // 2)
        patches, logits = network.read_maps(self.backbone, features, texts[own], size, views.view)
        maps = logits.softmax(dim=1)
        every = 1 if cfg.image_views == "all" else self.n_views
        if cfg.image_texts == "pair":
            self.terms["anomalous"] = views.label[::every].float().mean()
        return AnoPLeTerms(
            (dice_loss if cfg.dice_on == "all" else anomalous_dice_loss)(maps[:, 1], views.mask),
            focal_loss(maps, views.mask, cfg.focal_gamma),
            image_loss(features.image[::every], texts, own[::every], views.label[::every], self.scale, cfg.image_texts),
            self._align(features.image, patches, F.avg_pool2d(maps[:, 1], patch).flatten(1), views.label),
        )

    def _align(self, image: Tensor, patches: Tensor, evidence: Tensor, label: Tensor) -> Tensor:
        cfg = self.config
        if not cfg.alignment:
            return image.new_zeros(())
        counted = label if cfg.align_on == "abnormal" else torch.ones_like(label)
        return evidence_alignment(image, patches, evidence, counted, cfg.align_detach)

    def _noise(self, noised: Tensor | None) -> tuple[int, Callable[[Tensor], Tensor]] | None:
        """The edit that adds noise to the tokens of latent anomalies."""
        if noised is None:
            return None
        ratio = torch.empty(len(noised)).uniform_(*self.config.latent_ratio)
        return self.latent_block, partial(add_noise, mask=noised, ratio=ratio, generator=torch.default_generator)
