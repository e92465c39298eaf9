"""The text tower of a CLIP: from words to tokens, from tokens to features."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from methods.components.clip.attention import replace_tokens
from methods.components.clip.weights import BackboneError


class Tokens(NamedTuple):
    """A tokenised text with its embeddings, which a prompt learner may replace."""

    ids: Tensor  # (T, C) long, C at most the context length; on the CPU, where a length is read without waiting
    embeddings: Tensor  # (T, C, W)


def tokenize(tokenizer: Any, texts: Sequence[str], context_length: int) -> Tensor:
    """Ids of `texts`, (T, context_length) long, padded with 0.

    Raises:
        BackboneError: a text is longer than the context.
    """
    if isinstance(texts, str):
        raise BackboneError(f"Expected a sequence of texts, got the one text {texts!r}.")
    for text in texts:
        count = len(tokenizer.encode(text)) + 2  # start and end
        if count > context_length:
            raise BackboneError(f"A text has at most {context_length} tokens with start and end; {text!r} has {count}.")
    ids: Tensor = tokenizer(list(texts), context_length=context_length)
    return ids


def end_positions(clip: Any, ids: Tensor) -> Tensor:
    """Index of each text's end-of-text token, (T,) where `ids` are, found as the model does."""
    marks = (ids == clip.text_eos_id).int() if clip.text_pool_type == "eos" else ids  # CLIP's end is its largest id
    return marks.argmax(dim=-1)


def run_text(clip: Any, tokens: Tokens, deep_prompts: Sequence[Tensor], deep_start: int) -> Tensor:
    """Features of `tokens`, (T, D), not normalised.

    Positions after the longest text's end are cut off: attention is causal, so no end sees them.
    """
    ends = end_positions(clip, tokens.ids)
    length = int(ends.max()) + 1
    x = tokens.embeddings[:, :length] + clip.positional_embedding[:length]  # (T, C', W)
    mask = clip.attn_mask[:length, :length]
    for index, block in enumerate(clip.transformer.resblocks):
        if deep_start <= index < deep_start + len(deep_prompts):
            x = replace_tokens(x, deep_prompts[index - deep_start], start=1)
        x = block(x, attn_mask=mask)
    rows = torch.arange(len(x), device=x.device)
    x = clip.ln_final(x[rows, ends.to(x.device, non_blocking=x.is_cuda)])  # (T, W)
    projection = clip.text_projection
    features: Tensor = projection(x) if isinstance(projection, nn.Linear) else x @ projection
    return features


def check_tokens(clip: Any, tokens: Tokens, deep_prompts: Sequence[Tensor], deep_start: int) -> None:
    """Raise a BackboneError unless `tokens` and `deep_prompts` fit the tower."""
    ids, embeddings = tokens
    if ids.device.type != "cpu":
        raise BackboneError(f"Token ids stay on the CPU, whatever the device of the embeddings; got {ids.device}.")
    context, width = clip.positional_embedding.shape
    if not len(ids) or embeddings.shape != (*ids.shape, width) or ids.shape[1] > context:
        raise BackboneError(
            f"Tokens must be ids (T, C) with embeddings (T, C, {width}), T > 0 and C <= {context}; got "
            f"{tuple(ids.shape)} and {tuple(embeddings.shape)}."
        )
    n_blocks = len(clip.transformer.resblocks)
    if deep_start < 0 or deep_start + len(deep_prompts) > n_blocks:
        raise BackboneError(
            f"Deep text prompts go before blocks 0 to {n_blocks - 1}; got {len(deep_prompts)} from block {deep_start}."
        )
    if not deep_prompts:
        return
    shortest = int(end_positions(clip, ids).min())
    for prompt in deep_prompts:
        fits = prompt.ndim in (2, 3) and prompt.shape[-1] == width and prompt.shape[-2] < shortest
        if not fits or (prompt.ndim == 3 and len(prompt) != len(ids)):
            raise BackboneError(
                f"A deep text prompt is (n, {width}) or ({len(ids)}, n, {width}) with n < {shortest}, the first end of "
                f"text, which it must not overwrite; got {tuple(prompt.shape)}."
            )
