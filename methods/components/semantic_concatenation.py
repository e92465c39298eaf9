"""Semantic concatenation: words after a normal prompt make it an anomalous one (PromptAD, arXiv:2404.05231)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.components.clip.attention import replace_tokens
from methods.components.clip.backbone import BackboneError, CLIPBackbone, Tokens
from methods.components.prompts import Unchanged, join, new_prompt


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


class Words(NamedTuple):
    """Texts about one thing, less their learnt tokens and the full stop behind."""

    normal: str
    manual: Sequence[str]  # A anomalous ones; the learnt ones are made of `normal`


class Slots(NamedTuple):
    """How many learnt tokens stand where."""

    n_prompts: int  # P
    n_ctx: int  # tokens of a context
    n_suffixes: int  # Q
    n_ctx_suffix: int  # tokens of a suffix
    after_name: bool = True  # False puts the learnt suffix between context and name
    all_pairs: bool = True  # False joins context i mod P with suffix i mod Q, which repeats and leaves out pairs if
    # P and Q have a common divisor


class _Rows(NamedTuple):
    """Where the templates of one thing stand."""

    normal: int
    manual: slice
    learnt: int
    suffix_at: int  # position of the learnt suffix in its template


class ConcatenatedTemplates(nn.Module):
    """Templates of texts, into which learnt tokens are written.

    Embeddings follow the device, and neither they nor the ids are in a state dict.
    """

    embeddings: Tensor  # (S, C, W) of all templates, thing by thing
    context_of: Tensor  # (P·Q,) long, of each learnt text
    suffix_of: Tensor  # (P·Q,) long

    def __init__(self, backbone: CLIPBackbone, words: Mapping[str, Words], slots: Slots) -> None:
        """Tokenise the templates.

        Args:
            backbone: whose text tower they fit.
            words: the texts of each thing; its key names it in errors.
            slots: see `Slots`.

        Raises:
            ValueError: a number of `slots` is below 1.
            BackboneError: a text is longer than the text tower's context.
        """
        super().__init__()
        n_prompts, n_ctx, n_suffixes, n_ctx_suffix = slots[:4]
        if min(slots[:4]) < 1:
            raise ValueError(
                "Prompts, suffixes and their tokens must be 1 or more each; got "
                f"{n_prompts} prompts of {n_ctx} and {n_suffixes} suffixes of {n_ctx_suffix} tokens."
            )
        index = torch.arange(n_prompts * n_suffixes)
        suffix_of = index // n_prompts if slots.all_pairs else index % n_suffixes
        self.register_buffer("context_of", index % n_prompts, persistent=False)
        self.register_buffer("suffix_of", suffix_of, persistent=False)
        self.rows: dict[str, _Rows] = {}
        self._n_learnt = n_prompts * n_ctx + n_suffixes * n_ctx_suffix
        templates: list[Tokens] = []
        first = 0
        for key, thing in words.items():
            texts = _write_templates(thing, slots)
            templates.append(_tokenize(backbone, key, texts))
            last = first + len(texts) - 1
            name_length = len(backbone.tokenizer.encode(thing.normal)) if slots.after_name else 0
            self.rows[key] = _Rows(first, slice(first + 1, last), last, 1 + n_ctx + name_length)
            first = last + 1
        self.ids, embeddings, _ = join(*templates)  # ids (S, C), on the CPU
        self.register_buffer("embeddings", embeddings, persistent=False)
        learnt = -1 - torch.arange(self._n_learnt)  # below all ids
        contexts = learnt[: n_prompts * n_ctx].view(n_prompts, n_ctx, 1)
        suffixes = learnt[n_prompts * n_ctx :].view(n_suffixes, n_ctx_suffix, 1)
        self._sources = {key: self._place(key, self.ids.unsqueeze(-1), contexts, suffixes) for key in self.rows}

    def write(self, key: str, contexts: Tensor, suffixes: Tensor, own: int = 0) -> ConcatenatedTexts:
        """The texts of one thing with contexts (P, n_ctx, W) and suffixes (Q, n_ctx_suffix, W) written in.

        `own` numbers these from 0, where there are several sets of contexts and suffixes.
        """
        rows, ids, n_prompts = self.rows[key], self.ids, len(contexts)
        all_ids = (
            ids[rows.normal].expand(n_prompts, -1),
            ids[rows.manual].repeat_interleave(n_prompts, dim=0),
            ids[rows.learnt].expand(len(self.context_of), -1),
        )
        sources = [each.where(each >= 0, each - own * self._n_learnt) for each in self._sources[key]]
        embeddings = self._place(key, self.embeddings, contexts, suffixes)
        return ConcatenatedTexts(*map(Tokens, all_ids, embeddings, sources))

    def _place(self, key: str, words: Tensor, contexts: Tensor, suffixes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normal, manual and learnt texts, (T, C, W) each, of templates (S, C, W)."""
        rows, n_prompts = self.rows[key], len(contexts)
        states = words[rows.manual]
        learnt = replace_tokens(words[rows.learnt].expand(len(self.context_of), -1, -1), contexts[self.context_of], 1)
        return (
            replace_tokens(words[rows.normal].expand(n_prompts, -1, -1), contexts, start=1),
            replace_tokens(states.repeat_interleave(n_prompts, dim=0), contexts.repeat(len(states), 1, 1), start=1),
            replace_tokens(learnt, suffixes[self.suffix_of], rows.suffix_at),
        )


