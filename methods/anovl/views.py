"""The 22 views of a test image whose mean is AnoVL's image score."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

_ANGLES = tuple(sign * k * math.pi / 16 for k in (1, 2, 3, 4) for sign in (1, -1))
_SHIFTS = tuple((x * far, y * far) for far in (0.1, 0.2) for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)))
_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


def altered(images: Tensor) -> Iterator[Tensor]:
    """Square images (B, 3, S, S) in 21 other views, each as many.

    Turned by multiples of pi / 16 up to pi / 4 both ways; shifted to four sides by 0.1 and by 0.2 of half the side;
    mirrored; grey; turned by one, two and three quarters. What lies outside is mirrored.
    """
    for angle in _ANGLES:
        cosine, sine = math.cos(angle), math.sin(angle)
        yield _resample(images, ((cosine, -sine, 0.0), (sine, cosine, 0.0)))
    for x, y in _SHIFTS:
        yield _resample(images, ((1.0, 0.0, x), (0.0, 1.0, y)))
    yield images.flip(3)
    yield (images * torch.tensor(_LUMA).to(images).view(3, 1, 1)).sum(dim=1, keepdim=True).expand_as(images)
    for quarters in (1, 2, 3):
        yield images.rot90(quarters, (2, 3))


def _resample(images: Tensor, matrix: tuple[tuple[float, float, float], ...]) -> Tensor:
    theta = torch.tensor(matrix).to(images).expand(len(images), -1, -1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
