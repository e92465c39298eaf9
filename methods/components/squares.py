"""The colour of an image in a few squares."""

import torch
from torch import Tensor


def square_colours(images: Tensor, squares: int) -> Tensor:
    """Mean and standard deviation of each colour channel in squares x squares parts of the image.

    Where a side is no multiple of `squares`, the first rows or columns of squares are a pixel longer than the last.

    Args:
        images: (B, 3, H, W).
        squares: per side.

    Returns:
        (B, squares², 6), squares in raster order; three means, then three deviations.

    Raises:
        ValueError: `squares` is below 1 or above a side of the images.
    """
    side = min(images.shape[-2:])
    if not 1 <= squares <= side:
        raise ValueError(f"squares must be 1 to {side}, the side of the images in pixels; got {squares}.")
    parts = [part for row in images.tensor_split(squares, dim=2) for part in row.tensor_split(squares, dim=3)]
    means = torch.stack([part.mean(dim=(2, 3)) for part in parts], dim=1)
    deviations = torch.stack([part.std(dim=(2, 3), correction=0) for part in parts], dim=1)
    return torch.cat([means, deviations], dim=-1)
