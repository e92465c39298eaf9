"""Breaks in the way it is told to."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from methods.components.base import Method, Prediction


class ToyBreaks(Method):
    paper = "https://example.org/toy"
    protocols = ("few_shot",)

    @dataclass(kw_only=True)
    class Config:
        category: str = "metal_nut"
        how: str = "raise"

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        anomaly_map = images.mean(dim=1)
        if self.config.category in categories:
            if self.config.how == "raise":
                raise RuntimeError("broken on purpose")
            if self.config.how == "nan":
                anomaly_map = torch.full_like(anomaly_map, torch.nan)
            if self.config.how == "shape":
                anomaly_map = anomaly_map[0]
            if self.config.how == "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
        return Prediction(images.mean(dim=(1, 2, 3)), anomaly_map)
