"""WinCLIP: a hand-made prompt ensemble compared with windows of patches; no training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.components.base import Method
from methods.components.category_choice import TextChoice, choose_texts
from methods.components.clip.backbone import CLIPBackbone, Windows
from methods.components.memory import Bank, ShotMemory
from methods.components.prediction import Prediction
from methods.components.prompts import ensemble
from methods.components.scoring import log_harmonic_mean, log_text_probability, to_grid

NORMAL_STATES = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
ANOMALOUS_STATES = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")

# Both articles of each of eleven phrasings. Public readings of the paper's list differ: caoyunkang/WinClip has these
# 22, zqhang/Accurate-WinCLIP-pytorch and anomalib have 21, of which "a jpeg corrupted photo of the {}." twice.
TEMPLATES = tuple(
    phrase.format(article=article)
    for phrase in (
        "a cropped photo of {article} {{}}.",
        "a close-up photo of {article} {{}}.",
        "a bright photo of {article} {{}}.",
        "a dark photo of {article} {{}}.",
        "a jpeg corrupted photo of {article} {{}}.",
        "a blurry photo of {article} {{}}.",
        "a photo of {article} {{}}.",
        "a photo of {article} small {{}}.",
        "a photo of {article} large {{}}.",
        "a photo of {article} {{}} for visual inspection.",
        "a photo of {article} {{}} for anomaly detection.",
    )
    for article in ("a", "the")
)


class Features(NamedTuple):
    """Unit features of B images in the joint space."""

    image: Tensor  # (B, D)
    patches: Tensor  # (B, N, D)
    windows: list[Tensor]  # (B, K, D) for each scale, windows in raster order
    grid: tuple[int, int]  # rows and columns of patches


def compose(states: Sequence[str], words: str) -> list[str]:
    """Every state of the object in every template (section 4.1, compositional prompt ensemble)."""
    return [template.format(state.format(words)) for state in states for template in TEMPLATES]


def window_patches(grid: tuple[int, int], side: int) -> Tensor:
    """Patches of all windows of `side` x `side` patches at stride 1, (K, side²) long, all in raster order.

    Raises:
        ValueError: a window is larger than the grid.
    """
    if not 1 <= side <= min(grid):
        raise ValueError(
            f"A window of {side} x {side} patches must fit into the grid; got {grid[0]} x {grid[1]} patches."
        )
    index = torch.arange(grid[0] * grid[1]).view(grid)
    return index.unfold(0, side, 1).unfold(1, side, 1).reshape(-1, side * side)


@cache
def square_windows(grid: tuple[int, int], side: int) -> Windows:
    """The windows of `window_patches`, made once for each grid."""
    return Windows(window_patches(grid, side), grid)


def windows_to_grid(log_scores: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Harmonic mean, at each patch, of the scores of all windows that hold it (section 4.2, harmonic aggregation).

    Args:
        log_scores: logarithms of the scores of the windows of `window_patches`, (B, K), down to -700: their inverses
            are added in double precision.
        grid: rows and columns of patches.
        side: of the windows, in patches.

    Returns:
        Logarithms, (B, rows, columns).
    """
    inverses = (-log_scores.double()).clamp(max=700).exp().unsqueeze(1).expand(-1, side * side, -1)  # (B, side², K)
    counts = F.fold(torch.ones_like(inverses), grid, kernel_size=side)  # (B, 1, rows, columns)
    mean = counts / F.fold(inverses, grid, kernel_size=side)
    return mean.log().to(log_scores).squeeze(1)


