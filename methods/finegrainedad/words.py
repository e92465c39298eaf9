"""The words of multi-level prompts (FineGrainedAD, arXiv:2510.26464), made of a caption and of anomalous states."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Self, TypeVar

import torch

from methods.components.captions.fields import refuse
from methods.components.captions.lookup import check_lengths, find_captions
from methods.components.captions.records import ATTRIBUTES, CaptionSet, Component, Vocabulary
from methods.components.captions.rules import shortages
from methods.components.captions.sentences import in_state, replace_words
from methods.components.clip.backbone import CLIPBackbone
from methods.components.semantic_concatenation import Slots, Words, object_words
from methods.components.states import GENERIC_STATES

Choice = TypeVar("Choice")
Lists = Sequence[Any]  # of a `Words`
Rank = Callable[[Sequence[str]], Sequence[str]]


class LevelWords(NamedTuple):
    """What is said of one category, level by level; A states."""

    image: Words  # A manual texts
    attributes: tuple[Words, ...]  # relation, colour, texture, shape, A manual texts each; or none
    components: tuple[Words, ...]  # E, one manual text each
    background: Words | None  # A manual texts

    @classmethod
    def of(
        cls, image: Lists, attributes: Sequence[Lists], components: Sequence[Lists], background: Lists | None
    ) -> Self:
        """The words that JSON made lists of."""
        return cls(
            Words(*image),
            tuple(Words(*lists) for lists in attributes),
            tuple(Words(*lists) for lists in components),
            None if background is None else Words(*background),
        )


def find_words(
    backbone: CLIPBackbone,
    names: Mapping[str, str],
    states: Mapping[str, Sequence[str]],
    source: str | None,
    slots: Slots,
    *,
    none_background: bool = False,
) -> dict[str, LevelWords]:
    """Words of each category; of one without a caption PromptAD's, of the image alone.

    Args:
        backbone: whose text tower they fit.
        names: category to the words that name its object.
        states: category to its anomalous states. Where it has states of its own and a caption, the generic ones are
            left out, as in the released code.
        source: name or path of a set of captions that is looked at before the shipped ones.
        slots: of the learnt tokens.
        none_background: see `level_words`.

    Raises:
        CaptionError: a set is absent, a record breaks a rule, or makes prompts that are too long.
    """
    rank = partial(rank_by_embedding, backbone, slots.n_ctx)
    words = {}
    for category, name in names.items():
        captions = find_captions(category, sources=() if source is None else (source,))
        if captions is None:
            words[category] = LevelWords(object_words(name, states[category]), (), (), None)
            continue
        own = states[category][len(GENERIC_STATES) :] or states[category]
        n_learnt = slots.n_ctx + slots.n_ctx_suffix
        check_lengths(captions, category, own, lambda text: len(backbone.tokenizer.encode(text)), n_learnt=n_learnt)
        words[category] = level_words(captions, category, own, rank, none_background=none_background)
    return words


def without_captions(words: Mapping[str, LevelWords]) -> list[str]:
    """What a record says of the categories that have no caption; nothing if all have one."""
    plain = [category for category, said in words.items() if not said.components]
    advice = "fill in a form, make sentences of it by `bench captions new FORM`, and set captions=FILE"
    if not plain:
        return []
    return [f"No caption of {', '.join(plain)}: PromptAD's prompts take its place on the level of the image; {advice}."]


def level_words(
    captions: CaptionSet, category: str, states: Sequence[str], rank: Rank, *, none_background: bool = False
) -> LevelWords:
    """Words of a category that has a caption. States and locations of components are sampled from torch's generator.

    Replacement makes anomalous texts: of the names of what is seen by names in a state, of the phrase of a component's
    location by another one's, of attributes by all words of the vocabulary that no component has, synonyms left out.

    Args:
        captions: the set that holds the category.
        category: its key.
        states: A of them, each with "{}" in the place of a name.
        rank: puts the alternatives of an attribute in order; the first A of them are taken.
        none_background: say "none background" where the foreground fills the image (the released code), rather than
            nothing.

    Raises:
        CaptionError: an attribute has fewer than A alternatives.
    """
    caption, vocabulary = captions.records[category], captions.vocabulary
    entities = [component.entity for component in caption.components]
    refuse(captions.path, shortages(category, caption, vocabulary, len(states)))
    alternatives = {
        "relation": [in_state(caption.relation, entities, state) for state in states],
        **{key: vocabulary.others(key, {getattr(part, key) for part in caption.components}) for key in ATTRIBUTES},
    }
    said = {"relation": caption.relation} | {
        key: ".".join(getattr(component, key) for component in caption.components) for key in ATTRIBUTES
    }
    background = "none" if caption.background is None and none_background else caption.background
    return LevelWords(
        image=Words(caption.caption, [in_state(caption.caption, [caption.foreground], state) for state in states]),
        attributes=tuple(Words(said[key], rank(alternatives[key])[: len(states)]) for key in said),
        components=tuple(_component_words(component, states, vocabulary) for component in caption.components),
        background=None if background is None else _background_words(background, states),
    )


def rank_by_embedding(backbone: CLIPBackbone, n_ctx: int, words: Sequence[str]) -> list[str]:
    """`words`, those first whose token embeddings have the largest mean over positions and channels.

    The released code picks the alternatives of an attribute so, with contexts written in, which shift all means alike
    where there is one context.
    """
    context = " ".join("N" * n_ctx)
    means = backbone.tokenize([f"{context} {text}." for text in words]).embeddings.mean(dim=(1, 2))
    return [words[index] for index in means.argsort(descending=True, stable=True).tolist()]


def _component_words(component: Component, states: Sequence[str], vocabulary: Vocabulary) -> Words:
    state = _sample(states)
    location = _sample(vocabulary.others("location", {component.location}))
    phrases = vocabulary.location
    others = {component.entity: state, phrases[component.location]: phrases[location]}
    return Words(component.caption, [replace_words(component.caption, others)])


def _background_words(words: str, states: Sequence[str]) -> Words:
    text = f"{words} background"
    return Words(text, [state.replace("{}", text) for state in states])


def _sample(options: Sequence[Choice]) -> Choice:
    return options[int(torch.randint(len(options), ()))]
