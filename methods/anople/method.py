"""AnoPLe: text and visual prompts that inform each other, fitted on simulated anomalies of the normal shots alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from datamodules.components.fit_data import FitData
from datamodules.components.sample import Batch
from methods.anople.coupled_prompts import BlockPrompts, ClassTexts, CoupledPrompts
from methods.anople.decoder import LocalReader, rows_of_views
from methods.anople.late_memory import LateMemory
from methods.anople.losses import AnoPLeTerms, anomalous_dice_loss, evidence_alignment, image_loss
from methods.anople.schedules import warm_cosine
from methods.anople.settings import Comparing, Decoding, Minimising, Optimising, Prompting, Simulating
from methods.anople.simulation import Simulation, cut
from methods.components.base import Method
from methods.components.category_choice import choose_texts
from methods.components.clip.backbone import CLIPBackbone, ImageFeatures
from methods.components.clip.depth import blocks_at, in_proportion
from methods.components.losses import check_masks, dice_loss, focal_loss, named_terms
from methods.components.memory import ShotMemory
from methods.components.prediction import Finish, Prediction
from methods.components.prompts import Unchanged, new_prompt
from methods.components.scoring import log_harmonic_mean, log_text_probability, to_map
from methods.components.synthesis.pipeline import Synthesis, add_noise
from methods.components.synthesis.views import VIEWS


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
    published = ("AnoPLe",)
    protocols = ("multi_class", "few_shot", "leave_one_class_out")
    needs = ("text_tower", "patch_tokens", "category if text=known", "category if bank=per_class")
    fits_on = "shots"
    max_epochs = 1
    train_scale = 2
    shares: ClassVar[dict[str, str]] = {"image": "anomalous"}

    @dataclass(kw_only=True)
    class Config(Comparing, Optimising, Minimising, Decoding, Simulating, Prompting):
        """Settings, in the order of the method: see `methods/anople/settings.py`."""

    def __init__(self, backbone: CLIPBackbone, categories: Mapping[str, str], config: Config | None = None) -> None:
        super().__init__(backbone, categories, config)
        cfg = self.config
        if cfg.variant == "v1" and len(categories) > 1:
            raise ValueError(f"variant 'v1' is one model for each category (few_shot); got {', '.join(categories)}.")
        self.n_views = VIEWS if cfg.multi_scale else 1
        self.scale, blocks = math.exp(backbone.logit_scale), backbone.n_image_blocks
        self.taps = blocks_at(cfg.memory_layers, blocks)
        self.latent_block = in_proportion(6, 12, blocks) if cfg.latent_block is None else cfg.latent_block
        self.prompts = CoupledPrompts(
            backbone,
            depth=cfg.depth,
            n_text=cfg.n_text,
            n_visual=cfg.n_visual,
            sides=cfg.prompts,
            coupling=cfg.coupling,
            share_projections=cfg.share_projections,
        )
        self.texts = ClassTexts(backbone, categories, self.prompts.n_text)
        n_signals = self.n_views * cfg.prefix
        self.prefix = new_prompt(n_signals, backbone.image_width) if n_signals and cfg.variant == "v2" else None
        self.reader = LocalReader(
            backbone,
            layers=cfg.decoder_layers,
            width=cfg.decoder_width,
            decode=cfg.decoder,
            mask_head=cfg.mask_head,
            n_signals=n_signals if cfg.variant == "v1" else 0,
        )
        self.memory = LateMemory(cfg.bank, len(self.taps))
        self._text_features = Unchanged[Tensor]()

    def encode(
        self,
        images: Tensor,
        prompts: BlockPrompts,
        views: Tensor | None = None,
        *,
        taps: Sequence[int] = (),
        edit: tuple[int, Callable[[Tensor], Tensor]] | None = None,
    ) -> ImageFeatures:
        """See images (B, 3, S, S) in [0, 1] with the prompts in front.

        Args:
            images: whole ones, or the `views` (B,) of which each is one.
            prompts: of this step.
            views: which view each image is; None for whole images.
            taps: blocks whose tokens are asked for; they follow those that `reader` reads.
            edit: of the patch tokens, see `CLIPBackbone.encode_image`.
        """
        return self.backbone.encode_image(
            images,
            layers=(self.backbone.n_image_blocks,),
            stream="vv_from_ordinary" if self.config.vv_attention else "ordinary",
            taps=(*self.reader.taps, *taps),
            deep_prompts=prompts.visual,
            prefix=None if self.prefix is None else rows_of_views(self.prefix, views, len(images)).unsqueeze(1),
            patch_edit=edit,
        )

    # What is shown in a fit.

    @property
    def fit_data(self) -> FitData:
        return super().fit_data._replace(repeats=self.augmentation().repeats)

    def augmentation(self) -> Simulation:
        cfg, patch = self.config, self.backbone.patch_size
        synthesis = Synthesis(kinds=cfg.pixel_kinds, exponents=cfg.exponents, textures=cfg.textures)
        return Simulation(synthesis=synthesis, mix=cfg.mix, mixing=cfg.batch, jitter=cfg.jitter, patch=patch)

    # What is minimised.

    def loss(self, batch: Batch) -> Tensor:
        terms = self.loss_terms(batch)
        self.terms |= named_terms(terms)
        return torch.stack(terms).sum()

    def loss_terms(self, batch: Batch) -> AnoPLeTerms:
        """What `loss` adds up, of images and masks (B, 2S, 2S)."""
        height, width = check_masks(batch)
        prompts, views = self.prompts(), cut(batch, self.n_views, self.backbone.patch_size)
        keys = list(self.categories if self.config.image_texts == "all" else dict.fromkeys(batch.category))
        texts = self.texts.encode(self.backbone, prompts.text, keys)  # (K, 2, D)
        own = torch.tensor([keys.index(key) for key in batch.category], device=texts.device)
        own = own.repeat_interleave(self.n_views)  # (B·V,)
        features = self.encode(views.image, prompts, views.view, edit=self._noise(views.noised))
        size = (height // 2, width // 2)
        patches, odds = self.reader(self.backbone, features, texts[own], size, views.view)
        maps = torch.stack([-odds, odds], dim=1).sigmoid()  # (B·V, 2, S, S)
        dice = dice_loss if self.config.dice_on == "all" else anomalous_dice_loss
        return AnoPLeTerms(
            dice(maps[:, 1], views.mask),
            focal_loss(maps, views.mask, self.config.focal_gamma),
            self._tell_apart(features.image, texts, own, views.label),
            self._align(features.image, patches, maps[:, 1], views.label),
        )

    def _noise(self, noised: Tensor | None) -> tuple[int, Callable[[Tensor], Tensor]] | None:
        """The edit that adds noise to the tokens of latent anomalies."""
        if noised is None:
            return None
        ratio = torch.empty(len(noised)).uniform_(*self.config.latent_ratio)
        return self.latent_block, partial(add_noise, mask=noised, ratio=ratio, generator=torch.default_generator)

    def _tell_apart(self, image: Tensor, texts: Tensor, own: Tensor, label: Tensor) -> Tensor:
        cfg = self.config
        every = 1 if cfg.image_views == "all" else self.n_views
        image, own, label = image[::every], own[::every], label[::every]
        if cfg.image_texts == "pair":  # against all texts a guess must know the category too
            self.terms["anomalous"] = label.float().mean()
        return image_loss(image, texts, own, label, self.scale, cfg.image_texts)

    def _align(self, image: Tensor, patches: Tensor, probability: Tensor, label: Tensor) -> Tensor:
        cfg = self.config
        if not cfg.alignment:
            return image.new_zeros(())
        evidence = F.avg_pool2d(probability, self.backbone.patch_size).flatten(1)  # (B·V, N)
        counted = label if cfg.align_on == "abnormal" else torch.ones_like(label)
        return evidence_alignment(image, patches, evidence, counted, cfg.align_detach)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        cfg, decoder = self.config, self.reader.weights()
        others = [p for p in self.parameters() if all(p is not known for known in decoder)]
        groups = [{"params": others, "lr": cfg.lr}, {"params": decoder, "lr": cfg.lr_decoder}]
        optimizer = AdamW(groups, weight_decay=cfg.weight_decay)
        schedule = warm_cosine(optimizer, cfg.steps, min(cfg.warm_up, cfg.steps // 12), cfg.lr_last)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, *args: Any, **settings: Any) -> None:
        clip_grad_norm_(self.parameters(), self.config.clip)

    # What is compared in a test.

    def adapt(self, shots: Tensor, category: str) -> None:
        self.memory.keep(category, shots)

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        cfg, prompts = self.config, self.prompts()
        size = (cfg.map_size, cfg.map_size)
        features = self.encode(images, prompts, taps=self.taps)
        seen, memory = self._remember(images, features, prompts)
        text = self._choose_texts(features, seen, memory, categories, prompts)  # (B, 2, D)
        textual = F.logsigmoid(self.reader(self.backbone, features, text, size).odds)  # (B, h, w)
        visual = to_map(self.memory.distances(memory, seen, categories), features.grid, size)
        fused = log_harmonic_mean(textual, visual.log()).exp()
        probability = log_text_probability(features.image.unsqueeze(1), text, 1 / self.scale).squeeze(1)  # (B,)
        score = image_score(cfg.image_score, probability, visual, fused)
        return Prediction(score, fused, Finish(sigma=cfg.sigma))

    def read_texts(self, prompts: BlockPrompts) -> Tensor:
        """Unit features of both texts of all K categories, (K, 2, D); kept while nothing is learnt."""
        categories, parameters = tuple(self.categories), self.prompts.parameters()
        return self._text_features(parameters, lambda: self.texts.encode(self.backbone, prompts.text, categories))

    def _choose_texts(
        self,
        features: ImageFeatures,
        seen: ImageFeatures,
        memory: ShotMemory,
        categories: Sequence[str],
        prompts: BlockPrompts,
    ) -> Tensor:
        """Both texts that judge each image, (B, 2, D)."""
        texts = self.read_texts(prompts)
        rows = choose_texts(
            self.config.text,
            categories,
            features.image,
            texts,
            tuple(self.categories),
            lambda _, keys: memory.nearest_category(seen.image, keys),
        )
        return texts[rows]

    def _remember(
        self, images: Tensor, features: ImageFeatures, prompts: BlockPrompts
    ) -> tuple[ImageFeatures, ShotMemory]:
        """The images as they are compared with the shots, and the shots seen alike."""
        look, learnt = partial(self.encode, prompts=prompts, taps=self.taps), [*self.prompts.parameters()]
        if self.config.memory_features == "plain":
            look, learnt = partial(self.backbone.encode_image, taps=self.taps), []
            features = look(images)
        elif self.prefix is not None:
            learnt.append(self.prefix)
        return features, self.memory.filled(look, learnt, images.device)


def image_score(kind: str, log_probability: Tensor, distances: Tensor, fused: Tensor) -> Tensor:
    """The score (B,) of `Comparing.image_score`, of log p (B,), m (B, h, w) and A (B, h, w)."""
    if kind == "map_top":
        pixels = fused.flatten(1)
        return pixels.topk(max(1, pixels.shape[1] // 100), dim=1).values.mean(dim=1)
    highest = (distances if kind == "text_memory" else fused).amax(dim=(1, 2))
    return highest if kind == "map" else log_harmonic_mean(log_probability, highest.log()).exp()
