"""Multi-level learnable prompts: semantic concatenation and replacement on each view of a caption.

FineGrainedAD (arXiv:2510.26464): image, components and background have texts of their own. Attributes of the image are
mixed into its texts as token embeddings, before the text tower, not as features.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from methods.components.clip.backbone import CLIPBackbone, Tokens
from methods.components.prompts import Unchanged, new_prompt
from methods.components.semantic_concatenation import (
    ConcatenatedFeatures,
    ConcatenatedTemplates,
    ConcatenatedTexts,
    Slots,
    Words,
    encode_texts,
)
from methods.finegrainedad.words import LevelWords

N_ATTRIBUTES = 4  # relation, colour, texture, shape
_FIXED_SETS = 2  # of contexts that every category has: the image's and the background's


class LevelFeatures(NamedTuple):
    """Features of the texts of one category, not normalised."""

    image: ConcatenatedFeatures
    components: tuple[ConcatenatedFeatures, ...]
    background: ConcatenatedFeatures | None

    @property
    def regions(self) -> tuple[ConcatenatedFeatures, ...]:
        """What speaks of a part of the image: the components, then the background."""
        return self.components if self.background is None else (*self.components, self.background)

    @property
    def prototypes(self) -> Tensor:
        """Of the image, the components and the background, (J, 2, D); row 0 of each is normal."""
        return torch.stack([level.prototypes for level in (self.image, *self.regions)])


class MultiLevelPrompts(nn.Module):
    """Contexts and suffixes of all levels and the weights of attributes, shared by all categories.

    Of each level a normal text and, for each state, a manual anomalous one (of a component one in all) is joined with
    P contexts, and its normal text with Q suffixes too, as in PromptAD.
    """

    def __init__(
        self, backbone: CLIPBackbone, words: Mapping[str, LevelWords], slots: Slots, *, separate: bool = False
    ) -> None:
        """Initialise contexts, suffixes and attribute weights.

        Args:
            backbone: whose text tower they fit.
            words: of each category.
            slots: of the learnt tokens.
            separate: a set of contexts and suffixes for each level, rather than one for all.

        Raises:
            ValueError: a number of `slots` is below 1.
            BackboneError: a text is longer than the text tower's context.
        """
        super().__init__()
        self.levels = dict(words)
        things = {name: thing for key, said in words.items() for name, thing in _name_things(key, said).items()}
        self.templates = ConcatenatedTemplates(backbone, things, slots)
        most = max(len(said.components) for said in words.values())
        n_sets = _FIXED_SETS + most if separate else 1
        self.normal_ctx = new_prompt(n_sets, slots.n_prompts, slots.n_ctx, backbone.text_width)
        self.anomalous_ctx = new_prompt(n_sets, slots.n_suffixes, slots.n_ctx_suffix, backbone.text_width)
        # before the sigmoid; row 0 of normal texts, row 1 of anomalous ones
        self.attribute_weights = nn.Parameter(torch.randn(2, N_ATTRIBUTES))
        self._prototypes = Unchanged[Tensor]()

    def forward(self, category: str) -> list[ConcatenatedTexts]:
        """The texts of one category with what is learnt written in: image, components, background."""
        said = self.levels[category]
        components = [self._write(f"{category}, component {i}", 2 + i) for i in range(len(said.components))]
        background = [] if said.background is None else [self._write(f"{category}, background", 1)]
        return [self._mix(category), *components, *background]

    def encode(self, backbone: CLIPBackbone, category: str) -> LevelFeatures:
        """Features of all texts of one category, in one pass."""
        features = encode_texts(backbone, self(category))
        n_components = len(self.levels[category].components)
        background = None if self.levels[category].background is None else features[-1]
        return LevelFeatures(features[0], tuple(features[1 : 1 + n_components]), background)

    def prototypes(self, backbone: CLIPBackbone, categories: Sequence[str]) -> Tensor:
        """Prototypes of all levels for each of B category keys, (B, J, 2, D); kept while nothing is learnt.

        Image, components, background; where a category has fewer than J, the image's stand again behind them.
        """
        known = self._prototypes(self.parameters(), partial(self._encode_prototypes, backbone))
        rows = list(self.levels)
        return known[[rows.index(category) for category in categories]]

    def _encode_prototypes(self, backbone: CLIPBackbone) -> Tensor:
        each = [self.encode(backbone, category).prototypes for category in self.levels]
        most = max(map(len, each))
        return torch.stack([torch.cat([some, some[:1].expand(most - len(some), -1, -1)]) for some in each])

    def _mix(self, category: str) -> ConcatenatedTexts:
        """The image's texts, to whose embeddings those of the attributes are added, position by position."""
        texts = self._write(f"{category}, image", 0)
        n_attributes = len(self.levels[category].attributes)
        attributes = [self._write(f"{category}, attribute {i}", 0) for i in range(n_attributes)]
        normal, anomalous = self.attribute_weights.sigmoid()
        mixed = []
        for family, text in enumerate(texts):
            parts, weights = [each[family] for each in attributes], normal if family == 0 else anomalous
            added = [weight * part.embeddings for weight, part in zip(weights, parts, strict=False)]
            embeddings = torch.stack([text.embeddings, *added]).sum(dim=0)
            sources = [part.sources for part in (text, *parts) if part.sources is not None]
            weighted = torch.full_like(sources[0], family > 0)  # with the weights of normal or of anomalous texts
            mixed.append(Tokens(text.ids, embeddings, torch.cat([weighted, *sources], dim=-1)))
        return ConcatenatedTexts(*mixed)

    def _write(self, thing: str, level: int) -> ConcatenatedTexts:
        own = level if len(self.normal_ctx) > 1 else 0
        return self.templates.write(thing, self.normal_ctx[own], self.anomalous_ctx[own], own)


def _name_things(category: str, said: LevelWords) -> dict[str, Words]:
    """Everything that has texts, by the name it has in errors."""
    return {
        f"{category}, image": said.image,
        **{f"{category}, attribute {i}": words for i, words in enumerate(said.attributes)},
        **{f"{category}, component {i}": words for i, words in enumerate(said.components)},
        **({} if said.background is None else {f"{category}, background": said.background}),
    }
