"""APRIL-GAN: linear maps of four blocks into CLIP's joint space, and a memory of the shots beside them."""

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
from methods.components.losses import check_masks, dice_loss, focal_loss, named_terms
from methods.components.maps import class_maps
from methods.components.memory import Bank, ShotMemory
from methods.components.prediction import Prediction
from methods.components.prompts import ensemble
from methods.components.scoring import log_text_probability, to_map
from methods.components.tap_heads import TapHeads

NORMAL_STATES = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
ANOMALOUS_STATES = ("damaged {}", "broken {}", "{} with flaw", "{} with defect", "{} with damage")
_PHOTOS = (
    *("bad", "low resolution", "cropped", "bright", "dark", "close-up"),
    *("black and white", "jpeg corrupted", "blurry", "good"),
)
_THINGS = ("a", "the", "my", "one", "a cool", "the cool", "a small", "the small", "a large", "the large")
TEMPLATES = (
    *(f"a {kind} photo of {article} {{}}." for kind in _PHOTOS for article in ("a", "the")),
    *(f"a photo of {thing} {{}}." for thing in _THINGS),
    *(f"there is {article} {{}} in the scene." for article in ("a", "the")),
    *(f"this is {article} {{}} in the scene." for article in ("a", "the", "one")),
)


class Features(NamedTuple):
    """Of B images."""

    image: Tensor  # (B, D) unit class features
    taps: Tensor  # (L, B, N, width) tokens that the heads see
    remembered: Tensor  # (M, B, N, width) unit tokens that the memory compares
    grid: tuple[int, int]  # rows and columns of patches


class AprilGANTerms(NamedTuple):
    """Terms of the loss, summed over blocks."""

    focal: Tensor
    dice: Tensor


