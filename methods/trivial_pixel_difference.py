"""Trivial floor: what is left of an image when the most similar shot is subtracted? No network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone
from methods.components.maps import gaussian_smooth
from methods.components.memory import ShotMemory
from methods.components.prediction import Prediction


class TrivialPixelDifference(Method["TrivialPixelDifference.Config"]):
    """A floor: what a method gains over it was not there to be had for nothing.

    With x the image, s each of the k shots of its category, both in [0, 1], and G a Gaussian blur,

        map(p) = min over s of G(mean over channels of |x - s|)(p),    score = max over p of map(p).

    The backbone says only how large the images are.
    """

    paper = ""
    protocols = ("few_shot", "multi_class")
    needs = ("category",)

    @dataclass(kw_only=True)
    class Config:
        """Settings.

        Attributes:
            sigma: standard deviation of the blur, in pixels of the image as it is seen; 0 for none.
        """

        sigma: Annotated[float, ">= 0"] = 4.0

    def __init__(self, backbone: CLIPBackbone, categories: Mapping[str, str], config: Config | None = None) -> None:
        super().__init__(backbone, categories, config)
        self.memory = ShotMemory()

    def adapt(self, shots: Tensor, category: str) -> None:
        self.memory.remember(category, [shots.unsqueeze(1)])  # the image itself is its one feature

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        anomaly_map = torch.empty_like(images[:, 0])
        for rows, (shots,) in self.memory.by_category(categories, images.device):
            differences = [(images[rows] - shot).abs().mean(dim=1) for shot in shots]
            blurred = torch.stack([gaussian_smooth(each, self.config.sigma) for each in differences])
            anomaly_map[rows] = blurred.amin(dim=0)
        return Prediction(anomaly_map.amax(dim=(1, 2)), anomaly_map)
