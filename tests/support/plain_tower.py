"""The ordinary image tower of a CLIP as its blocks have it, for transcriptions that share no code with methods."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def tokens_after(clip: Any, x: Tensor, blocks: Sequence[int]) -> list[Tensor]:
    """Tokens, class token first, after each of `blocks` (1 is the first), of normalised images: (B, 1 + N, width)."""
    visual = clip.visual
    x = visual.conv1(x)
    old, grid = visual.positional_embedding, x.shape[-2:]
    side = int(len(old[1:]) ** 0.5)
    square = old[1:].view(1, side, side, -1).permute(0, 3, 1, 2)
    positions = F.interpolate(square, grid, mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)[0]
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x.flatten(2).transpose(1, 2)], dim=1)
    x = visual.ln_pre(x + torch.cat([old[:1], positions]))
    after = []
    for block in visual.transformer.resblocks:
        x = block(x)
        after.append(x)
    return [after[number - 1] for number in blocks]
