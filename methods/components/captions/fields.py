"""What a field of a caption file may hold, and what is said when it holds something else."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from datamodules.components.sample import UserError

SCHEMA = 1


class CaptionError(UserError):
    """Captions break rules; each line of the message names file, field and rule, and says what came."""


class Problem(NamedTuple):
    """One broken rule."""

    field: str
    rule: str
    came: Any


class Kind(NamedTuple):
    """What a field may hold."""

    rule: str
    holds: Callable[[Any], bool]


def _is_words(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value == " ".join(value.split()) and not set(value) & set("{}")


def _is_sentence(value: Any) -> bool:
    return _is_words(value) and value.endswith(".")


WORDS = Kind("must be words on one line, without braces", _is_words)
WORDS_OR_NULL = Kind("must be words on one line, without braces, or null", lambda v: v is None or _is_words(v))
SENTENCE = Kind("must be a sentence on one line, without braces, that ends with a full stop", _is_sentence)
SENTENCE_OR_NULL = Kind(f"{SENTENCE.rule}, or null", lambda v: v is None or _is_sentence(v))
COUNT = Kind("must be a whole number from 1 on, or 'multiple'", lambda v: v == "multiple" or (type(v) is int and v > 0))
PARTS = Kind("must be a list of one or more components", lambda v: isinstance(v, list) and bool(v))
WORD_LIST = Kind("must be a list of words", lambda v: isinstance(v, list) and all(map(_is_words, v)))
PHRASES = Kind(
    "must map words to the phrase that says them",
    lambda v: isinstance(v, dict) and all(map(_is_words, (*v, *v.values()))),
)
SYNONYMS = Kind(
    "must map colour, texture, shape or location to lists of lists of words",
    lambda v: (
        isinstance(v, dict)
        and {*v} <= {"colour", "texture", "shape", "location"}
        and all(isinstance(lists, list) and all(map(WORD_LIST.holds, lists)) for lists in v.values())
    ),
)
OPPOSITES = Kind(
    "must map words to lists of their opposites",
    lambda v: isinstance(v, dict) and all(map(_is_words, v)) and all(map(WORD_LIST.holds, v.values())),
)
VERSION = Kind(f"must be {SCHEMA}, the version that this release reads", lambda v: type(v) is int and v == SCHEMA)
MAPPING = Kind("must be a mapping", lambda v: isinstance(v, dict))
CATEGORIES = Kind(
    "must map one or more category keys to their fields",
    lambda v: isinstance(v, dict) and bool(v) and all(map(_is_words, v)),
)

COMPONENT: Mapping[str, Kind] = {
    "entity": WORDS,
    "number": COUNT,
    "location": WORDS,
    "direction": WORDS_OR_NULL,
    "colour": WORDS,
    "texture": WORDS,
    "shape": WORDS,
}
CAPTION: Mapping[str, Kind] = {
    "caption": SENTENCE,
    "foreground": WORDS,
    "background": WORDS_OR_NULL,
    "relation": SENTENCE,
    "components": PARTS,
}
CAPTION_COMPONENT: Mapping[str, Kind] = {"caption": SENTENCE, **COMPONENT}
VOCABULARY: Mapping[str, Kind] = {
    "colour": WORD_LIST,
    "texture": WORD_LIST,
    "shape": WORD_LIST,
    "location": PHRASES,
    "synonyms": SYNONYMS,
    "verbs": WORD_LIST,
    "forbidden": WORD_LIST,
    "opposites": OPPOSITES,
}
VOCABULARY_FILE: Mapping[str, Kind] = {"schema": VERSION, "vocabulary": MAPPING}
FILE: Mapping[str, Kind] = {**VOCABULARY_FILE, "categories": CATEGORIES}


def field_problems(field: str, raw: Any, kinds: Mapping[str, Kind], optional: Iterable[str] = ()) -> list[Problem]:
    """Fields that are missing, unknown or hold what they may not; `field` is where `raw` stands, "" at the top."""
    if not isinstance(raw, dict) or not {*kinds} - {*optional} <= {*raw} <= {*kinds}:
        came = list(raw) if isinstance(raw, dict) else raw
        spare = f" ({', '.join(optional)} may be left out)" if optional else ""
        return [Problem(field or "the top level", f"must hold exactly the fields {', '.join(kinds)}{spare}", came)]
    prefix = f"{field}." if field else ""
    given = {key: kind for key, kind in kinds.items() if key in raw}
    return [Problem(prefix + key, kind.rule, raw[key]) for key, kind in given.items() if not kind.holds(raw[key])]


def record_problems(category: str, raw: Any, kinds: Mapping[str, Kind], part: Mapping[str, Kind]) -> list[Problem]:
    """Likewise for a record of fields `kinds`, whose "components" have fields `part` each."""
    problems = field_problems(category, raw, kinds)
    if not isinstance(raw, dict) or not PARTS.holds(raw.get("components")):
        return problems
    parts = enumerate(raw["components"])
    return problems + [p for i, one in parts for p in field_problems(f"{category}.components[{i}]", one, part)]


def read_yaml(path: Path, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """A file of captions, forms or a vocabulary, through `check_file`; CaptionError also if it cannot be read."""
    try:
        raw = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:
        raise CaptionError(f"{path} is no readable YAML: {error}") from error
    return check_file(raw, path, kinds)


def check_file(raw: Any, path: Path, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """`raw` with a whole vocabulary, empty where it has none.

    Raises:
        CaptionError: a field at the top or in the vocabulary is missing, unknown or holds what it may not.
    """
    refuse(path, field_problems("", raw, kinds, optional=("vocabulary",)))
    given: dict[str, Any] = {"vocabulary": {}, **raw}
    refuse(path, field_problems("vocabulary", given["vocabulary"], VOCABULARY, optional=VOCABULARY))
    empty: dict[str, Any] = {key: [] if kind is WORD_LIST else {} for key, kind in VOCABULARY.items()}
    return {**given, "vocabulary": {**empty, **given["vocabulary"]}}


def refuse(path: Path | str, problems: Iterable[Problem]) -> None:
    """Raise a CaptionError if there are problems."""
    lines = [f"{path}, {field}: {rule}; got {came!r}." for field, rule, came in problems]
    if lines:
        raise CaptionError("\n".join(lines))
