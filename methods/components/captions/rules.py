"""The rules of captions, which keep the prompts made of them grammatical and true.

A state is put behind a name, or before it; a location's phrase gives way to another one. So both must be whole phrases
of their sentence, and nothing in it may say that the thing is sound.
"""

import re
from collections.abc import Iterator, Sequence

from methods.components.captions.fields import Problem
from methods.components.captions.records import ATTRIBUTES, DESCRIBING, Caption, Component, Vocabulary
from methods.components.captions.sentences import Place, in_state, mentions, places, whole

PREPOSITION = re.compile(
    "about|above|across|after|against|along|amid|among|around|at|before|behind|below|beneath|beside|between|beyond|by|"
    "from|in|inside|into|near|off|on|onto|opposite|outside|over|past|through|to|towards?|under|upon|with|within"
)
CONJUNCTION = re.compile("and|as|but|or|than|that|where|which|while|who|whose")
ARTICLE = re.compile("an?|each|every|its|the|their|this")
WHOLE_NAME = (
    "must let a state stand behind {!r}: a comma, a stop, a preposition other than 'of', 'and' or a verb must follow; "
    "say it so, or add the verb to the file's vocabulary.verbs"
)


def broken_rules(category: str, caption: Caption, vocabulary: Vocabulary) -> Iterator[Problem]:
    """Rules that a record breaks; the words of `vocabulary` are the shipped ones and the file's own."""
    yield from _absent_names(category, caption)
    yield from _split_names(category, caption, vocabulary)
    for index, component in enumerate(caption.components):
        yield from _unknown_words(f"{category}.components[{index}]", component, vocabulary)
        yield from _split_location(f"{category}.components[{index}]", component, vocabulary)
    for field, text in (*sentences(category, caption), (f"{category}.background", caption.background or "")):
        yield from _forbidden_words(field, text, vocabulary)


def broken_locations(vocabulary: Vocabulary) -> Iterator[Problem]:
    """Phrases that could not take each other's place, or that say the same and are not known as synonyms."""
    said: dict[str, str] = {}
    for word, phrase in vocabulary.location.items():
        field = f"vocabulary.location.{word}"
        if not PREPOSITION.fullmatch(phrase.lower().split()[0]):
            yield Problem(field, "must be a phrase that begins with a preposition, such as 'at the edge'", phrase)
        twin = said.setdefault(phrase.lower(), word)
        if word in vocabulary.others("location", {twin}):
            rule = (
                f"must differ from the phrase of {twin!r}, or stand with it in a list of vocabulary.synonyms.location"
            )
            yield Problem(field, rule, phrase)


def contradictions(category: str, caption: Caption, vocabulary: Vocabulary, states: Sequence[str]) -> Iterator[Problem]:
    """Words of a record of which a state says the opposite.

    Args:
        category: its key, the first word of each field.
        caption: its record.
        vocabulary: whose "opposites" count.
        states: of the category, each with "{}" in the place of a name.
    """
    for field, text in sentences(category, caption):
        for word in filter(lambda word: mentions(text, word), vocabulary.opposites):
            for state in opposing(word, vocabulary, states)[:1]:
                rule = f"must not hold {word!r}, of which the state {state!r} says the opposite: leave the word out"
                yield Problem(field, rule, text)


def opposing(word: str, vocabulary: Vocabulary, states: Sequence[str]) -> list[str]:
    """Those of `states` that say the opposite of a word."""
    opposites = vocabulary.opposites.get(word, ())
    return [state for state in states if any(mentions(state, opposite) for opposite in opposites)]


def shortages(category: str, caption: Caption, vocabulary: Vocabulary, n_states: int) -> Iterator[Problem]:
    """Attributes with fewer anomalous words than the category has states."""
    for key in ATTRIBUTES:
        words = vocabulary.others(key, {getattr(component, key) for component in caption.components})
        if len(words) < n_states:
            rule = (
                f"must leave {n_states} words of the vocabulary, one for each state, that are said of no component and "
                "are no synonyms of what is said"
            )
            yield Problem(f"{category}.components.{key}", rule, words)


