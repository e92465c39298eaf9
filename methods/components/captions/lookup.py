"""Fine-grained captions of normal images, as FineGrainedAD (arXiv:2510.26464) prompts with: data, lookup and linter.

A set is a file of `configs/captions`, named after its data set, or a file of the user's in the same form; its records
are of one normal image per category. The words that describe components are those of `vocabulary.yaml` and of the
file's own "vocabulary"; what a component is not makes anomalous prompts, so the words of a set matter as a whole.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

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
from methods.components.captions.records import ATTRIBUTES, Caption, CaptionSet, Component, Vocabulary
from methods.components.captions.rules import broken_locations, broken_rules
from methods.components.captions.sentences import in_state, replace_words

FOLDER = Path(__file__).parents[3] / "configs" / "captions"
WORDS_FILE = FOLDER / "vocabulary.yaml"
CONTEXT_LENGTH = 77


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
    words: dict[str, Any] = {}
    for key, ours in shipped.items():
        theirs = (own or {}).get(key) or type(ours)()
        words[key] = {**ours, **theirs} if isinstance(ours, dict) else tuple(dict.fromkeys((*ours, *theirs)))
    groups = (own or {}).get("synonyms") or {}
    words["synonyms"] = {key: (*ours, *groups.get(key, ())) for key, ours in shipped["synonyms"].items()}
    return Vocabulary(**words)


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
    refuse(path, broken_locations(vocabulary))
    refuse(path, (p for key, caption in captions.items() for p in broken_rules(key, caption, vocabulary)))
    return CaptionSet(path, vocabulary, captions)


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
    for field, text in _write_prompts(captions.records[category], captions.vocabulary.location, states, count):
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


def _write_prompts(
    caption: Caption, phrases: Mapping[str, str], states: Sequence[str], count: Callable[[str], int]
) -> Iterator[tuple[str, str]]:
    """Fields and texts made of them, less the learnt tokens; each component is also put in the longest location."""
    entities, longest = [component.entity for component in caption.components], max(phrases.values(), key=count)
    for key in ATTRIBUTES:
        yield "components", ".".join(getattr(component, key) for component in caption.components)
    for state in ("{}", *states):
        yield "caption", in_state(caption.caption, [caption.foreground], state)
        yield "relation", in_state(caption.relation, entities, state)
        if caption.background is not None:
            yield "background", state.replace("{}", f"{caption.background} background")
        for index, part in enumerate(caption.components):
            yield f"components[{index}].caption", in_state(part.caption, [part.entity], state)
            moved = replace_words(part.caption, {part.entity: state, phrases[part.location]: longest})
            yield f"components[{index}].caption", moved
