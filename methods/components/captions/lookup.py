"""Fine-grained captions of normal images, as FineGrainedAD (arXiv:2510.26464) prompts with: data, lookup and linter.

A set is a file of `configs/captions`, named after its data set, or a file of the user's in the same form; its records
are of one normal image per category. The words that describe components are those of `vocabulary.yaml` and of the
file's own "vocabulary"; what a component is not makes anomalous prompts, so the words of a set matter as a whole.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from methods.components.captions.fields import (
    CAPTION,
    CAPTION_COMPONENT,
    FILE,
    VOCABULARY_FILE,
    CaptionError,
    Problem,
    check_file,
    read_yaml,
    record_problems,
    refuse,
)

FOLDER = Path(__file__).parents[3] / "configs" / "captions"
WORDS_FILE = FOLDER / "vocabulary.yaml"
CONTEXT_LENGTH = 77
ATTRIBUTES = ("colour", "texture", "shape")


class Component(NamedTuple):
    """Component view: one part of the foreground."""

    entity: str  # occurs in `caption`
    caption: str  # a sentence
    number: int | Literal["multiple"]
    location: str  # of the vocabulary; occurs in `caption`
    direction: str | None
    colour: str  # of the vocabulary, as texture and shape
    texture: str
    shape: str


class Caption(NamedTuple):
    """The record of one category, coarse to fine."""

    caption: str  # image view, a sentence
    foreground: str  # occurs in `caption`
    background: str | None  # words before "background"; None where the foreground fills the image
    relation: str  # foreground view, a sentence that names one entity or more
    components: tuple[Component, ...]  # one or more, entities all different


class Vocabulary(NamedTuple):
    """Words that describe components."""

    colour: tuple[str, ...]
    texture: tuple[str, ...]
    shape: tuple[str, ...]
    location: Mapping[str, str]  # word to the phrase that says it: {"edge": "at the edge"}


class CaptionSet(NamedTuple):
    """The captions of one file."""

    path: Path
    vocabulary: Vocabulary  # the shipped words and the file's own
    records: Mapping[str, Caption]  # by category key


def shipped_sets() -> tuple[str, ...]:
    """Names of the sets in `configs/captions`; each is that of the data set it describes."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml") if path != WORDS_FILE))


def find_captions(category: str, sources: Sequence[str] = ()) -> CaptionSet | None:
    """The set that holds a category, None if none does.

    Args:
        category: its key.
        sources: names or paths of sets that are looked at first, in this order; then come the shipped ones by name.
            Four keys are in two of these, leather, screw, wood and zipper: unless a source says otherwise they are
            those of MVTec AD.

    Raises:
        CaptionError: a set that was looked at is absent or breaks a rule.
    """
    for source in (*sources, *shipped_sets()):
        captions = read_captions(source)
        if category in captions.records:
            return captions
    return None


def read_captions(source: str) -> CaptionSet:
    """A set, by its name in `configs/captions` or by the path of a YAML file.

    Raises:
        CaptionError: there is no such set, or it breaks a rule other than the length of prompts (`check_lengths`).
    """
    if source in shipped_sets():
        return _read_shipped(source)
    if not Path(source).is_file():
        allowed = ", ".join(shipped_sets())
        raise CaptionError(f"captions must be one of {allowed}, or the path of a YAML file; got {str(source)!r}.")
    return check_captions(read_yaml(Path(source), FILE), Path(source))


@cache
def _read_shipped(name: str) -> CaptionSet:
    path = FOLDER / f"{name}.yaml"
    return check_captions(read_yaml(path, FILE), path)


def read_vocabulary(own: Mapping[str, Any] | None = None) -> Vocabulary:
    """The shipped words, and those of a file's "vocabulary" behind them."""
    shipped = read_yaml(WORDS_FILE, VOCABULARY_FILE)["vocabulary"]
    own = own or {}
    colour, texture, shape = (tuple(dict.fromkeys((*shipped[key], *own.get(key, ())))) for key in ATTRIBUTES)
    return Vocabulary(colour, texture, shape, {**shipped["location"], **own.get("location", {})})


