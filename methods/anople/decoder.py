"""A light decoder of patch tokens: to features of the joint space, and from these to a map (arXiv:2408.13516)."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from methods.components.clip.backbone import CLIPBackbone, ImageFeatures
from methods.components.clip.depth import blocks_at, in_proportion
from methods.components.clip.weights import check_choice
from methods.components.prompts import new_prompt
from methods.components.scoring import to_map

MaskHeadKind = Literal["text", "conv"]


class Decoded(NamedTuple):
    """What is seen of each patch."""

    patches: Tensor  # (B, N, D) unit features
    odds: Tensor  # (B, h, w) logarithm of the odds of an anomaly, whose sigmoid is its probability


class FeatureDecoder(nn.Module):
    """Corrects unit patch features of CLIP from the tokens they were made of; at first the correction is zero."""

    def __init__(self, in_width: int, width: int, embed_dim: int) -> None:
        """Initialise the layers.

        Args:
            in_width: of the tokens.
            width: of the hidden layers, a multiple of 8.
            embed_dim: of the joint space.

        Raises:
            ValueError: `width` is no positive multiple of 8, the groups of the norm.
        """
        super().__init__()
        if width < 8 or width % 8:
            raise ValueError(f"decoder_width must be a multiple of 8, 8 or more; got {width}.")
        self.enter = nn.Linear(in_width, width)
        self.mix = nn.Sequential(*[layer for _ in range(2) for layer in _mixing_layers(width)])
        self.leave = nn.Conv2d(width, embed_dim, 1)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """Unit float32 features (B, N, D), from tokens (B, N, in_width) and unit features `patches` (B, N, D)."""
        h = self.enter(tokens).transpose(1, 2).unflatten(2, grid)  # (B, width, rows, columns)
        h = h + self.mix(h)
        correction = self.leave(h).flatten(2).transpose(1, 2)  # (B, N, D)
        return F.normalize(correction.float() + patches, dim=-1)


def _mixing_layers(width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.GELU()


class MaskHead(nn.Module):
    """Two transposed convolutions from features to a map of four times the grid, which knows no text."""

    def __init__(self, embed_dim: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(embed_dim, width, 2, stride=2), nn.GELU(), nn.ConvTranspose2d(width, 1, 2, stride=2)
        )

    def forward(self, patches: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Log odds, (B, h, w) of `size`, from features (B, N, D)."""
        raised = self.layers(patches.transpose(1, 2).unflatten(2, grid)).float()
        return F.interpolate(raised, size, mode="bilinear", align_corners=False).squeeze(1)


class LocalReader(nn.Module):
    """Reads maps off an image's features.

    The mask head "text" compares decoded patches with both texts and enlarges the difference of the cosines at CLIP's
    own temperature: the softmax of both is the sigmoid of it, at half the cost. "conv" is a `MaskHead`.
    """

    def __init__(
        self,
        backbone: CLIPBackbone,
        *,
        layers: Sequence[float],
        width: int | None,
        decode: bool,
        mask_head: MaskHeadKind,
        n_signals: int,
    ) -> None:
        """Initialise decoder, head and signals.

        Args:
            backbone: whose features are read.
            layers: blocks whose tokens the decoder reads, as fractions of the tower's depth.
            width: of decoder and head, a multiple of 8; None takes 256 for a tower 896 wide and in proportion, rounded
                down.
            decode: False reads CLIP's own patch features.
            mask_head: see the class.
            n_signals: learnt signals, one for each view, of which one is added to the decoder's input; 0 for none.

        Raises:
            ValueError: a layer or the width is out of range.
            BackboneError: no such head.
        """
        super().__init__()
        check_choice("mask_head", mask_head, ("text", "conv"))
        self.taps = blocks_at(layers, backbone.n_image_blocks) if decode else ()
        in_width = len(self.taps) * backbone.image_width
        self.scale = math.exp(backbone.logit_scale)
        if width is None:
            width = max(8, in_proportion(256, 896, backbone.image_width) // 8 * 8)
        self.decoder = FeatureDecoder(in_width, width, backbone.embed_dim) if decode else None
        self.head = MaskHead(backbone.embed_dim, width) if mask_head == "conv" else None
        self.signals = new_prompt(n_signals, in_width) if decode and n_signals else None

    def forward(
        self,
        backbone: CLIPBackbone,
        features: ImageFeatures,
        text: Tensor,
        size: tuple[int, int],
        views: Tensor | None = None,
    ) -> Decoded:
        """Read.

        Args:
            backbone: that gave the features.
            features: with the tokens of blocks `taps` first among its taps.
            text: unit features of both texts of each image, (B, 2, D).
            size: of the maps.
            views: which view each image is, (B,) long; None for whole images.
        """
        patches = self.decode(backbone, features, views)
        if self.head is not None:
            with backbone.autocast():
                return Decoded(patches, self.head(patches, features.grid, size))
        normal, anomalous = text.unbind(dim=1)  # (B, D)
        odds = self.scale * (patches @ (anomalous - normal).unsqueeze(-1)).squeeze(-1)  # (B, N)
        return Decoded(patches, to_map(odds, features.grid, size))

    def decode(self, backbone: CLIPBackbone, features: ImageFeatures, views: Tensor | None) -> Tensor:
        """Unit features of patches, (B, N, D): CLIP's own ones, corrected if there is a decoder."""
        patches = features.patches[0]
        if self.decoder is None:
            return patches
        tokens = backbone.post_norm(features.taps[: len(self.taps)])  # (T, B, N, width)
        tokens = tokens.movedim(0, 2).flatten(2)  # (B, N, in_width)
        with backbone.autocast():
            if self.signals is not None:
                tokens = tokens + rows_of_views(self.signals, views, len(tokens)).unsqueeze(1)
            corrected: Tensor = self.decoder(tokens, patches, features.grid)
            return corrected

    def weights(self) -> list[nn.Parameter]:
        """Those of decoder and head, without the signals."""
        return [p for part in (self.decoder, self.head) if part is not None for p in part.parameters()]


def rows_of_views(signals: Tensor, views: Tensor | None, count: int) -> Tensor:
    """The signal of each view, (B, width); without `views` the first for all `count`, and no other is touched."""
    return signals[:1].expand(count, -1) if views is None else signals[views]
