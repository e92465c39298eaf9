"""Semantic concatenation: words after a normal prompt make it an anomalous one (PromptAD, arXiv:2404.05231)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.components.attention import replace_tokens
from methods.components.backbone import BackboneError, CLIPBackbone, Tokens
from methods.components.prompts import Unchanged, join, new_prompt, write_context


class ConcatenatedTexts(NamedTuple):
    """The texts of one category; P, A and Q as in `ConcatenatedPrompts`."""

    normal: Tokens  # (P, C)
    manual: Tokens  # (A·P, C), all P contexts in the first state, then in the next
    learnt: Tokens  # (P·Q, C), all P contexts with the first suffix, then with the next


class ConcatenatedFeatures(NamedTuple):
    """Features of these texts, not normalised."""

    normal: Tensor  # (P, D)
    manual: Tensor  # (A·P, D)
    learnt: Tensor  # (P·Q, D)

    @property
    def anomalous(self) -> Tensor:
        """All anomalous ones, (A·P + P·Q, D)."""
        return torch.cat([self.manual, self.learnt])

    @property
    def prototypes(self) -> Tensor:
        """Normalised means of the normal and of the anomalous ones, (2, D), row 0 normal."""
        return F.normalize(torch.stack([self.normal.mean(dim=0), self.anomalous.mean(dim=0)]), dim=-1)


class _Rows(NamedTuple):
    """Where the templates of one category stand."""

    normal: int
    states: range
    learnt: int
    suffix_at: int  # position of the learnt suffix in its template


class ConcatenatedPrompts(nn.Module):
    """P learnt normal contexts and Q learnt anomalous suffixes, shared by all categories.

    A normal text is a context and the object's name. Each makes A + Q anomalous ones: A hand-written states take the
    place of the name, Q learnt suffixes stand beside it.
    """

    ids: Tensor  # (S, C) all templates, category by category
    embeddings: Tensor  # (S, C, W)

    def __init__(
        self,
        backbone: CLIPBackbone,
        names: Mapping[str, str],
        states: Mapping[str, Sequence[str]],
        *,
        n_prompts: int,
        n_ctx: int,
        n_suffixes: int,
        n_ctx_suffix: int,
        after_name: bool = True,
        all_pairs: bool = True,
    ) -> None:
        """Draw contexts and suffixes.

        Args:
            backbone: whose text tower they fit.
            names: category to the words that name its object.
            states: category to its A anomalous states, each with "{}" in the place of the name.
            n_prompts: P.
            n_ctx: tokens of a context.
            n_suffixes: Q.
            n_ctx_suffix: tokens of a suffix.
            after_name: False puts the learnt suffix between context and name.
            all_pairs: False joins context i mod P with suffix i mod Q, which repeats pairs and leaves others out
                where P and Q have a common divisor.

        Raises:
            ValueError: a number is below 1.
            BackboneError: a text is longer than the text tower's context.
        """
        super().__init__()
        if min(n_prompts, n_ctx, n_suffixes, n_ctx_suffix) < 1:
            raise ValueError(
                "Prompts, suffixes and their tokens must be 1 or more each; got "
                f"{n_prompts} prompts of {n_ctx} and {n_suffixes} suffixes of {n_ctx_suffix} tokens."
            )
        index = torch.arange(n_prompts * n_suffixes)
        self.pairs = index % n_prompts, index // n_prompts if all_pairs else index % n_suffixes
        self.rows: dict[str, _Rows] = {}
        templates: list[Tokens] = []
        first = 0
        for category, name in names.items():
            texts = _write_templates(name, states[category], n_ctx, n_ctx_suffix, after_name=after_name)
            templates.append(_tokenize(backbone, category, texts))
            last = first + len(texts) - 1
            name_length = len(backbone.tokenizer.encode(name)) if after_name else 0
            self.rows[category] = _Rows(first, range(first + 1, last), last, 1 + n_ctx + name_length)
            first = last + 1
        ids, embeddings = join(*templates)
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("embeddings", embeddings, persistent=False)
        self.normal_ctx = new_prompt(n_prompts, n_ctx, backbone.text_width)
        self.anomalous_ctx = new_prompt(n_suffixes, n_ctx_suffix, backbone.text_width)
        self._prototypes = Unchanged[Tensor]()

    def forward(self, category: str) -> ConcatenatedTexts:
        """The texts of one category with what is learnt written in."""
        rows = self.rows[category]
        contexts, suffixes = self.pairs
        ids, embeddings = write_context(self._template(rows.learnt), self.normal_ctx[contexts])
        return ConcatenatedTexts(
            normal=write_context(self._template(rows.normal), self.normal_ctx),
            manual=join(*(write_context(self._template(row), self.normal_ctx) for row in rows.states)),
            learnt=Tokens(ids, replace_tokens(embeddings, self.anomalous_ctx[suffixes], rows.suffix_at)),
        )

    def encode(self, backbone: CLIPBackbone, category: str) -> ConcatenatedFeatures:
        """Features of the texts of one category, all in one pass."""
        texts = self(category)
        features = backbone.encode_text(join(*texts), normalise=False)
        return ConcatenatedFeatures(*features.split([len(part.ids) for part in texts]))

    def prototypes(self, backbone: CLIPBackbone, categories: Sequence[str]) -> Tensor:
        """Prototypes for each of B category keys, (B, 2, D); kept while nothing is learnt."""
        known = self._prototypes(self.parameters(), partial(self._encode_prototypes, backbone))
        rows = list(self.rows)
        return known[[rows.index(category) for category in categories]]

    def _encode_prototypes(self, backbone: CLIPBackbone) -> Tensor:
        return torch.stack([self.encode(backbone, category).prototypes for category in self.rows])

    def _template(self, row: int) -> Tokens:
        """Ids (1, C)."""
        return Tokens(self.ids[row : row + 1], self.embeddings[row : row + 1])


def _write_templates(name: str, states: Sequence[str], n_ctx: int, n_ctx_suffix: int, *, after_name: bool) -> list[str]:
    """The normal text, one for each state, and one with a learnt suffix; N and A hold the places of learnt tokens."""
    context, suffix = " ".join("N" * n_ctx), " ".join("A" * n_ctx_suffix)
    learnt = f"{name} {suffix}" if after_name else f"{suffix} {name}"
    return [f"{context} {words}." for words in (name, *(state.format(name) for state in states), learnt)]


def _tokenize(backbone: CLIPBackbone, category: str, texts: Sequence[str]) -> Tokens:
    try:
        return backbone.tokenize(texts)
    except BackboneError as error:
        raise BackboneError(
            f"A prompt of {category!r} is too long: its learnt tokens (each N or A holds the place of one), the "
            f"object's name and a state together. {error}"
        ) from error