def sentences(category: str, caption: Caption) -> list[tuple[str, str]]:
    """Fields and sentences that states are put into."""
    parts = [(f"{category}.components[{i}].caption", part.caption) for i, part in enumerate(caption.components)]
    return [(f"{category}.caption", caption.caption), (f"{category}.relation", caption.relation), *parts]


def _absent_names(category: str, caption: Caption) -> Iterator[Problem]:
    if not re.search(whole(caption.foreground), caption.caption):
        rule = f"must occur, letter by letter, in the caption {caption.caption!r}"
        yield Problem(f"{category}.foreground", rule, caption.foreground)
    entities = [component.entity for component in caption.components]
    if not any(mentions(caption.relation, entity) for entity in entities):
        yield Problem(f"{category}.relation", f"must name an entity, one of {', '.join(entities)}", caption.relation)
    for index, component in enumerate(caption.components):
        field = f"{category}.components[{index}].entity"
        if component.entity in entities[:index]:
            yield Problem(field, "must differ from the entities before it", component.entity)
        if not mentions(component.caption, component.entity):
            yield Problem(field, f"must occur in its component's caption {component.caption!r}", component.entity)


def _split_names(category: str, caption: Caption, vocabulary: Vocabulary) -> Iterator[Problem]:
    """Names within a longer noun phrase: a state behind "wood" would split "wood board"."""
    entities = [component.entity for component in caption.components]
    named = [[caption.foreground], entities, *([entity] for entity in entities)]
    for (field, text), names in zip(sentences(category, caption), named, strict=True):
        for name in names:
            longer = [other for other in names if other != name and mentions(other, name)]
            read = in_state(text, longer, "it") if longer else text
            if any(_goes_on(place, vocabulary) for place in places(read, name)):
                yield Problem(field, WHOLE_NAME.format(name), text)


def _split_location(field: str, component: Component, vocabulary: Vocabulary) -> Iterator[Problem]:
    phrase = vocabulary.location.get(component.location)
    if phrase is None:
        return
    found = list(places(component.caption, phrase))
    if not found:
        rule = f"must occur in its component's caption {component.caption!r} as its whole phrase, {phrase!r}"
        yield Problem(f"{field}.location", rule, component.location)
    if any(_leads_to(place.before) or _goes_on(place, vocabulary) for place in found):
        rule = (
            f"must let another location take the place of {phrase!r}: no preposition or article may stand before it, "
            "no 'of' and no noun behind it"
        )
        yield Problem(f"{field}.caption", rule, component.caption)


def _leads_to(word: str) -> bool:
    return word == "of" or any(kind.fullmatch(word) for kind in (PREPOSITION, ARTICLE))


def _goes_on(place: Place, vocabulary: Vocabulary) -> bool:
    """Whether a phrase goes on behind words, as "wood" does in "wood board" and in "wood of oak"."""
    if place.glued:
        return place.glued not in (",", ".", ";", ":")
    if not place.behind or place.behind in vocabulary.verbs:
        return False
    return not any(kind.fullmatch(place.behind) for kind in (PREPOSITION, CONJUNCTION))


def _unknown_words(field: str, component: Component, vocabulary: Vocabulary) -> Iterator[Problem]:
    for key in DESCRIBING:
        words = getattr(vocabulary, key)
        if getattr(component, key) not in words:
            rule = f"must be a word of the vocabulary ({', '.join(words)}) or stand in the file's own"
            yield Problem(f"{field}.{key}", rule, getattr(component, key))


def _forbidden_words(field: str, text: str, vocabulary: Vocabulary) -> Iterator[Problem]:
    for word in vocabulary.forbidden:
        if mentions(text, word):
            rule = (
                f"must not hold {word!r}, which denies or names a defect (vocabulary.forbidden): a state that is put "
                "into the sentence contradicts it; leave it out, or say what is seen"
            )
            yield Problem(field, rule, text)
