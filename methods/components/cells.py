"""The colour of an image in a few square cells."""

import torch
from torch import Tensor


def cell_colours(images: Tensor, cells: int) -> Tensor:
    """Mean and standard deviation of each colour channel in cells x cells parts of the image.

    Where a side is no multiple of `cells`, the first rows or columns of cells are a pixel longer than the last.

    Args:
        images: (B, 3, H, W).
        cells: per side.

    Returns:
        (B, cells², 6), cells in raster order; three means, then three deviations.

    Raises:
        ValueError: `cells` is below 1 or above a side of the images.
    """
    side = min(images.shape[-2:])
    if not 1 <= cells <= side:
        raise ValueError(f"cells must be 1 to {side}, the side of the images in pixels; got {cells}.")
    parts = [part for row in images.tensor_split(cells, dim=2) for part in row.tensor_split(cells, dim=3)]
    means = torch.stack([part.mean(dim=(2, 3)) for part in parts], dim=1)
    deviations = torch.stack([part.std(dim=(2, 3), correction=0) for part in parts], dim=1)
    return torch.cat([means, deviations], dim=-1)
