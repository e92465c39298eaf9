"""An image at twice the side that CLIP reads: once whole and reduced, and in four tiles of full detail."""

import torch
import torch.nn.functional as F
from torch import Tensor

#: Views of an image: the whole one, then the tiles in raster order.
VIEWS = 5
#: Share of masked pixels above which a view is anomalous.
ANOMALOUS_AREA = 0.001


def cut_views(images: Tensor) -> Tensor:
    """The whole image and its tiles.

    The whole one is reduced like every image that the suite reads, bicubically with antialiasing, so that it looks as
    it does at test time.

    Args:
        images: (B, 3, 2S, 2S) in [0, 1].

    Returns:
        (B, 5, 3, S, S) in [0, 1].

    Raises:
        ValueError: the sides are not equal or not even.
    """
    quarters = _quarters(images)
    side = images.shape[-1] // 2
    whole = F.interpolate(images, (side, side), mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
    return torch.stack([whole, *quarters], dim=1)


def cut_masks(masks: Tensor) -> Tensor:
    """The masks of `cut_views`: a pixel of the whole view is anomalous if any of the 2 x 2 below it is.

    Args:
        masks: (B, 2S, 2S) bool.

    Returns:
        (B, 5, S, S) bool.

    Raises:
        ValueError: the sides are not equal or not even.
    """
    quarters = _quarters(masks)
    rows = masks[:, ::2] | masks[:, 1::2]
    return torch.stack([rows[..., ::2] | rows[..., 1::2], *quarters], dim=1)


def view_labels(masks: Tensor) -> Tensor:
    """Whether more than 0.1 % of a view is masked: (B, 5, S, S) bool to (B, 5) bool."""
    return masks.float().mean(dim=(-2, -1)) > ANOMALOUS_AREA


def _quarters(images: Tensor) -> list[Tensor]:
    """The four tiles in raster order, (..., 2S, 2S) to (..., S, S)."""
    height, width = images.shape[-2:]
    if height != width or height % 2:
        raise ValueError(f"views are cut from squares of an even side; got {height} x {width} pixels.")
    return [tile for half in images.chunk(2, dim=-2) for tile in half.chunk(2, dim=-1)]
