"""AF-CLIP: one learnt attention layer over averaged neighbourhoods, and learnt tokens before two fixed states."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from datamodules.components.sample import Batch
from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone, Tokens
from methods.components.clip.depth import blocks_at
from methods.components.clip.image_tower import project
from methods.components.losses import check_masks, named_terms
from methods.components.memory import ShotMemory
from methods.components.prediction import Finish, Prediction
from methods.components.prompts import Templates, Unchanged
from methods.components.scoring import to_grid

NEIGHBOURHOODS = (1, 3, 5)  # sides of what a patch is averaged over, patches
_KERNEL_SIGMA = 4.0  # deviation of their weights, patches
_CONTEXT_STD = 0.01


class Attention(nn.Module):
    """LayerNorm and self-attention, with neither a residual nor an MLP; queries, keys and values have no bias."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.queries, self.keys, self.values = (nn.Linear(width, heads * head_width, bias=False) for _ in range(3))
        self.out = nn.Linear(heads * head_width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, width) to the same."""
        normed = self.norm(tokens)
        query, key, value = (
            linear(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, head_width)
            for linear in (self.queries, self.keys, self.values)
        )
        mixed: Tensor = self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return mixed


class Seen(NamedTuple):
    """What the frozen tower gives of B images in S = 3 L token sets, three neighbourhoods of each tap in turn."""

    patches: list[Tensor]  # S of (B, N, width)
    class_tokens: list[Tensor]  # S of (B, width)
    grid: tuple[int, int]  # rows and columns of patches


class Compared(NamedTuple):
    """Probabilities of the anomalous text, and what they are made of."""

    score: Tensor  # (B,)
    patches: Tensor  # (B, N)
    adapted: list[Tensor]  # S of (B, N, D), unit


class AFCLIPTerms(NamedTuple):
    """Terms of the loss."""

    image_focal: Tensor
    map_focal: Tensor
    map_l1: Tensor
    alignment: Tensor


class AFCLIP(Method["AFCLIP.Config"]):
    """AF-CLIP (2025), fitted on an auxiliary data set and blind to categories; its shots are only remembered.

    Every tap, and every tap averaged over 3 x 3 and over 5 x 5 neighbours, passes the same attention layer, then CLIP's
    own last norm and projection. The cosines with both texts, over the temperature, are added up over these token sets
    before one softmax: that of the class token is the score, that of the patches the map, enlarged and smoothed. The
    texts are twelve learnt tokens, which stand before the start of the text, and "without defect." or "with defect.".

    With shots, tokens as they leave the tower are compared with those of the shots: the map is the mean over sets of
    (1 - cosine) / 2 to the nearest, the score its maximum, and `text_weight` of both of the above is added.

    As released (Faustinaqq/AF-CLIP bb7edec, which has no licence: written from a description of it). Kept from there:
    averages count what lies beyond the edge as zeros, and a patch whose mask is exactly half anomalous keeps that half
    as its target and takes no part in the alignment.
    """

    paper = "https://github.com/Faustinaqq/AF-CLIP"
    published = ("AF-CLIP",)
    protocols = ("zero_shot", "few_shot")
    needs = ("text_tower", "patch_tokens")
    fits_on = "auxiliary"
    max_epochs = 2

    @dataclass(kw_only=True)
    class Config:
        """Settings, all stated by the released code.

        Attributes:
            batch_size: images per step.
            lr: Adam's learning rate.
            betas: Adam's decay rates.
            n_ctx: learnt tokens before the start of the text.
            layers: taps, as fractions of the tower's depth; 6, 12, 18 and 24 of 24.
            heads: of the attention layer.
            head_width: of each of them.
            gamma: how much certain images and patches count less in the focal losses.
            map_weight: weight of the map's focal and L1 loss.
            alignment_weight: weight of the alignment of patches.
            text_weight: share of the comparison with texts once there are shots.
            temperature: divisor of the cosines of each token set, of which twelve are added up.
            sigma: deviation of the map's Gaussian, in pixels of an image of side `sigma_at`; others in proportion.
            sigma_at: side of the image, in pixels, that `sigma` is given for.
        """

        batch_size: Annotated[int, ">= 1"] = 8
        lr: Annotated[float, "> 0"] = 1e-4
        betas: Annotated[tuple[float, float], ">= 0, < 1"] = (0.5, 0.999)
        n_ctx: Annotated[int, ">= 1"] = 12
        layers: Annotated[tuple[float, ...], "> 0, <= 1"] = (0.25, 0.5, 0.75, 1.0)
        heads: Annotated[int, ">= 1"] = 8
        head_width: Annotated[int, ">= 1"] = 64
        gamma: Annotated[float, ">= 0"] = 4.0
        map_weight: Annotated[float, ">= 0"] = 1.0
        alignment_weight: Annotated[float, ">= 0"] = 1.0
        text_weight: Annotated[float, ">= 0"] = 0.1
        temperature: Annotated[float, "> 0"] = 0.07
        sigma: Annotated[float, ">= 0"] = 4.0
        sigma_at: Annotated[int, ">= 1"] = 518

    def __init__(self, backbone: CLIPBackbone, categories: Mapping[str, str], config: Config | None = None) -> None:
        super().__init__(backbone, categories, config)
        cfg = self.config
        self.taps = blocks_at(cfg.layers, backbone.n_image_blocks)
        self.templates = Templates(backbone, "without defect.", "with defect.")
        context, longest = self.templates.ids.shape[1], int(self.templates.ids.argmax(dim=1).max()) + 1
        if not 1 <= cfg.n_ctx <= context - longest:
            raise ValueError(
                f"n_ctx must be 1 to {context - longest}, so that {longest} tokens of a text fit behind them into "
                f"{context}; got {cfg.n_ctx}."
            )
        self.ctx = nn.Parameter(_CONTEXT_STD * torch.randn(cfg.n_ctx, backbone.text_width))
        self.attention = Attention(backbone.image_width, cfg.heads, cfg.head_width)
        self.memory = ShotMemory("pooled")  # few_shot: one category's own
        self._text = Unchanged[Tensor]()

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=self.config.lr, betas=self.config.betas)

    @torch.no_grad()
    def adapt(self, shots: Tensor, category: str) -> None:
        self.memory.remember(category, [F.normalize(patches, dim=-1) for patches in self._see(shots).patches])

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        seen, size = self._see(images), (images.shape[2], images.shape[3])
        score, patches, _ = self._compare(seen)
        if len(self.memory):
            unit = [F.normalize(each, dim=-1) for each in seen.patches]
            far = torch.stack(self.memory.distances(unit, categories)).mean(dim=0) / 2  # (B, N)
            score = far.amax(dim=1) + self.config.text_weight * score
            patches = far + self.config.text_weight * patches
        finish = Finish(size, self.config.sigma * (min(size) / self.config.sigma_at))
        return Prediction(score, to_grid(patches, seen.grid), finish)

    def loss(self, batch: Batch) -> Tensor:
        terms, cfg = self.loss_terms(batch), self.config
        self.terms = named_terms(terms)
        local = cfg.map_weight * (terms.map_focal + terms.map_l1)
        return terms.image_focal + local + cfg.alignment_weight * terms.alignment

    def loss_terms(self, batch: Batch) -> AFCLIPTerms:
        """What `loss` adds up, before weights.

        Raises:
            ValueError: the masks have another size than the images.
        """
        check_masks(batch)
        seen, gamma = self._see(batch.image), self.config.gamma
        score, patches, adapted = self._compare(seen)
        target = patch_targets(batch.mask, seen.grid)  # (B, N)
        alignment = torch.stack([F.relu(misalignment(each, target)) for each in adapted]).mean()
        map_focal, image_focal = binary_focal(patches, target, gamma), binary_focal(score, batch.label, gamma)
        return AFCLIPTerms(image_focal, map_focal, F.l1_loss(patches, target), alignment)

    def _see(self, images: Tensor) -> Seen:
        features = self.backbone.encode_image(images, taps=self.taps)
        patches = [average(tap, features.grid, side) for tap in features.taps for side in NEIGHBOURHOODS]
        class_tokens = [token for token in features.class_taps for _ in NEIGHBOURHOODS]
        return Seen(patches, class_tokens, features.grid)

    def _compare(self, seen: Seen) -> Compared:
        """Compare the adapted tokens of all sets with both texts."""
        text, adapted = self._text(self.parameters(), self._encode_text), []
        for patches, class_token in zip(seen.patches, seen.class_tokens, strict=True):
            with self.backbone.autocast():
                tokens = self.attention(torch.cat([class_token.unsqueeze(1), patches], dim=1))  # (B, 1 + N, width)
                adapted.append(project(self.backbone.clip.visual, tokens))
        cosines = torch.stack([tokens @ text.T for tokens in adapted]).sum(dim=0)  # (B, 1 + N, 2)
        probability = (cosines / self.config.temperature).softmax(dim=-1)[..., 1]
        return Compared(probability[:, 0], probability[:, 1:], [tokens[:, 1:] for tokens in adapted])

    def _encode_text(self) -> Tensor:
        """Unit features of the normal and the anomalous text, (2, D)."""
        ids, embeddings = self.templates.ids, self.templates.embeddings  # (2, C), (2, C, W)
        held, context = ids.new_zeros(2, self.config.n_ctx), self.ctx.expand(2, -1, -1)
        length = ids.shape[1]
        before = Tokens(torch.cat([held, ids], dim=1)[:, :length], torch.cat([context, embeddings], dim=1)[:, :length])
        return self.backbone.encode_text(before)


def average(patches: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Weighted sum over side x side neighbours, with zeros beyond the edge; weights are a Gaussian's and sum to 1.

    Args:
        patches: (B, N, width), in raster order.
        grid: rows and columns, N = rows * columns.
        side: of the neighbourhood, odd; 1 leaves the patches as they are.

    Returns:
        (B, N, width).
    """
    if side == 1:
        return patches
    offsets = torch.arange(side).to(patches) - side // 2
    weights = torch.exp(-offsets.square() / (2 * _KERNEL_SIGMA**2))
    weights = weights / weights.sum()
    on_grid = patches.transpose(1, 2).reshape(-1, 1, *grid)  # (B * width, 1, rows, columns)
    down = F.conv2d(on_grid, weights.view(1, 1, side, 1), padding=(side // 2, 0))
    across = F.conv2d(down, weights.view(1, 1, 1, side), padding=(0, side // 2))
    return across.view(len(patches), -1, grid[0] * grid[1]).transpose(1, 2)


def patch_targets(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """What patches should be: 1 anomalous, 0 normal, and a half where exactly that was read; (B, N).

    `mask` (B, H, W) bool is read bilinearly at the centre of each patch.
    """
    read = F.interpolate(mask.float().unsqueeze(1), grid, mode="bilinear", align_corners=False).flatten(1)
    return ((read - 0.5).sign() + 1) / 2


def binary_focal(probability: Tensor, target: Tensor, gamma: float) -> Tensor:
    """(1 - q)^gamma times the binary cross-entropy, q the probability of what the target says; mean of all.

    Args:
        probability: of the anomalous class.
        target: of the same shape, in [0, 1].
        gamma: how much certain ones count less.
    """
    target = target.to(probability)
    entropy = F.binary_cross_entropy(probability, target, reduction="none")
    q = probability * target + (1 - probability) * (1 - target)
    return (entropy * (1 - q) ** gamma).mean()


def misalignment(patches: Tensor, target: Tensor) -> Tensor:
    """Mean cosine of pairs of a normal and an anomalous patch of one image, less that of pairs of one kind; a scalar.

    Means are over all such pairs of the batch, a patch with itself included; without a mixed pair it is not above 0.

    Args:
        patches: unit features, (B, N, D).
        target: 0 or 1; what is neither takes no part, (B, N).
    """
    kinds = torch.stack([target == 0, target == 1], dim=1).to(patches)  # (B, 2, N)
    sums, counts = kinds @ patches, kinds.sum(dim=2)  # (B, 2, D), (B, 2)
    mixed = (sums[:, 0] * sums[:, 1]).sum() / (counts[:, 0] * counts[:, 1]).sum().clamp(min=1)
    return mixed - sums.square().sum() / counts.square().sum().clamp(min=1)
