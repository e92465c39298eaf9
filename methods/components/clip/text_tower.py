"""The text tower of a CLIP: from words to tokens, from tokens to features."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from methods.components.clip.attention import replace_tokens
from methods.components.clip.weights import BackboneError

_TOKENS_AT_ONCE = 1024  # of the texts of one tree, whose attention is a matrix of its nodes


class Tokens(NamedTuple):
    """A tokenised text with its embeddings, which a prompt learner may replace."""

    ids: Tensor  # (T, C) long, C at most the context length; on the CPU, where a length is read without waiting
    embeddings: Tensor  # (T, C, W)
    sources: Tensor | None = None  # (T, C, K) long, on the CPU: embeddings of equal K numbers are equal in whatever is
    # learnt, not in value alone, so that a start that texts share is computed once; None shares nothing


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

    Attention is causal, so no end sees what comes after it, and texts of one start see the same. Positions after the
    longest text's end are cut off; with `sources` and without deep prompts every other repetition is too.
    """
    ends = end_positions(clip, tokens.ids)
    if tokens.sources is not None and not deep_prompts:
        x = _run_trees(clip, tokens.embeddings, tokens.sources, ends)
    else:
        x = _run_rows(clip, tokens, ends, deep_prompts, deep_start)
    x = clip.ln_final(x)  # (T, W)
    projection = clip.text_projection
    features: Tensor = projection(x) if isinstance(projection, nn.Linear) else x @ projection
    return features


def _run_rows(clip: Any, tokens: Tokens, ends: Tensor, deep_prompts: Sequence[Tensor], deep_start: int) -> Tensor:
    """What the blocks make of the ends, (T, W), one row for each text."""
    length = int(ends.max()) + 1
    x = tokens.embeddings[:, :length] + clip.positional_embedding[:length]  # (T, C', W)
    mask = clip.attn_mask[:length, :length]
    for index, block in enumerate(clip.transformer.resblocks):
        if deep_start <= index < deep_start + len(deep_prompts):
            x = replace_tokens(x, deep_prompts[index - deep_start], start=1)
        x = block(x, attn_mask=mask)
    rows = torch.arange(len(x), device=x.device)
    at_ends: Tensor = x[rows, ends.to(x.device, non_blocking=x.is_cuda)]
    return at_ends


class _Tree(NamedTuple):
    """Texts whose shared starts are one; a node is a token with all that stands before it."""

    texts: Tensor  # (n,) long, a text of each node
    positions: Tensor  # (n,) long, its place there
    mask: Tensor  # (n, n) float, 0 to what a node sees and -inf elsewhere
    ends: Tensor  # (t,) long, the nodes at the ends of the texts


def _run_trees(clip: Any, embeddings: Tensor, sources: Tensor, ends: Tensor) -> Tensor:
    """What the blocks make of the ends, (T, W), each node of a tree once."""
    words = sources[:, : int(ends.max()) + 1].numpy()
    features = []
    for tree in _grow_trees(words.tobytes(), words.shape, tuple(ends.tolist()), embeddings.device):
        x = embeddings[tree.texts, tree.positions] + clip.positional_embedding[tree.positions]  # (n, W)
        x = x.unsqueeze(0)
        for block in clip.transformer.resblocks:
            x = block(x, attn_mask=tree.mask)
        features.append(x[0, tree.ends])
    return torch.cat(features)


@lru_cache(maxsize=32)
def _grow_trees(
    sources: bytes, shape: tuple[int, ...], ends: tuple[int, ...], device: torch.device
) -> tuple[_Tree, ...]:
    """Trees of the texts in their order; kept, since a fit asks for the same in every step."""
    words = np.frombuffer(sources, np.int64).reshape(shape)  # (T, C', K)
    trees: list[_Tree] = []
    first, count = 0, 0
    with torch.inference_mode(False):  # so that a later fit may keep the trees for its gradients
        for text, end in enumerate(ends):
            if text > first and count + end + 1 > _TOKENS_AT_ONCE:
                trees.append(_grow(words, ends, range(first, text), device))
                first, count = text, 0
            count += end + 1
        return (*trees, _grow(words, ends, range(first, len(ends)), device))


def _grow(words: np.ndarray, ends: Sequence[int], texts: range, device: torch.device) -> _Tree:
    nodes: dict[tuple[int, bytes], int] = {}  # a token, by the node before it and its source
    places: list[tuple[int, int]] = []
    parents, last = [], []
    for text in texts:
        node = -1
        for position in range(ends[text] + 1):
            before, node = node, nodes.setdefault((node, words[text, position].tobytes()), len(nodes))
            if node == len(places):
                places.append((text, position))
                parents.append(before)
        last.append(node)
    seen = torch.eye(len(places), dtype=torch.bool)
    for node, before in enumerate(parents):
        if before >= 0:
            seen[node] |= seen[before]
    mask = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)
    text_of, position_of = torch.tensor(places).T
    return _Tree(*(tensor.to(device) for tensor in (text_of, position_of, mask, torch.tensor(last))))


def check_tokens(clip: Any, tokens: Tokens, deep_prompts: Sequence[Tensor], deep_start: int) -> None:
    """Raise a BackboneError unless `tokens` and `deep_prompts` fit the tower."""
    ids, embeddings, sources = tokens
    if ids.device.type != "cpu":
        raise BackboneError(f"Token ids stay on the CPU, whatever the device of the embeddings; got {ids.device}.")
    context, width = clip.positional_embedding.shape
    if not len(ids) or embeddings.shape != (*ids.shape, width) or ids.shape[1] > context:
        raise BackboneError(
            f"Tokens must be ids (T, C) with embeddings (T, C, {width}), T > 0 and C <= {context}; got "
            f"{tuple(ids.shape)} and {tuple(embeddings.shape)}."
        )
    if sources is not None and (sources.ndim != 3 or sources.shape[:2] != ids.shape or sources.device.type != "cpu"):
        raise BackboneError(
            f"Sources of tokens must be ({len(ids)}, {ids.shape[1]}, K) on the CPU; got {tuple(sources.shape)} on "
            f"{sources.device}."
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
