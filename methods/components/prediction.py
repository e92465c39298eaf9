"""What a method says of a batch of images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import interpolate

from methods.components.maps import gaussian_smooth


class Finish(NamedTuple):
    """How a map of a method's own grid becomes its anomaly map: enlarged bilinearly, then smoothed."""

    size: tuple[int, int] | None = None  # height and width; None leaves the grid as it is
    sigma: float = 0.0  # of the Gaussian, in pixels after enlarging
    align_corners: bool = False  # as in `scoring.to_map`

    def __call__(self, maps: Tensor) -> Tensor:
        """(B, rows, columns) to (B, h, w)."""
        if self.size is not None:
            maps = interpolate(maps.unsqueeze(1), self.size, mode="bilinear", align_corners=self.align_corners).squeeze(
                1
            )
        return gaussian_smooth(maps, self.sigma)


AS_IT_IS = Finish()


@dataclass
class Prediction:
    """Higher is more anomalous; only the order counts, no range is assumed. Unpacks into `score` and `anomaly_map`.

    Where the last that a method does to its map is to enlarge and smooth it, it says so by `finish` and leaves it to
    `anomaly_map`: the map of its own grid, some 3 KB an image, is kept, so that other choices can be tried later.
    """

    score: Tensor  # (B,)
    raw_map: Tensor  # (B, rows, columns), any resolution
    finish: Finish = AS_IT_IS

    @property
    def anomaly_map(self) -> Tensor:
        """The finished map, (B, h, w), any resolution; the evaluator resizes it."""
        return self.finish(self.raw_map)

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.score, self.anomaly_map))
