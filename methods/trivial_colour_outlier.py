"""Trivial floor: how far is the colour of a square from the image's usual colour? No network, no shots."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from methods.components.base import Method
from methods.components.prediction import Prediction
from methods.components.scoring import to_grid
from methods.components.squares import square_colours


class TrivialColourOutlier(Method["TrivialColourOutlier.Config"]):
    """A floor: what a method gains over it was not there to be had for nothing.

    With c(p) the mean colour of square p, and the median taken channel by channel over the squares of the same image,

        map(p) = ||c(p) - median over r of c(r)||,    score = max over p of map(p).

    The backbone says only how large the images are.
    """

    paper = ""
    protocols = ("zero_shot",)

    @dataclass(kw_only=True)
    class Config:
        """Settings.

        Attributes:
            squares: parts per side of the image, whose colours are compared.
        """

        squares: Annotated[int, ">= 1"] = 16

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        means = square_colours(images, self.config.squares)[..., :3]  # (B, N, 3)
        usual = means.quantile(0.5, dim=1, keepdim=True)  # unlike torch's median, the mean of the two middle values
        distance = (means - usual).norm(dim=-1)  # (B, N)
        return Prediction(distance.amax(dim=-1), to_grid(distance, (self.config.squares, self.config.squares)))
