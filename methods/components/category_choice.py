"""Whose texts judge an image: those of the category that its label names, or of one that the image itself chooses."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

#: How the category is found whose texts judge an image; `choose_texts` says it.
TextChoice = Literal["known", "retrieved", "argmax"]


def choose_texts(
    choice: TextChoice,
    labels: Sequence[str],
    images: Tensor,
    texts: Tensor,
    categories: Sequence[str],
    nearest: Callable[[Tensor, Sequence[str]], Tensor],
) -> Tensor:
    """The row of `texts` that judges each of B images.

    "known": that of its label. "retrieved": that of the category whose shot is nearest to the image. "argmax": that of
    the category whose normal or anomalous text is most like the image, whichever of all 2K is. The last two never read
    the label. Of one category all three are the same.

    Args:
        choice: one of the three.
        labels: B category keys; "known" alone reads them.
        images: unit class features, (B, D).
        texts: unit prototypes of K categories, (K, 2, D), row 0 normal; "argmax" alone reads them.
        categories: the K keys, in the order of `texts`.
        nearest: class features and `categories` to the row of the category of the nearest shot, (B,), as
            `ShotMemory.nearest_category`; "retrieved" alone asks it.

    Returns:
        (B,) long, in [0, K).

    Raises:
        ValueError: no such choice, or a label that is none of `categories`.
    """
    if choice not in get_args(TextChoice):
        raise ValueError(f"text must be one of {', '.join(get_args(TextChoice))}; got {choice!r}.")
    if choice == "argmax":
        return (images @ texts.flatten(0, 1).T).argmax(dim=-1) // 2
    if choice == "retrieved":
        return nearest(images, categories)
    unknown = sorted(set(labels) - set(categories))
    if unknown:
        raise ValueError(f"categories must be among {', '.join(categories)}; got {', '.join(unknown)}.")
    return torch.tensor([categories.index(label) for label in labels], device=images.device)