class AprilGAN(Method["AprilGAN.Config"]):
    """APRIL-GAN, or VAND (Chen et al., CVPR 2023 workshop), fitted on an auxiliary data set.

    Zero-shot: tokens of four blocks, each through a linear map of its own, are compared with the mean of 245 normal and
    of 175 anomalous texts of the category. Logits are enlarged, corners aligned, and then become probabilities; the map
    is the sum of the anomalous ones over blocks. The score is that of the class token, which nothing learnt touches.
    Few-shot: nothing more is fitted. The cosine distances of tokens to the nearest ones of the shots, enlarged and
    summed over blocks, are added to the map, whose maximum m enters the score. The loss is the sum over blocks of the
    maps' focal loss and of the anomalous maps' Dice loss.

    Formulas are those of the released code (ByChelsea/VAND-APRIL-GAN, commit f13b8a6); of the paper the abstract alone
    was at hand, which agrees. The released few-shot score is (p + m') / 2, p that of the text and m' the maximum scaled
    by the least and the largest one of all test images of the category: it needs the whole test set, and is the option
    `few_shot_score=transductive`. The default, (p + m / m_max) / 2 with the largest m that there can be, is ours: an
    image scores as if it were alone. The release fits 3 epochs on MVTec AD, as here, and 15 on VisA; it runs OpenAI's
    weights with exact GELU (`backbone=vit_l_14_336_gelu`). Left out: float16; on MVTec AD, mosaics of four images that
    replace a fifth of a batch; shots sampled with replacement.
    """

    paper = "https://arxiv.org/abs/2305.17382"
    published = ("APRIL-GAN",)
    protocols = ("zero_shot", "few_shot", "multi_class")
    needs = ("text_tower", "patch_tokens", "category")
    fits_on = "auxiliary"
    max_epochs = 3

    @dataclass(kw_only=True)
    class Config:
        """Settings.

        Attributes:
            batch_size: images per step.
            lr: Adam's learning rate.
            betas: Adam's decay rates, of the released code.
            layers: blocks with a linear map, as fractions of the tower's depth; 6, 12, 18 and 24 of 24.
            memory_layers: blocks compared with the shots, likewise.
            temperature: divisor of the logits of every softmax.
            names: the released prompts name a category by its "key", as in metal_nut; "words" takes the data set's name
                of the object, and for what it was fitted on the key with blanks.
            few_shot_score: how the map's maximum enters the image's score: "inductive" is ours, "transductive" the
                released code, where a score depends on the other test images of the category.
            bank: shots that an image is compared with: those of its own category ("per_class"), "pooled" over all
                categories, or as many "retrieved" from all by class feature. The texts stay those of its own category.
        """

        batch_size: Annotated[int, ">= 1"] = 8
        lr: Annotated[float, "> 0"] = 1e-3
        betas: Annotated[tuple[float, float], ">= 0, < 1"] = (0.5, 0.999)
        layers: Annotated[tuple[float, ...], "> 0, <= 1"] = (0.25, 0.5, 0.75, 1.0)
        memory_layers: Annotated[tuple[float, ...], "> 0, <= 1"] = (0.25, 0.5, 0.75, 1.0)
        temperature: Annotated[float, "> 0"] = 0.01
        names: Literal["key", "words"] = "key"
        few_shot_score: Literal["inductive", "transductive"] = "inductive"
        bank: Bank = "per_class"

    def __init__(self, backbone: CLIPBackbone, categories: Mapping[str, str], config: Config | None = None) -> None:
        super().__init__(backbone, categories, config)
        cfg = self.config
        self.blocks = blocks_at(cfg.layers, backbone.n_image_blocks)
        self.memory_blocks = blocks_at(cfg.memory_layers, backbone.n_image_blocks)
        self.heads = TapHeads(len(self.blocks), backbone.image_width, backbone.embed_dim)
        self.memory = ShotMemory(cfg.bank)
        self._texts: dict[str, Tensor] = {}  # (2, D) of each category that was met

    @property
    def transductive(self) -> bool:
        return self.config.few_shot_score == "transductive" and len(self.memory) > 0

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=self.config.lr, betas=self.config.betas)

    @torch.no_grad()
    def adapt(self, shots: Tensor, category: str) -> None:
        features = self._encode_image(shots)
        self.memory.remember(category, features.remembered, features.image)

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        features, text = self._encode_image(images), self.encode_text(categories, images.device)
        size = (images.shape[2], images.shape[3])
        score = log_text_probability(features.image.unsqueeze(1), text, self.config.temperature).exp().squeeze(1)
        maps = torch.stack([each[:, 1] for each in self.class_maps(features, text, size)]).sum(dim=0)  # (B, h, w)
        if not len(self.memory):
            return Prediction(score, maps)
        maps = maps + self.visual_map(features, categories, size)
        return Prediction(score if self.transductive else self._fuse(score, maps), maps)

    def rescore(self, predicted: Prediction) -> Tensor:
        highest = predicted.anomaly_map.amax(dim=(1, 2))  # (n,)
        scaled = highest - highest.min()
        return (predicted.score + scaled / scaled.max().clamp(min=torch.finfo(scaled.dtype).tiny)) / 2

    def loss(self, batch: Batch) -> Tensor:
        terms = self.loss_terms(batch)
        self.terms = named_terms(terms)
        return torch.stack(terms).sum()

    def loss_terms(self, batch: Batch) -> AprilGANTerms:
        """What `loss` adds up.

        Raises:
            ValueError: the masks have another size than the images.
        """
        size = check_masks(batch)
        features, text = self._encode_image(batch.image), self.encode_text(batch.category, batch.image.device)
        maps = self.class_maps(features, text, size)
        focal = torch.stack([focal_loss(each, batch.mask) for each in maps])
        dice = torch.stack([dice_loss(each[:, 1], batch.mask) for each in maps])
        return AprilGANTerms(focal.sum(), dice.sum())

    @torch.no_grad()
    def encode_text(self, categories: Sequence[str], device: torch.device) -> Tensor:
        """Unit features of the normal and the anomalous texts of each image's category, (B, 2, D), encoded once."""
        for category in dict.fromkeys(categories):
            if category not in self._texts:
                words, states = self._name(category), (NORMAL_STATES, ANOMALOUS_STATES)
                self._texts[category] = torch.stack([ensemble(self.backbone, compose(each, words)) for each in states])
            self._texts[category] = self._texts[category].to(device)
        return torch.stack([self._texts[category] for category in categories])

    def class_maps(self, features: Features, text: Tensor, size: tuple[int, int]) -> list[Tensor]:
        """Probabilities of both classes at each pixel, for each block: L of (B, 2, h, w).

        Args:
            features: of B images.
            text: of their categories, (B, 2, D).
            size: height and width of the maps.
        """
        patches = F.normalize(self.heads(features.taps), dim=-1)  # (L, B, N, D)
        logits = patches @ text.transpose(1, 2) / self.config.temperature  # (L, B, N, 2)
        return [class_maps(each, features.grid, size, align_corners=True).softmax(dim=1) for each in logits]

    def visual_map(self, features: Features, categories: Sequence[str], size: tuple[int, int]) -> Tensor:
        """Sum over blocks of the distances to the nearest token of the shots, (B, h, w), in [0, 2 M]."""
        distances = self.memory.distances(features.remembered, categories, features.image)  # M of (B, N)
        return to_map(torch.stack(distances).sum(dim=0), features.grid, size, align_corners=True)

    def _fuse(self, score: Tensor, maps: Tensor) -> Tensor:
        """The inductive score of images, (B,): a probability is at most 1 and a cosine distance at most 2."""
        largest = len(self.blocks) + 2 * len(self.memory_blocks)
        return (score + maps.amax(dim=(1, 2)) / largest) / 2

    def _encode_image(self, images: Tensor) -> Features:
        taps = sorted({*self.blocks, *self.memory_blocks})
        features = self.backbone.encode_image(images, taps=taps)
        seen, remembered = (features.taps[[taps.index(b) for b in some]] for some in (self.blocks, self.memory_blocks))
        return Features(features.image, seen, F.normalize(remembered, dim=-1), features.grid)

    def _name(self, category: str) -> str:
        if self.config.names == "key":
            return category
        return self.categories.get(category, category.replace("_", " "))


def compose(states: Sequence[str], words: str) -> list[str]:
    """Every state of the object in every template."""
    return [template.format(state.format(words)) for state in states for template in TEMPLATES]