def check_captions(raw: Any, path: Path) -> CaptionSet:
    """The set that `raw`, the content of a file at `path`, holds.

    Raises:
        CaptionError: it breaks a rule.
    """
    given = check_file(raw, path, FILE)
    records: Mapping[str, Any] = given["categories"]
    refuse(path, (p for key, one in records.items() for p in record_problems(key, one, CAPTION, CAPTION_COMPONENT)))
    vocabulary = read_vocabulary(given["vocabulary"])
    captions = {
        key: Caption(**{**one, "components": tuple(Component(**part) for part in one["components"])})
        for key, one in records.items()
    }
    refuse(path, (p for key, caption in captions.items() for p in _broken_rules(key, caption, vocabulary)))
    return CaptionSet(path, vocabulary, captions)


def mentions(text: str, words: str) -> bool:
    """Whether `words` stand in `text`, as whole words; case does not matter."""
    return re.search(_whole(words), text, re.IGNORECASE) is not None


def in_state(text: str, names: Sequence[str], state: str) -> str:
    """`text` with every one of `names` in an anomalous state.

    Args:
        text: a sentence.
        names: words; each occurrence as whole words is replaced, whatever its case, the longest name first.
        state: with "{}" in the place of the name, "{} with crack".
    """
    pattern = "|".join(_whole(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(pattern, lambda found: state.replace("{}", found.group()), text, flags=re.IGNORECASE)


def _whole(words: str) -> str:
    return rf"(?<!\w){re.escape(words)}(?!\w)"


def _broken_rules(category: str, caption: Caption, vocabulary: Vocabulary) -> Iterator[Problem]:
    if not re.search(_whole(caption.foreground), caption.caption):
        rule = f"must occur, letter by letter, in the caption {caption.caption!r}"
        yield Problem(f"{category}.foreground", rule, caption.foreground)
    entities = [component.entity for component in caption.components]
    if not any(mentions(caption.relation, entity) for entity in entities):
        yield Problem(f"{category}.relation", f"must name an entity, one of {', '.join(entities)}", caption.relation)
    for index, component in enumerate(caption.components):
        field = f"{category}.components[{index}]"
        if component.entity in entities[:index]:
            yield Problem(f"{field}.entity", "must differ from the entities before it", component.entity)
        for key in ("entity", "location"):
            if not mentions(component.caption, getattr(component, key)):
                rule = f"must occur in its component's caption {component.caption!r}"
                yield Problem(f"{field}.{key}", rule, getattr(component, key))
        for key in (*ATTRIBUTES, "location"):
            words = getattr(vocabulary, key)
            if getattr(component, key) not in words:
                rule = f"must be a word of the vocabulary ({', '.join(words)}) or stand in the file's own"
                yield Problem(f"{field}.{key}", rule, getattr(component, key))


def check_lengths(
    captions: CaptionSet,
    category: str,
    states: Sequence[str],
    count: Callable[[str], int],
    *,
    n_learnt: int = 5,
    context_length: int = CONTEXT_LENGTH,
) -> int:
    """Tokens of the longest prompt of a category, start and end included.

    Args:
        captions: the set that holds it.
        category: its key.
        states: of an object, each with "{}" in the place of its name.
        count: tokens of a text without start and end.
        n_learnt: tokens that are learnt before the text; FineGrainedAD's four of the context and one of a suffix.
        context_length: most tokens of a prompt.

    Raises:
        CaptionError: a prompt is longer; for each field its longest one.
    """
    longest: dict[str, tuple[int, str]] = {}
    location = max(captions.vocabulary.location, key=count)
    for field, text in _write_prompts(captions.records[category], location, states):
        candidate = (count(f"{text}.") + n_learnt + 2, text)
        longest[field] = max(longest.get(field, candidate), candidate)
    refuse(
        captions.path,
        (
            Problem(f"{category}.{field}", f"must make prompts of {context_length} tokens at most, not {tokens}", text)
            for field, (tokens, text) in longest.items()
            if tokens > context_length
        ),
    )
    return max(tokens for tokens, _ in longest.values())


def _write_prompts(caption: Caption, location: str, states: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Fields and texts made of them, less the learnt tokens; each component is also put in another location."""
    entities = [component.entity for component in caption.components]
    for key in ATTRIBUTES:
        yield "components", ".".join(getattr(component, key) for component in caption.components)
    for state in ("{}", *states):
        yield "caption", in_state(caption.caption, [caption.foreground], state)
        yield "relation", in_state(caption.relation, entities, state)
        if caption.background is not None:
            yield "background", state.replace("{}", f"{caption.background} background")
        for index, component in enumerate(caption.components):
            text = in_state(component.caption, [component.entity], state)
            yield f"components[{index}].caption", text
            yield f"components[{index}].caption", in_state(text, [component.location], location)
