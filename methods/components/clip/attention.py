"""Self-attention of a frozen CLIP block, written as pure functions of its weights."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def attention_residual(block: Any, x: Tensor) -> Tensor:
    """Tokens with the block's own attention added, its MLP not: x + Attn(LN1(x)).

    Args:
        block: an open_clip `ResidualAttentionBlock`.
        x: tokens, (B, N, width).

    Returns:
        (B, N, width).
    """
    residual: Tensor = x + block.ls_1(block.attention(block.ln_1(x)))
    return residual


def value_value_attention(block: Any, x: Tensor) -> Tensor:
    """Attention whose queries and keys are its values: O(softmax(v v^T / sqrt(d)) v), v = V(LN1(x)).

    CLIP Surgery (arXiv:2304.05653, section 3.2); projections and output bias are the block's own.

    Args:
        block: an open_clip `ResidualAttentionBlock`.
        x: tokens the values are read from, (B, N, width).

    Returns:
        The attention output before any residual sum, (B, N, width).
    """
    attn = block.attn
    width = x.shape[-1]
    weight, bias = attn.in_proj_weight[-width:], attn.in_proj_bias[-width:]  # the value rows of q, k, v
    values = F.linear(block.ln_1(x), weight, bias)
    heads = values.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)  # (B, heads, N, width / heads)
    mixed = F.scaled_dot_product_attention(heads, heads, heads)
    output: Tensor = block.ls_1(attn.out_proj(mixed.transpose(1, 2).flatten(2)))
    return output


def insert_tokens(x: Tensor, tokens: Tensor, start: int) -> Tensor:
    """Put `tokens` (n, width) or (B, n, width) before token `start` of `x` (B, N, width): (B, N + n, width)."""
    rows = tokens.to(x.dtype).expand(len(x), -1, -1)
    return torch.cat([x[:, :start], rows, x[:, start:]], dim=1)


def replace_tokens(x: Tensor, tokens: Tensor, start: int) -> Tensor:
    """Put `tokens` (n, width) or (B, n, width) over tokens `start:start + n` of `x` (B, N, width), out of place."""
    rows = tokens.to(x.dtype).expand(len(x), -1, -1)
    return torch.cat([x[:, :start], rows, x[:, start + rows.shape[1] :]], dim=1)
