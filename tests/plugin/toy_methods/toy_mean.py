"""Distance to the mean of the shots, pixel by pixel."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from methods.components.base import Method
from methods.components.prediction import Prediction


class ToyMean(Method):
    paper = "https://example.org/toy"
    protocols = ("few_shot", "multi_class", "zero_shot")
    needs = ("category",)

    @dataclass(kw_only=True)
    class Config:
        scale: float = 1.0
        sides: tuple[int, ...] = (1, 2)
        kind: Literal["abs", "square"] = "abs"
        pause: float = 0.0

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.means = {}

    def adapt(self, shots: Tensor, category: str) -> None:
        self.means[category] = shots.mean(dim=0)

    def on_save_checkpoint(self, checkpoint):
        super().on_save_checkpoint(checkpoint)
        checkpoint["means"] = dict(self.means)

    def on_load_checkpoint(self, checkpoint):
        super().on_load_checkpoint(checkpoint)
        self.means = checkpoint["means"]

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        time.sleep(self.config.pause)
        means = torch.stack([self.means.get(category, torch.zeros_like(images[0])) for category in categories])
        distance = self.config.scale * (images - means).abs().mean(dim=1)
        return Prediction(distance.amax(dim=(1, 2)), distance)
