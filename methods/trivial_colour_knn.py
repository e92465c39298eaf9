"""Trivial floor: how far is the colour of a square from every square of the normal shots? No network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone
from methods.components.memory import ShotMemory
from methods.components.prediction import Prediction
from methods.components.scoring import to_grid
from methods.components.squares import square_colours


class TrivialColourKNN(Method["TrivialColourKNN.Config"]):
    """A floor: what a method gains over it was not there to be had for nothing.

    With c(p) the mean and the standard deviation of the colour of square p, six numbers, and M those of all squares of
    the k shots of the category,

        map(p) = min over r in M of ||c(p) - r||,    score = max over p of map(p).

    The backbone says only how large the images are.
    """

    paper = ""
    protocols = ("few_shot", "multi_class")
    needs = ("category",)

    @dataclass(kw_only=True)
    class Config:
        """Settings.

        Attributes:
            squares: parts per side of the image, whose colours are compared.
        """

        squares: Annotated[int, ">= 1"] = 16

    def __init__(self, backbone: CLIPBackbone, categories: Mapping[str, str], config: Config | None = None) -> None:
        super().__init__(backbone, categories, config)
        self.memory = ShotMemory()

    def adapt(self, shots: Tensor, category: str) -> None:
        self.memory.remember(category, [square_colours(shots, self.config.squares)])

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        colours = square_colours(images, self.config.squares)  # (B, N, 6)
        distance = colours.new_empty(colours.shape[:-1])
        for rows, (memory,) in self.memory.by_category(categories, images.device):
            exact = torch.cdist(colours[rows], memory, compute_mode="donot_use_mm_for_euclid_dist")
            distance[rows] = exact.amin(dim=-1)
        return Prediction(distance.amax(dim=-1), to_grid(distance, (self.config.squares, self.config.squares)))
