"""What is said of a normal image of a category, and the words to say it with."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

ATTRIBUTES = ("colour", "texture", "shape")
DESCRIBING = (*ATTRIBUTES, "location")


class Component(NamedTuple):
    """Component view: one part of the foreground."""

    entity: str  # occurs in `caption`, a whole noun phrase
    caption: str  # a sentence
    number: int | Literal["multiple"]
    location: str  # of the vocabulary; its phrase occurs in `caption`
    direction: str | None
    colour: str  # of the vocabulary, as texture and shape
    texture: str
    shape: str


class Caption(NamedTuple):
    """The record of one category, coarse to fine."""

    caption: str  # image view, a sentence
    foreground: str  # occurs in `caption`, a whole noun phrase
    background: str | None  # words before "background"; None where the foreground fills the image
    relation: str  # foreground view, a sentence that names one entity or more
    components: tuple[Component, ...]  # one or more, entities all different


class Vocabulary(NamedTuple):
    """Words that describe components, and words that captions are checked by."""

    colour: tuple[str, ...]
    texture: tuple[str, ...]
    shape: tuple[str, ...]
    location: Mapping[str, str]  # word to the phrase that says it: {"edge": "at the edge"}
    synonyms: Mapping[str, Sequence[Sequence[str]]] = {}  # "colour" to lists of words that may be true together
    verbs: Collection[str] = ()  # that may stand behind a name
    forbidden: Collection[str] = ()  # in captions
    opposites: Mapping[str, Sequence[str]] = {}  # a word to those of a state that say its opposite

    def others(self, key: str, own: Collection[str]) -> list[str]:
        """The words of one field, "colour" or another, that say something else than `own` and their synonyms."""
        same = {word for group in self.synonyms.get(key, ()) if not {*own}.isdisjoint(group) for word in group}
        return [word for word in getattr(self, key) if word not in same and word not in own]


class CaptionSet(NamedTuple):
    """The captions of one file."""

    path: Path
    vocabulary: Vocabulary  # the shipped words and the file's own
    records: Mapping[str, Caption]  # by category key
