"""One line that `bench list methods` prints: distance of each patch to the nearest patch of the shots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.depth import blocks_at
from methods.components.memory import ShotMemory
from methods.components.prediction import Prediction
from methods.components.scoring import to_grid


class NewMethod(Method["NewMethod.Config"]):
    """What it does, as a formula, and where paper and released code differ.

    With f(p) the unit token of patch p after one block and M the tokens of all patches of the k shots,

        map(p) = min over r in M of 1 - <f(p), r>,    score = max over p of map(p).
    """

    # All of these are literals: `bench list` and every plan read them from this text, without running it.
    paper = "https://example.org/new_method"  # "" of a baseline without a paper
    protocols = ("few_shot", "multi_class")  # the first is the default
    needs = ("patch_tokens", "category")  # also "text_tower"; "category": which category a test image belongs to

    @dataclass(kw_only=True)
    class Config:
        """Settings: literals of plain types with the paper's values; each is a word `method.new_method.KEY=VALUE`.

        Attributes:
            depth: block whose tokens are compared, as a fraction of the image tower's depth.
        """

        depth: Annotated[float, "> 0, <= 1"] = 0.5  # a number and its range

    def __init__(
        self,
        backbone: CLIPBackbone,  # frozen and shared: ask it, never change it
        categories: Mapping[str, str],  # key to words: {"metal_nut": "metal nut"}
        config: Config | None = None,
    ) -> None:
        super().__init__(backbone, categories, config)
        self.blocks = blocks_at((self.config.depth,), backbone.n_image_blocks)  # of 8 blocks, 0.5 is the fourth
        self.memory = ShotMemory()  # as `self.memory` it is a part of checkpoints

    @torch.no_grad()
    def adapt(self, shots: Tensor, category: str) -> None:
        """Remember the k shots of one category, (k, 3, H, W) in [0, 1]."""
        features = self.backbone.encode_image(shots, taps=self.blocks)  # taps (1, k, N, width)
        self.memory.remember(category, F.normalize(features.taps, dim=-1))

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        """Score B images, (B, 3, H, W) in [0, 1], each as if it were alone; higher is more anomalous."""
        features = self.backbone.encode_image(images, taps=self.blocks)
        tokens = F.normalize(features.taps, dim=-1)  # (1, B, N, width)
        (distance,) = self.memory.distances(tokens, categories)  # (B, N)
        return Prediction(distance.amax(dim=-1), to_grid(distance, features.grid))  # (B,) and (B, rows, columns)
