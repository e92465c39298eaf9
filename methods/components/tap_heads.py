"""Learnt linear maps of what is tapped between the blocks of the image tower."""

import torch
from torch import Tensor, nn


class TapHeads(nn.Module):
    """One linear map for each tapped block, most often into the joint space (APRIL-GAN, arXiv:2305.17382)."""

    def __init__(self, n_taps: int, width: int, out_width: int, *, bias: bool = True) -> None:
        """Initialise L heads as torch does, uniformly within 1 / sqrt(width).

        Args:
            n_taps: L, tapped blocks.
            width: of a tapped token.
            out_width: D, of what a head gives.
            bias: whether a head adds one.
        """
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, out_width, bias=bias) for _ in range(n_taps))

    def forward(self, taps: Tensor) -> Tensor:
        """Each tap through its own head: (L, B, N, width) to (L, B, N, D), not normalised.

        Raises:
            ValueError: there are more taps or fewer than heads.
        """
        if len(taps) != len(self.heads):
            raise ValueError(f"There are {len(self.heads)} heads, one for each tap; got {len(taps)} taps.")
        return torch.stack([head(tap) for head, tap in zip(self.heads, taps, strict=True)])
