"""Initial values of the image tower: filters fitted to the bank's patches, and sinusoidal positions."""

import torch
from torch import Tensor

_GAIN = 0.9  # deviation of a patch's embedding along each of its dimensions
_SPREAD = 0.3  # amplitude of the positions beside it
_SLOWEST = 100.0  # wave length of the slowest wave, in patches over 2 pi


def whitening(patches: Tensor, count: int) -> Tensor:
    """The first `count` principal directions of patches (n, width), each scaled to one variance: (count, width).

    With random filters the mean brightness of a patch drowns its detail, and the towers see no defect for long. The
    weakest directions, which hold the sensor's noise, are not raised all the way.
    """
    centred = (patches - patches.mean(dim=0)).double()
    variance, directions = torch.linalg.eigh(centred.T @ centred / len(patches))  # rising
    variance, directions = variance.flip(0)[:count], directions.flip(1)[:, :count]
    filters: Tensor = (directions / (variance + variance.median()).sqrt()).T.float() * _GAIN
    return filters


def waves(side: int, width: int) -> Tensor:
    """Sines and cosines of row and column, (side * side, width) in raster order."""
    count = width // 4
    frequency = _SLOWEST ** (-torch.arange(count) / count)
    phase = torch.arange(side).unsqueeze(1) * frequency
    line = torch.cat([phase.sin(), phase.cos()], dim=1)  # (side, width / 2)
    rows, columns = line.unsqueeze(1).expand(-1, side, -1), line.unsqueeze(0).expand(side, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1) * _SPREAD
