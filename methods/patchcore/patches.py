"""From maps of several layers to one feature for each patch and its neighbourhood (PatchCore, section 3.1)."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Norm = Literal["none", "unit", "layer_norm"]


def normalise(tokens: Tensor, norm: Norm) -> Tensor:
    """Tokens (..., width) as they are, of unit length, or of mean 0 and deviation 1 over their channels.

    Raises:
        ValueError: there is no such norm.
    """
    if norm not in get_args(Norm):
        raise ValueError(f"norm must be one of {', '.join(get_args(Norm))}; got {norm!r}.")
    if norm == "unit":
        return F.normalize(tokens, dim=-1)
    return F.layer_norm(tokens, tokens.shape[-1:]) if norm == "layer_norm" else tokens


def cut_windows(maps: Tensor, side: int) -> Tensor:
    """What lies around each cell: (B, C, rows, columns) to (B, C·side², rows, columns), beyond the edge zeros.

    Entries are ordered by channel, then row, then column of the window.

    Args:
        maps: (B, C, rows, columns).
        side: of the windows, in cells; odd.
    """
    windows: Tensor = F.unfold(maps, side, padding=side // 2)  # (B, C·side², rows·columns)
    return windows.reshape(len(maps), -1, *maps.shape[-2:])


def window_features(maps: Tensor, side: int, grid: tuple[int, int], dim: int) -> Tensor:
    """Windows of one layer, enlarged to `grid` and pooled, (B, N, dim).

    The pooling runs over all entries of a window in their order, so that it averages each channel over the window where
    `dim` is C, and several channels where it is less.

    Args:
        maps: (B, C, rows, columns).
        side: of the windows, in cells of `maps`.
        grid: rows and columns of the finest layer; windows are cut before they are enlarged.
        dim: of a pooled window.
    """
    windows = cut_windows(maps, side)  # (B, C·side², rows, columns)
    if tuple(maps.shape[-2:]) != tuple(grid):
        windows = F.interpolate(windows, grid, mode="bilinear", align_corners=False)
    return F.adaptive_avg_pool1d(windows.flatten(2).transpose(1, 2), dim)


def patch_features(layers: Sequence[Tensor], side: int, layer_dim: int, dim: int) -> Tensor:
    """One feature for each cell of the first layer, (B, N, dim), cells in raster order.

    Args:
        layers: maps (B, C, rows, columns) of each layer, the finest first.
        side: of the neighbourhood of a cell.
        layer_dim: what each layer is pooled to.
        dim: what the layers, one after the other, are pooled to.
    """
    grid = (layers[0].shape[2], layers[0].shape[3])
    images = []
    for maps in zip(*(layer.split(1) for layer in layers), strict=True):  # windows of one image are side² times itself
        pooled = torch.cat(
            [window_features(each, side, grid, layer_dim) for each in maps], dim=-1
        )  # (1, N, L·layer_dim)
        images.append(F.adaptive_avg_pool1d(pooled, dim))
    return torch.cat(images)
