"""From patch features to maps of both classes, and the smoothing of maps. Class 0 is normal, class 1 anomalous."""

import torch
import torch.nn.functional as F
from torch import Tensor

_TRUNCATE = 4.0  # standard deviations at which scipy's Gaussian ends


def class_probabilities(features: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Probabilities of both texts; unlike one minus the other, each keeps its precision near 0.

    Args:
        features: unit features, (B, N, D).
        text: unit features of the normal and the anomalous text, (2, D), or a pair for each image, (B, 2, D).
        temperature: what the cosines are divided by.

    Returns:
        (B, N, 2), rows sum to 1.

    Raises:
        ValueError: `temperature` is not above 0.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0; got {temperature}.")
    return (features @ text.transpose(-1, -2) / temperature).softmax(dim=-1)


def class_maps(values: Tensor, grid: tuple[int, int], size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Lay what C classes get from patches (B, N, C), in raster order, out on `grid`; resize bilinearly: (B, C, h, w).

    `align_corners` as in `scoring.to_map`.
    """
    on_grid = values.transpose(1, 2).unflatten(2, grid)  # (B, C, rows, columns)
    return F.interpolate(on_grid, size, mode="bilinear", align_corners=align_corners)


def gaussian_smooth(maps: Tensor, sigma: float) -> Tensor:
    """Smooth like `scipy.ndimage.gaussian_filter` with its defaults: mirrored edges, cut off at four deviations.

    Each axis is one product with a banded matrix, whatever the device and however far the Gaussian reaches over the
    edge.

    Args:
        maps: (B, H, W).
        sigma: standard deviation in pixels; 0 leaves the maps as they are.

    Returns:
        (B, H, W) of the same type.

    Raises:
        ValueError: `sigma` is negative.
    """
    if sigma < 0:
        raise ValueError(f"sigma must be 0 or more pixels; got {sigma}.")
    height, width = maps.shape[-2:]
    smooth = {side: _smoothing_matrix(side, sigma).to(maps.dtype).to(maps.device) for side in {height, width}}
    return smooth[height] @ maps @ smooth[width].T


def _smoothing_matrix(side: int, sigma: float) -> Tensor:
    """Row i holds what each of `side` pixels gives to pixel i, (side, side) float64, rows sum to 1."""
    if sigma == 0:
        return torch.eye(side, dtype=torch.float64)
    radius = int(_TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    weights /= weights.sum()
    pixels = (torch.arange(side).unsqueeze(1) + offsets) % (2 * side)  # (side, 2 radius + 1), period of the mirror
    pixels = torch.minimum(pixels, 2 * side - 1 - pixels)  # d c b a | a b c d | d c b a
    return torch.zeros(side, side, dtype=torch.float64).scatter_add_(1, pixels, weights.expand(side, -1))