class WinCLIP(Method["WinCLIP.Config"]):
    """WinCLIP, and WinCLIP+ once it has seen shots (Jeong et al., CVPR 2023).

    Zero-shot (sections 4.1, 4.2): p(f) is the softmax over the cosines of f with the normal and the anomalous text.
    The score is p of the class feature; the map is the harmonic mean of that score and the window maps of p.

    Few-shot (section 4.3): M is the mean of the association maps, min over r of (1 - <f, r>) / 2, of the patches and
    of the windows of each scale. The score becomes (score + max M) / 2, the map (map + M) / 2.

    Where the paper is silent: texts are normalised before and after their mean, as CLIP (arXiv:2103.00020) does; the
    patches are the last block's tokens, before pooling, taken through `ln_post` and the projection to the joint space
    so that patches and windows are compared in one space (anomalib leaves the projection out); the window
    associations are spread over the patches by the same harmonic mean as the window scores; the map stays at the
    patch grid.
    """

    paper = "https://arxiv.org/abs/2303.14814"
    published = ("WinCLIP", "WinCLIP+")
    protocols = ("zero_shot", "few_shot", "multi_class")
    needs = (
        "text_tower",
        "patch_tokens",
        "category if text=known",
        "category if bank=per_class",
        "shots if text=retrieved",
    )

    text: Tensor  # (categories, 2, D), row 0 normal, row 1 anomalous

    @dataclass(kw_only=True)
    class Config:
        """Settings.

        Attributes:
            temperature: divisor of the logits of the softmax. 0.01 is what CLIP's training ends with, its logit scale
                being capped at 100 (arXiv:2103.00020, section 2.5; so in caoyunkang/WinClip). anomalib and
                zqhang/Accurate-WinCLIP-pytorch take 0.07, the value that training starts from.
            scales: sides of the windows, in patches (small and mid scale of section 4.2).
            bank: shots that an image is compared with: those of its own category ("per_class"), "pooled" over all
                categories, or as many "retrieved" from all by class feature.
            text: whose texts judge an image: those of its "known" category, of the category of the shot that is
                "retrieved" by class feature, or of that of the text most like the image ("argmax"). The last two and
                another bank than "per_class" do without the category.
        """

        temperature: Annotated[float, "> 0"] = 0.01
        scales: Annotated[tuple[int, ...], ">= 1"] = (2, 3)
        bank: Bank = "per_class"
        text: TextChoice = "known"

    def __init__(self, backbone: CLIPBackbone, categories: Mapping[str, str], config: Config | None = None) -> None:
        super().__init__(backbone, categories, config)
        if self.config.temperature <= 0:
            raise ValueError(f"temperature must be above 0; got {self.config.temperature}.")
        prototypes = [
            ensemble(backbone, compose(states, words))
            for words in self.categories.values()
            for states in (NORMAL_STATES, ANOMALOUS_STATES)
        ]
        self.register_buffer("text", torch.stack(prototypes).unflatten(0, (-1, 2)), persistent=False)
        self.memory = ShotMemory(self.config.bank)

    @torch.no_grad()
    def adapt(self, shots: Tensor, category: str) -> None:
        features = self._encode(shots)
        self.memory.remember(category, [features.patches, *features.windows], features.image)

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        features = self._encode(images)
        prediction = self._compare_text(features, categories)
        if not len(self.memory):
            return prediction
        association = self._associate(features, categories)  # (B, rows, columns)
        score = (prediction.score + association.amax(dim=(1, 2))) / 2
        return Prediction(score, (prediction.anomaly_map + association) / 2)

    def _encode(self, images: Tensor) -> Features:
        seen = self.backbone.encode_image(images, layers=(self.backbone.n_image_blocks,))
        squares = [square_windows(seen.grid, side) for side in self.config.scales]
        windows = [self.backbone.encode_windows(images, each) for each in squares]
        return Features(seen.image, seen.patches[0], windows, seen.grid)

    def _compare_text(self, features: Features, categories: Sequence[str]) -> Prediction:
        nearest, known = self.memory.nearest_category, tuple(self.categories)
        rows = choose_texts(self.config.text, categories, features.image, self.text, known, nearest)
        text = self.text[rows]  # (B, 2, D)
        temperature = self.config.temperature
        score = log_text_probability(features.image.unsqueeze(1), text, temperature).squeeze(1)  # (B,)
        maps = [
            windows_to_grid(log_text_probability(windows, text, temperature), features.grid, side)
            for windows, side in zip(features.windows, self.config.scales, strict=True)
        ]
        return Prediction(score.exp(), log_harmonic_mean(score.view(-1, 1, 1), *maps).exp())

    def _associate(self, features: Features, categories: Sequence[str]) -> Tensor:
        """Mean association map over patches and windows, (B, rows, columns), in [0, 1]."""
        patches, *windows = self.memory.distances([features.patches, *features.windows], categories, features.image)
        maps = [to_grid(patches / 2, features.grid)]
        for distance, side in zip(windows, self.config.scales, strict=True):
            maps.append(windows_to_grid((distance / 2).log(), features.grid, side).exp())
        return torch.stack(maps).mean(dim=0)
