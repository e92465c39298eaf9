"""Prompts of both towers, at each prompted block joined by a projection of the other tower's (arXiv:2408.13516)."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from methods.components.clip.attention import replace_tokens
from methods.components.clip.backbone import CLIPBackbone, Tokens
from methods.components.clip.depth import in_proportion
from methods.components.clip.weights import check_choice
from methods.components.prompts import new_prompt

Sides = Literal["both", "text", "visual"]
Coupling = Literal["both", "none", "text_to_image", "image_to_text"]


class BlockPrompts(NamedTuple):
    """What blocks 0 to J - 1 of each tower see; empty for a tower without prompts."""

    text: tuple[Tensor, ...]  # J of (n, W)
    visual: tuple[Tensor, ...]  # J of (m, width)


class CoupledPrompts(nn.Module):
    """Learnt prompts of J blocks of both towers.

    A tower that receives sees its own prompts followed by a linear projection of the other's own ones, so both
    directions take one step and there is no loop to resolve. MaPLe (arXiv:2210.03117) has one direction only and the
    projection in the place of own prompts. Projections begin as `nn.Linear` does, as in MaPLe's released code.
    """

    def __init__(
        self,
        backbone: CLIPBackbone,
        *,
        depth: int | None,
        n_text: int,
        n_visual: int,
        sides: Sides = "both",
        coupling: Coupling = "both",
        share_projections: bool = False,
    ) -> None:
        """Initialise prompts and projections.

        Args:
            backbone: whose towers they fit.
            depth: J, the blocks with prompts; None takes 9 of 12 of the shallower tower.
            n_text: own tokens of a text block.
            n_visual: own tokens of an image block.
            sides: towers with prompts; where it is one alone nothing is coupled.
            coupling: which tower receives.
            share_projections: one projection for all blocks instead of one each.

        Raises:
            ValueError: a number is out of range.
            BackboneError: no such side or coupling.
        """
        super().__init__()
        deepest = min(backbone.n_text_blocks, backbone.n_image_blocks)
        depth = in_proportion(9, 12, deepest) if depth is None else depth
        if not 1 <= depth <= deepest or min(n_text, n_visual) < 1:
            raise ValueError(
                f"Coupled prompts have depth 1 to {deepest}, the blocks of the shallower tower, and 1 or more tokens "
                f"each; got depth {depth}, {n_text} text tokens and {n_visual} visual tokens."
            )
        check_choice("sides", sides, ("both", "text", "visual"))
        check_choice("coupling", coupling, ("both", "none", "text_to_image", "image_to_text"))
        text, image, count = backbone.text_width, backbone.image_width, 1 if share_projections else depth
        self.text = None if sides == "visual" else new_prompt(depth, n_text, text)
        self.visual = None if sides == "text" else new_prompt(depth, n_visual, image)
        to_text = sides == "both" and coupling in ("both", "image_to_text")
        to_visual = sides == "both" and coupling in ("both", "text_to_image")
        self.to_text = nn.ModuleList([nn.Linear(image, text) for _ in range(count * to_text)])
        self.to_visual = nn.ModuleList([nn.Linear(text, image) for _ in range(count * to_visual)])

    def forward(self) -> BlockPrompts:
        """The prompts of each block, projections included."""
        text, visual = (() if own is None else own.unbind() for own in (self.text, self.visual))
        return BlockPrompts(_extend(text, visual, self.to_text), _extend(visual, text, self.to_visual))

    @property
    def n_text(self) -> int:
        """Tokens that a text block sees, received ones included."""
        text = self().text
        return len(text[0]) if text else 0


def _extend(own: Iterable[Tensor], other: Iterable[Tensor], projections: nn.ModuleList) -> tuple[Tensor, ...]:
    """Own prompts of each block and after them the other tower's projected, if there are projections."""
    if not projections:
        return tuple(own)
    pairs = zip(own, other, cycle(projections), strict=False)  # one projection for all blocks, or one each
    return tuple(torch.cat([mine, project(theirs)]) for mine, theirs, project in pairs)


class ClassTexts(nn.Module):
    """A normal and an abnormal text for each category: learnt tokens, then the object's name or "abnormal" and it."""

    embeddings: Tensor  # (K, 2, C, W)

    def __init__(self, backbone: CLIPBackbone, names: Mapping[str, str], n_learnt: int) -> None:
        """Tokenise the templates of `names` (category to words), with room for `n_learnt` tokens.

        Raises:
            BackboneError: a text is longer than the text tower's context.
        """
        super().__init__()
        self.rows = {category: row for row, category in enumerate(names)}
        places = "N " * n_learnt  # any word of one token holds a place
        texts = [f"{places}{words}." for name in names.values() for words in (name, f"abnormal {name}")]
        tokens = backbone.tokenize(texts)
        self.ids = tokens.ids.unflatten(0, (-1, 2))  # (K, 2, C), on the CPU
        self.register_buffer("embeddings", tokens.embeddings.unflatten(0, (-1, 2)), persistent=False)

    def encode(self, backbone: CLIPBackbone, prompts: Sequence[Tensor], categories: Sequence[str]) -> Tensor:
        """Unit features of the texts of K categories, (K, 2, D), row 0 normal; both share the prompts, J of (n, W).

        The first prompts get positions as words have them, later ones replace what their predecessors became.
        """
        rows = [self.rows[category] for category in categories]
        ids, embeddings = self.ids[rows].flatten(0, 1), self.embeddings[rows].flatten(0, 1)
        if prompts:
            embeddings = replace_tokens(embeddings, prompts[0], start=1)
        features: Tensor = backbone.encode_text(Tokens(ids, embeddings), deep_prompts=prompts[1:]).unflatten(0, (-1, 2))
        return features
