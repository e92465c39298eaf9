"""Every prompt that shipped captions make, read by rules of English that know nothing of the linter's."""

import re

import pytest

from methods.components.captions.lookup import read_captions, shipped_sets
from methods.components.states import GENERIC_STATES, anomalous_states
from methods.finegrainedad import words as multi_level_words
from methods.finegrainedad.words import level_words

MARK = "STATE"
PLACE = (
    r"(?:in the (?:center|middle|corners)|at the (?:edge|top|bottom(?: left| right)?|other end)|at one end"
    r"|on the (?:left|right)|on both sides|over the whole view|in scattered places)"
)
PLACE_WORDS = r"\b(?:center|middle|corners|edge|top|bottom|left|right|end|sides|everywhere|scattered)\b"
OTHER_PLACES = ("from top to bottom", "left and right of", "at the board edge", "form the outline", "side by side")
PREPOSITION = r"\b(?:at|in|on|over|under|across|along|around|through|near|toward|into|from|with|to|of|between)"
BEHIND = re.compile(  # a name that ends here
    r"[.,]| (?:and|are|at|around|in|over|on|to|between|from|with|next|apart|down|along|show|shows|lie|lies|sit|sits"
    r"|stand|stands|run|runs|form|forms|cover|covers|carry|carries|fill|fills|span|spans|rest|rests|draw|draws|look|looks"
    r"|stick|point|points|meet|meets|leave|leaves|cross|join|joins|surround|surrounds|repeat|repeats|holds|bends|ends|feeds|flows"
    r"|climbs|closes|is|makes|wind|inside)\b"
)
NONSENSE = {
    "two prepositions": rf"{PREPOSITION} (?:at|in|on|over|with|of)\b",
    "two articles": r"\b(?:the|an?|one|every|each) (?:the|an?|one|every|each)\b",
    "an article that does not fit": r"\ba [aeio]|\ban [^aeiou]",
    "a name that is said twice on end": r"\b(\w+ \w+) \1\b",
    "soundness": r"\b(?:intact|clean|whole (?!view|sheet|cloth|hide)|flawless|perfect|pristine|spotless|tidy|complete"
    r"|full|evenly?|regular|equal|un(?:broken|damaged|marked|scratched|worn|harmed))\b",
}
DENIED = (
    r"\b(?:no|not|none|never|without|free (?:of|from)|lack\w*|missing|scratch\w*|crack\w*|dent\w*|damag\w*|flaw\w*"
    r"|defect\w*)\b"
)
OPPOSITES = (
    (r"\b(?:straight|parallel)\b", r"\b(?:crooked|bent|twisted|out of line)\b"),
    (r"\bclosed\b", r"\b(?:gap|gaping)\b"),
    (r"\bpolished\b", r"\bunpolished\b"),
    (r"\bdense\b", r"\bmissing\b"),
    (r"\bsmooth\b", r"\b(?:rough|scuffed|scored|scrap\w+|scratch\w*|grazed|gouged)\b"),
    (r"\bround(?:ed)?\b", r"\bout of shape\b"),
)
ALIKE = (
    ("in the center", "in the middle"),
    ("at one end", "at the other end"),
    ("over the whole view", "in scattered places"),
)
SAME_WORDS = (
    {"gray", "silver"},
    {"glossy", "shiny"},
    {"round", "ring-shaped"},
    {"brown", "light brown"},
    {"square", "rectangular"},
)


@pytest.fixture
def draw(monkeypatch):
    """Makes samples the n-th option of each, in turn from the start."""

    def nth(n):
        monkeypatch.setattr(multi_level_words, "_sample", lambda options: options[n % len(options)])

    return nth


def categories():
    return [(name, category) for name in shipped_sets() for category in read_captions(name).records]


def said_of(name, category, states):
    return level_words(read_captions(name), category, states, lambda words: words)


def moved_components(name, category, draw, state="{} " + MARK):
    """Component captions and what they become in each location."""
    for n in range(len(read_captions(name).vocabulary.location)):
        draw(n)
        for said in said_of(name, category, [state]).components:
            yield said.normal, said.manual[0]


def misplaced(text):
    """What is wrong with the places that a sentence names."""
    for harmless in OTHER_PLACES:
        text = text.replace(harmless, "")
    rest = re.sub(rf"\b{PLACE}(?=[.,]| (?!of\b))", "@", text)
    before = rf"(?:{PREPOSITION}|\bthe|\ban?) @"
    return [found.group() for pattern in (PLACE_WORDS, before) for found in re.finditer(pattern, rest)] + (
        [] if rest.count("@") == 1 else [rest]
    )


@pytest.mark.parametrize(("name", "category"), categories())
def test_a_component_moves_by_whole_phrases_to_places_that_are_other_ones(name, category, draw):
    moved = set()
    for normal, text in moved_components(name, category, draw):
        assert not misplaced(text.replace(f" {MARK}", "")), text
        assert not misplaced(normal), normal
        moved.add((normal, text))
        for pair in ALIKE:
            assert not all(any(phrase in each for phrase in pair) for each in (normal, text)), (normal, text)
    assert len(moved) >= 12 * len(read_captions(name).records[category].components)


@pytest.mark.parametrize(("name", "category"), categories())
def test_a_state_splits_no_name(name, category, draw):
    draw(0)
    said = said_of(name, category, ["{} " + MARK])
    texts = [*said.image.manual, *said.attributes[0].manual]
    texts += [text for _, text in moved_components(name, category, draw)]
    for text in texts:
        behind = text.split(MARK)[1:]
        assert behind, text
        assert all(BEHIND.match(rest) for rest in behind), text


@pytest.mark.parametrize(("name", "category"), categories())
def test_no_prompt_contradicts_itself(name, category, draw):
    states = anomalous_states(category, "specific")
    for state in states:
        texts = [text for pair in moved_components(name, category, draw, state) for text in pair]
        draw(0)
        said = said_of(name, category, [state])
        texts += [said.image.normal, *said.image.manual, said.attributes[0].normal, *said.attributes[0].manual]
        for text in {*texts}:
            assert not [kind for kind, pattern in NONSENSE.items() if re.search(pattern, text)], text
            for one, other in OPPOSITES:
                assert not (re.search(one, text) and re.search(other, text)), text


@pytest.mark.parametrize(("name", "category"), categories())
def test_normal_captions_name_no_defect_not_even_to_deny_it(name, category, draw):
    draw(0)
    said = said_of(name, category, ["{} " + MARK])
    for text in (said.image.normal, said.attributes[0].normal, *(part.normal for part in said.components)):
        assert not re.search(DENIED, text), text


@pytest.mark.parametrize(("name", "category"), categories())
def test_no_attribute_is_anomalous_by_another_name(name, category, draw):
    draw(0)
    for attribute in said_of(name, category, GENERIC_STATES).attributes[1:]:
        for same in SAME_WORDS:
            assert not (same & {*attribute.normal.split(".")} and same & {*attribute.manual}), attribute