class ConcatenatedPrompts(nn.Module):
    """P learnt normal contexts and Q learnt anomalous suffixes, shared by all categories.

    A normal text is a context and the object's name. Each makes A + Q anomalous ones: A hand-written states take the
    place of the name, Q learnt suffixes stand beside it.
    """

    def __init__(
        self, backbone: CLIPBackbone, names: Mapping[str, str], states: Mapping[str, Sequence[str]], slots: Slots
    ) -> None:
        """Initialise contexts and suffixes.

        Args:
            backbone: whose text tower they fit.
            names: category to the words that name its object.
            states: category to its A anomalous states, each with "{}" in the place of the name.
            slots: of the learnt tokens.

        Raises:
            ValueError: a number of `slots` is below 1.
            BackboneError: a text is longer than the text tower's context.
        """
        super().__init__()
        words = {key: object_words(name, states[key]) for key, name in names.items()}
        self.templates = ConcatenatedTemplates(backbone, words, slots)
        self.normal_ctx = new_prompt(slots.n_prompts, slots.n_ctx, backbone.text_width)
        self.anomalous_ctx = new_prompt(slots.n_suffixes, slots.n_ctx_suffix, backbone.text_width)
        self._prototypes = Unchanged[Tensor]()

    def forward(self, category: str) -> ConcatenatedTexts:
        """The texts of one category with what is learnt written in."""
        return self.templates.write(category, self.normal_ctx, self.anomalous_ctx)

    def encode(self, backbone: CLIPBackbone, category: str) -> ConcatenatedFeatures:
        """Features of the texts of one category, all in one pass."""
        return encode_texts(backbone, [self(category)])[0]

    def prototypes(self, backbone: CLIPBackbone, categories: Sequence[str]) -> Tensor:
        """Prototypes for each of B category keys, (B, 2, D); kept while nothing is learnt."""
        known = self._prototypes(self.parameters(), partial(self._encode_prototypes, backbone))
        rows = list(self.templates.rows)
        return known[[rows.index(category) for category in categories]]

    def _encode_prototypes(self, backbone: CLIPBackbone) -> Tensor:
        return torch.stack([self.encode(backbone, category).prototypes for category in self.templates.rows])


def object_words(name: str, states: Sequence[str]) -> Words:
    """The name of an object, and the same in each of its states ("{} with rust")."""
    return Words(name, [state.format(name) for state in states])


def encode_texts(backbone: CLIPBackbone, texts: Sequence[ConcatenatedTexts]) -> list[ConcatenatedFeatures]:
    """Features of each of `texts`, all in one pass."""
    parts = [part for each in texts for part in each]
    features = backbone.encode_text(join(*parts), normalise=False).split([len(part.ids) for part in parts])
    return [ConcatenatedFeatures(*features[i : i + 3]) for i in range(0, len(features), 3)]


def _write_templates(words: Words, slots: Slots) -> list[str]:
    """The normal text, the manual ones, and one with a learnt suffix; N and A hold the places of learnt tokens."""
    context, suffix = " ".join("N" * slots.n_ctx), " ".join("A" * slots.n_ctx_suffix)
    learnt = f"{words.normal} {suffix}" if slots.after_name else f"{suffix} {words.normal}"
    return [f"{context} {text}." for text in (words.normal, *words.manual, learnt)]


def _tokenize(backbone: CLIPBackbone, key: str, texts: Sequence[str]) -> Tokens:
    try:
        return backbone.tokenize(texts)
    except BackboneError as error:
        raise BackboneError(
            f"A prompt of {key!r} is too long: its learnt tokens (each N or A holds the place of one), the "
            f"object's name and a state together. {error}"
        ) from error
