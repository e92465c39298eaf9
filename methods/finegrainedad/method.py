"""FineGrainedAD: a caption's views as prompts of their own, weighted by region; each patch takes its nearest prompt."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from datamodules.components.sample import Batch
from methods.components.base import Method
from methods.components.category_choice import TextChoice, choose_texts
from methods.components.clip.backbone import CLIPBackbone, ImageFeatures
from methods.components.clip.depth import blocks_at
from methods.components.losses import named_terms
from methods.components.memory import Bank, ShotMemory
from methods.components.prediction import Finish, Prediction
from methods.components.scoring import fuse, to_grid, to_map
from methods.components.semantic_concatenation import Slots
from methods.components.states import StateLists, anomalous_states, remarks_on_lists
from methods.finegrainedad.choices import CHOICES
from methods.finegrainedad.losses import LevelTerms, Shots, add_up, level_terms
from methods.finegrainedad.prompts import MultiLevelPrompts
from methods.finegrainedad.region_aggregation import (
    TILES,
    cut_tiles,
    find_regions,
    join_tiles,
    resize_images,
    weigh_regions,
)
from methods.finegrainedad.token_wise import UntrainedKeys, log_token_wise_probability
from methods.finegrainedad.words import LevelWords, find_words, without_captions


class FineGrainedAD(Method["FineGrainedAD.Config"]):
    """FineGrainedAD (Pattern Recognition 178, 2026), fitted on the k shots of a category, which are all normal.

    PromptAD on the views of a caption of one normal image. Prompts (MLLP): image, each component and background have a
    normal text and anomalous ones, by replacement of names, locations and attributes, and by learnt suffixes
    (concatenation). Alignment (MLSA): tokens of a shot are clustered by what the initial texts say of them; patches in
    the region of a component's or the background's prompt are multiplied by 1 + `region_weight` in its losses. Each
    level has PromptAD's loss, the background without alignment, and a regularisation binds the learnt image text to its
    parts. Inference: each patch, and the image, is judged by the level whose normal prototype is nearest to it (the
    prompt-guided branch), and joined harmonically with its distance from the shots (vision-guided).

    One model gives map and score, as the released test has it; `score_head` adds PromptAD's second one, trained beside
    it, for 100 epochs rather than the released 50. The tower is frozen and never prompted, so shots are encoded once,
    in `adapt`, and `loss` takes a batch's categories, all shots of each, and none of its images. `adapt` wants shots of
    four times the side, for the 4 x 4 tiles that are clustered, and enlarges smaller ones; memory and losses see them
    reduced bicubically with antialiasing, as images are read. In multi_class all categories share what is learnt. A
    category without a caption has PromptAD's prompts alone, and the record says so.

    The paper's text was not at hand: formulas are those of the released code (RetoFan233/FineGrainedAD, commit
    aa6b041), descriptions those of its project page. Left out: choices by the test set (epoch, fusion), its map made
    by hand for one category, its captions (ours are other words) and bfloat16.
    """

    paper = "https://arxiv.org/abs/2510.26464"
    published = ("FineGrainedAD",)
    protocols = ("few_shot", "multi_class", "leave_one_class_out")
    needs = (
        "text_tower",
        "patch_tokens",
        "category if text=known",
        "category if bank=per_class",
        "defect_words if states=specific",
        "optional_defect_words if states=auto",
    )
    fits_on = "shots"
    max_epochs = 100
    remembers_shots = True

    @dataclass(kw_only=True)
    class Config:
        """Settings; PromptAD explains at length those that it has too.

        Attributes:
            compat: "described" mends what in the "released" code does not do what is described; `Choices` lists it.
            inference: "image" judges every patch by the image's level alone, as PromptAD does.
            region_weight: added weight of a region's patches, 1.5 in the code, 0.3 beside it; 0 leaves all alike.
            reg_weight: weight of the regularisation; 0 leaves it out.
            captions: name of a set in configs/captions or path of a caption file, looked at before the shipped sets;
                None takes that of the data set tested.
            bank: shots that an image is compared with.
            text: whose levels judge an image, as in PromptAD; "argmax" asks the image level of the head that scores.
            score_head: "seg" scores images with the patches' prompts (released test); "cls" with prompts of their own,
                fitted to the class token without region weights and regularisation (released training script).
            separate_contexts: contexts and suffixes for each level. The page's 60K learnt numbers do not fit the code,
                which shares one set: 5,128.
            region_split: foreground from background by "density" peaks, or by distance to the two tokens most and
                least like the background ("language", a disabled path of the code).
            states: "specific" prompts with the words for defects of each category, and without a caption with the
                generic ones too; "generic" with these alone; "auto" with these alone where a category has no words.
            states_file: JSON with own words, as PromptAD reads it; None takes ours.
            batch_size: images per step, so one step per epoch.
            lr: learning rate of SGD in the first epoch.
            lr_last: learning rate where the cosine would end after the last epoch.
            momentum: momentum of SGD.
            weight_decay: weight decay of SGD.
            n_ctx: learnt tokens of a normal context.
            n_ctx_anomalous: tokens of a learnt anomalous suffix.
            n_anomalous: Q, learnt suffixes of a head.
            suffix_at: where a learnt suffix stands in each text: "before_caption" as the released code puts it, between
                context and text, or "after_caption", behind the text; without a caption the text is the name.
            n_prompts_seg: P, normal contexts; the released code knows 1 only.
            n_prompts_cls: P of the second head.
            margin: margin of the explicit anomaly margin.
            align_weight: weight of the alignment's loss, the paper's lambda.
            memory_layers: blocks compared with the shots, as fractions of the tower's depth; 3 and 8 of 12.
            map_size: side of the map, in pixels, at which it is smoothed.
            sigma: deviation of the map's Gaussian, in pixels of the map.
            logit_scale_as: "stored" as in the released code, "exponential" as in CLIP.
        """

        compat: Literal["described", "released"] = "described"
        inference: Literal["token_wise", "image"] = "token_wise"
        region_weight: Annotated[float, ">= 0"] = 1.5
        reg_weight: Annotated[float, ">= 0"] = 1.0
        captions: str | None = None
        bank: Bank = "per_class"
        text: TextChoice = "known"
        score_head: Literal["seg", "cls"] = "seg"
        separate_contexts: bool = False
        region_split: Literal["density", "language"] = "density"
        states: StateLists = "auto"
        states_file: str | None = None
        batch_size: Annotated[int, ">= 1"] = 100
        lr: Annotated[float, "> 0"] = 2e-3
        lr_last: Annotated[float, ">= 0"] = 1e-5
        momentum: Annotated[float, ">= 0, < 1"] = 0.9
        weight_decay: Annotated[float, ">= 0"] = 5e-4
        n_ctx: Annotated[int, ">= 1"] = 4
        n_ctx_anomalous: Annotated[int, ">= 1"] = 1
        n_anomalous: Annotated[int, ">= 1"] = 4
        suffix_at: Literal["before_caption", "after_caption"] = "before_caption"
        n_prompts_seg: Annotated[int, ">= 1"] = 1
        n_prompts_cls: Annotated[int, ">= 1"] = 3
        margin: Annotated[float, ">= 0"] = 1.0
        align_weight: Annotated[float, ">= 0"] = 1e-3
        memory_layers: Annotated[tuple[float, ...], "> 0, <= 1"] = (0.25, 0.6667)
        map_size: Annotated[int, ">= 1"] = 400
        sigma: Annotated[float, ">= 0"] = 4.0
        logit_scale_as: Literal["stored", "exponential"] = "stored"

    def __init__(self, backbone: CLIPBackbone, categories: Mapping[str, str], config: Config | None = None) -> None:
        super().__init__(backbone, categories, config)
        cfg = self.config
        if min(cfg.region_weight, cfg.reg_weight) < 0:
            raise ValueError(
                f"region_weight and reg_weight must be 0 or more; got {cfg.region_weight}, {cfg.reg_weight}."
            )
        self.choices = CHOICES[cfg.compat]
        stored = backbone.logit_scale
        self.scale = stored if cfg.logit_scale_as == "stored" else math.exp(stored)
        self.taps = blocks_at(cfg.memory_layers, backbone.n_image_blocks)
        states = {category: anomalous_states(category, cfg.states, cfg.states_file) for category in categories}
        none = self.choices.none_background
        words = find_words(backbone, self.categories, states, cfg.captions, self._slots, none_background=none)
        self.remarks += [*without_captions(words), *remarks_on_lists(self.categories, cfg.states, cfg.states_file)]
        self._initialise_prompts(words)
        self.keys = UntrainedKeys(backbone.embed_dim) if self.choices.untrained_keys else None
        self.memory = ShotMemory(cfg.bank)
        self.shots: dict[str, Shots] = {}

    @property
    def _slots(self) -> Slots:
        cfg = self.config
        after = cfg.suffix_at == "after_caption"
        return Slots(cfg.n_prompts_seg, cfg.n_ctx, cfg.n_anomalous, cfg.n_ctx_anomalous, after_name=after)

    def _initialise_prompts(self, words: Mapping[str, LevelWords]) -> None:
        separate, slots, heads = self.config.separate_contexts, self._slots, self.config.score_head
        self.words = words  # some were sampled, so a checkpoint holds all
        self.seg = MultiLevelPrompts(self.backbone, words, slots, separate=separate)
        slots = slots._replace(n_prompts=self.config.n_prompts_cls)
        self.cls = MultiLevelPrompts(self.backbone, words, slots, separate=separate) if heads == "cls" else None

    @property
    def shot_scale(self) -> int:
        """Shots are cut in tiles if regions are weighed."""
        return TILES if self.config.region_weight else 1

    def configure_optimizers(self) -> OptimizerLRScheduler:
        cfg = self.config
        learnt = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = SGD(learnt, lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay)
        return [optimizer], [CosineAnnealingLR(optimizer, T_max=self.max_epochs, eta_min=cfg.lr_last)]

    @torch.no_grad()
    def adapt(self, shots: Tensor, category: str) -> None:
        features = self._encode_image(resize_images(shots, self.backbone.image_size))
        self.memory.remember(category, F.normalize(features.taps, dim=-1), features.image)
        weights = self._weigh_patches(shots, category, features.grid)
        self.shots[category] = Shots(features.image, features.patches[0], weights)

    def _weigh_patches(self, shots: Tensor, category: str, grid: tuple[int, int]) -> Tensor:
        """Weights of the shots' patches for each component and the background, (J, k, N)."""
        text, weight = self.seg.encode(self.backbone, category), self.config.region_weight
        if not text.components or not weight:
            return torch.ones(len(text.regions), len(shots), math.prod(grid), device=shots.device)
        enlarged = resize_images(shots, TILES * self.backbone.image_size)
        tiles = [self._encode_image(cut_tiles(shot)).patches[0] for shot in enlarged.split(1)]  # k of (16, N, D)
        regions = find_regions(
            join_tiles(torch.cat(tiles), grid),
            torch.stack([component.prototypes[0] for component in text.components]),
            None if text.background is None else text.background.prototypes[0],
            self.choices.rules._replace(split=self.config.region_split),
        )
        return weigh_regions(regions, weight, grid, scrambled=self.choices.scrambled_weights)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["words"] = json.dumps(self.words)
        checkpoint["weighted_shots"] = {category: tuple(shots) for category, shots in self.shots.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        said = json.loads(checkpoint["words"])
        self._initialise_prompts({category: LevelWords.of(*lists) for category, lists in said.items()})
        self.shots = {category: Shots(*shots) for category, shots in checkpoint["weighted_shots"].items()}

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        features = self._encode_image(images.flip(1) if self.choices.bgr else images)
        taps = F.normalize(features.taps, dim=-1)  # (L, B, N, width)
        distances = self.memory.distances(taps, categories, features.image)  # L of (B, N), in [0, 2]
        visual = torch.stack(distances).mean(dim=0) / 2  # (B, N)
        rows, scorer = self._choose_texts(features.image, categories), self.cls or self.seg
        textual = self._compare(self.seg, features.patches[0], rows)  # (B, N)
        score = self._compare(scorer, features.image.unsqueeze(1), rows).squeeze(1)  # (B,)
        size = (self.config.map_size, self.config.map_size)
        fused = to_grid(fuse(textual, visual.log()), features.grid)
        farthest = to_map(visual, features.grid, size).amax(dim=(1, 2))  # (B,)
        return Prediction(fuse(score, farthest.log()), fused, Finish(size, self.config.sigma))

    def _choose_texts(self, images: Tensor, categories: Sequence[str]) -> Tensor:
        """Rows of the categories whose levels judge images (B, D), (B,)."""
        known, nearest = tuple(self.categories), self.memory.nearest_category
        texts = (self.cls or self.seg).prototypes(self.backbone, known)[:, 0]  # (K, 2, D), of the image's level
        return choose_texts(self.config.text, categories, images, texts, known, nearest)

    def _compare(self, head: MultiLevelPrompts, features: Tensor, rows: Tensor) -> Tensor:
        """Log of the anomalous probability of features (B, N, D) by the levels of categories `rows` (B,): (B, N)."""
        pairs = head.prototypes(self.backbone, tuple(self.categories))[rows]  # (B, J, 2, D)
        pairs = pairs if self.config.inference == "token_wise" else pairs[:, :1]
        return log_token_wise_probability(features, pairs, self.keys(pairs) if self.keys else None, self.scale)

    def loss(self, batch: Batch) -> Tensor:
        cfg, parts = self.config, []
        for category in dict.fromkeys(batch.category):
            share = batch.category.count(category) / len(batch.category)
            heads = self.loss_terms(category).items()
            weights = {"seg": cfg.reg_weight, "cls": 0.0}
            parts.append({head: share * add_up(terms, cfg.align_weight, weights[head]) for head, terms in heads})
        losses = {head: torch.stack([part[head] for part in parts]).sum() for head in parts[0]}
        self.terms = named_terms(losses)
        return torch.stack([*losses.values()]).sum()

    def loss_terms(self, category: str) -> dict[str, LevelTerms]:
        """What `loss` adds up for one category, by head.

        Raises:
            ValueError: no shots of it were seen.
        """
        if category not in self.shots:
            seen = ", ".join(self.shots) or "none"
            raise ValueError(f"No normal shots of {category!r} were seen; `adapt` has seen: {seen}.")
        image, patches, weights = (each.to(self.device) for each in self.shots[category])
        text, margin = self.seg.encode(self.backbone, category), self.config.margin
        terms = {"seg": level_terms(patches, weights, text, self.scale, margin, self.choices.margin_dim)}
        if self.cls:
            text, alike = self.cls.encode(self.backbone, category), torch.ones_like(weights[:, :, :1])
            terms["cls"] = level_terms(image.unsqueeze(1), alike, text, self.scale, margin)
        return terms

    def _encode_image(self, images: Tensor) -> ImageFeatures:
        """The same request for shots, their tiles and test images, so that a feature store answers all."""
        return self.backbone.encode_image(
            images,
            layers=(self.backbone.n_image_blocks,),
            stream="vv_from_ordinary",
            taps=self.taps,
            tap_point=self.choices.tap_point,
        )
