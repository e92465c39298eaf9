"""PromptAD: normal prompts learnt from the shots alone, pushed away from the same prompts with anomalous words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

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
from methods.components.one_class_losses import OneClassTerms, one_class_terms
from methods.components.prediction import Finish, Prediction
from methods.components.scoring import fuse, log_text_probability, to_grid, to_map
from methods.components.semantic_concatenation import ConcatenatedPrompts, Slots
from methods.components.states import StateLists, anomalous_states, remarks_on_lists


class HeadTerms(NamedTuple):
    """Terms of both heads."""

    cls: OneClassTerms
    seg: OneClassTerms


class PromptAD(Method["PromptAD.Config"]):
    """PromptAD (Li et al., CVPR 2024), fitted on the k shots of a category, which are all normal.

    Two heads with prompts of their own, which the paper trains as two models: "cls" sees the class token and gives the
    score, "seg" sees the patches (V-V attention from the first block on) and gives the map. A head's normal and
    anomalous prototypes are the means of its normal texts and of those that semantic concatenation makes of them. With
    t the anomalous probability of a feature and m half the cosine distance of a patch to the nearest one of the shots,
    mean over two blocks of the ordinary stream, the map is 1 / (1/t + 1/m), enlarged and smoothed, and the score is
    1 / (1/t + 1/max m), where m is enlarged first.

    The loss of a head is the cross-entropy of the normal prototype against all anomalous texts, plus the explicit
    anomaly margin, plus `align_weight` times the squared distance between manual and learnt anomalous texts. In
    multi_class all categories share the contexts and suffixes, and each compares with its own texts and memory; so
    does, in leave_one_class_out, the category whose shots they were not learnt on.

    The paper's text was not at hand: formulas are those of the released code (FuNz-0/PromptAD, commit 0f86ce0), whose
    departures from the paper, or slips, are options. Left out: its choice of the epoch by the test AUROC, the last one
    counts here; float16 throughout; its first resizing of images to 1024 pixels. Its lists of shots are a setting of
    the data set, `shot_list`.
    """

    paper = "https://arxiv.org/abs/2404.05231"
    published = ("PromptAD",)
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

    @dataclass(kw_only=True)
    class Config:
        """Settings.

        Attributes:
            batch_size: images per step, so one step per epoch; the shots are not augmented.
            lr: learning rate of SGD in the first epoch.
            lr_last: learning rate where the cosine would end after the last epoch.
            momentum: momentum of SGD.
            weight_decay: weight decay of SGD.
            n_ctx: learnt tokens of a normal context.
            n_ctx_anomalous: tokens of a learnt anomalous suffix.
            n_anomalous: Q, learnt suffixes of a head.
            n_prompts_cls: P, normal contexts of the image's head.
            n_prompts_seg: P of the patches' head.
            margin: margin of the explicit anomaly margin, for squared distances of unit vectors.
            align_weight: weight of the alignment's loss, the paper's lambda.
            memory_layers: blocks compared with the shots, as fractions of the tower's depth; 3 and 8 of 12.
            map_size: side of the map, in pixels, at which it is smoothed.
            sigma: deviation of the map's Gaussian, in pixels of the map.
            states: "specific" adds words for the defects of each category to eight generic states, "generic" leaves
                them out, "auto" adds them where a category has some, and the record names those that have none. How
                many a category has is the paper's manner; the words are ours, the released words differ, and so
                numbers may.
            states_file: JSON with your own words, {"CATEGORY": ["with rust", ...]}; None takes ours.
                A record knows a file by this path alone, so give other words another name.
            suffix_at: where a learnt suffix stands: "after_name" is the paper; the released code puts it
                "before_name" (model.py:63).
            pairs: learnt texts take "all" P·Q pairs of context and suffix; the released code takes both "modulo" their
                number (model.py:142), which is the same for its own P and Q, that have no common divisor.
            logit_scale_as: the released code multiplies cosines by CLIP's logit scale as it is "stored", a logarithm,
                about 4.6 (model.py:299), and its figures rest on that; "exponential" is CLIP's own 100.
            seg_margin_over: the margin's sum over "channels" is a distance; in the head of patches the released code
                sums over "tokens" (PromptAD/__init__.py:14).
            tap_point: "block" remembers the tokens that leave a block; the released code writes to them in place, so
                that the "next_attention" is added (transformer.py:235).
            test_channels: the released code feeds test images as "bgr", shots as RGB (train_seg.py:44, 124).
            bank: shots that an image is compared with: those of its own category ("per_class"), "pooled" over all
                categories, or as many "retrieved" from all by class feature.
            text: whose texts judge an image in both heads: those of its "known" category, of the category of the shot
                that is "retrieved" by class feature, or of that of the cls head's prototype most like the image
                ("argmax"). The last two and another bank than "per_class" do without the category.
        """

        batch_size: Annotated[int, ">= 1"] = 400
        lr: Annotated[float, "> 0"] = 2e-3
        lr_last: Annotated[float, ">= 0"] = 1e-5
        momentum: Annotated[float, ">= 0, < 1"] = 0.9
        weight_decay: Annotated[float, ">= 0"] = 5e-4
        n_ctx: Annotated[int, ">= 1"] = 4
        n_ctx_anomalous: Annotated[int, ">= 1"] = 1
        n_anomalous: Annotated[int, ">= 1"] = 4
        n_prompts_cls: Annotated[int, ">= 1"] = 3
        n_prompts_seg: Annotated[int, ">= 1"] = 1
        margin: Annotated[float, ">= 0"] = 0.0
        align_weight: Annotated[float, ">= 0"] = 1e-3
        memory_layers: Annotated[tuple[float, ...], "> 0, <= 1"] = (0.25, 0.6667)
        map_size: Annotated[int, ">= 1"] = 400
        sigma: Annotated[float, ">= 0"] = 4.0
        states: StateLists = "auto"
        states_file: str | None = None
        suffix_at: Literal["after_name", "before_name"] = "after_name"
        pairs: Literal["all", "modulo"] = "all"
        logit_scale_as: Literal["stored", "exponential"] = "stored"
        seg_margin_over: Literal["channels", "tokens"] = "channels"
        tap_point: Literal["block", "next_attention"] = "block"
        test_channels: Literal["rgb", "bgr"] = "rgb"
        bank: Bank = "per_class"
        text: TextChoice = "known"

    def __init__(self, backbone: CLIPBackbone, categories: Mapping[str, str], config: Config | None = None) -> None:
        super().__init__(backbone, categories, config)
        cfg = self.config
        stored = backbone.logit_scale
        self.scale = stored if cfg.logit_scale_as == "stored" else math.exp(stored)
        self.remarks += remarks_on_lists(self.categories, cfg.states, cfg.states_file)
        self.taps = blocks_at(cfg.memory_layers, backbone.n_image_blocks)
        self.cls = self._initialise_prompts(cfg.n_prompts_cls)
        self.seg = self._initialise_prompts(cfg.n_prompts_seg)
        self.memory = ShotMemory(cfg.bank)

    def _initialise_prompts(self, n_prompts: int) -> ConcatenatedPrompts:
        cfg = self.config
        return ConcatenatedPrompts(
            self.backbone,
            self.categories,
            {category: anomalous_states(category, cfg.states, cfg.states_file) for category in self.categories},
            Slots(
                n_prompts,
                cfg.n_ctx,
                cfg.n_anomalous,
                cfg.n_ctx_anomalous,
                after_name=cfg.suffix_at == "after_name",
                all_pairs=cfg.pairs == "all",
            ),
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        cfg = self.config
        optimizer = SGD(self.parameters(), lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay)
        return [optimizer], [CosineAnnealingLR(optimizer, T_max=self.max_epochs, eta_min=cfg.lr_last)]

    @torch.no_grad()
    def adapt(self, shots: Tensor, category: str) -> None:
        features = self._encode_image(shots)
        self.memory.remember(category, F.normalize(features.taps, dim=-1), features.image)

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        features = self._encode_image(images if self.config.test_channels == "rgb" else images.flip(1))
        taps = F.normalize(features.taps, dim=-1)  # (L, B, N, width)
        distances = self.memory.distances(taps, categories, features.image)  # L of (B, N), in [0, 2]
        visual = torch.stack(distances).mean(dim=0) / 2  # (B, N)
        size = (self.config.map_size, self.config.map_size)
        cls, seg = self._choose_texts(features.image, categories)  # (B, 2, D)
        score = log_text_probability(features.image.unsqueeze(1), cls, 1 / self.scale).squeeze(1)  # (B,)
        textual = log_text_probability(features.patches[0], seg, 1 / self.scale)  # (B, N)
        fused = to_grid(fuse(textual, visual.log()), features.grid)
        farthest = to_map(visual, features.grid, size).amax(dim=(1, 2))  # (B,)
        return Prediction(fuse(score, farthest.log()), fused, Finish(size, self.config.sigma))

    def _choose_texts(self, images: Tensor, categories: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prototypes of both heads, of the categories that judge images (B, D): (B, 2, D) each."""
        known, nearest = tuple(self.categories), self.memory.nearest_category
        cls, seg = (head.prototypes(self.backbone, known) for head in (self.cls, self.seg))  # (K, 2, D)
        rows = choose_texts(self.config.text, categories, images, cls, known, nearest)
        return cls[rows], seg[rows]

    def loss(self, batch: Batch) -> Tensor:
        weight, terms = self.config.align_weight, self.loss_terms(batch)
        self.terms = named_terms(terms)
        return torch.stack([t.contrast + t.margin + weight * t.alignment for t in terms]).sum()

    def loss_terms(self, batch: Batch) -> HeadTerms:
        """What `loss` adds up."""
        features, tokens = self._encode_image(batch.image), self.config.seg_margin_over == "tokens"
        return HeadTerms(
            cls=self._compare(self.cls, features.image.unsqueeze(1), batch.category),
            seg=self._compare(self.seg, features.patches[0], batch.category, margin_dim=1 if tokens else -1),
        )

    def _compare(
        self, head: ConcatenatedPrompts, features: Tensor, categories: Sequence[str], margin_dim: int = -1
    ) -> OneClassTerms:
        """Terms of features (B, N, D) against the texts of their images' categories."""
        shares = []
        for category in dict.fromkeys(categories):
            rows = [row for row, key in enumerate(categories) if key == category]
            text = head.encode(self.backbone, category)
            terms = one_class_terms(features[rows], text, self.scale, self.config.margin, margin_dim)
            shares.append(torch.stack(terms) * (len(rows) / len(categories)))
        return OneClassTerms(*torch.stack(shares).sum(dim=0))

    def _encode_image(self, images: Tensor) -> ImageFeatures:
        """The same request for shots and test images, so that a feature store answers both."""
        return self.backbone.encode_image(
            images,
            layers=(self.backbone.n_image_blocks,),
            stream="vv_from_ordinary",
            taps=self.taps,
            tap_point=self.config.tap_point,
        )
