"""Rules that keep prompts grammatical and true, each broken in a caption that is otherwise in order."""

from pathlib import Path

import pytest
import yaml

from methods.components.captions.fields import CaptionError
from methods.components.captions.lookup import check_captions
from methods.components.captions.rules import contradictions, shortages

WHEEL = """
schema: 1
vocabulary:
  location: {rim: along the rim}
  verbs: [glides]
  forbidden: [brand-new]
  opposites: {black: [faded]}
categories:
  wheel:
    caption: One black wheel, old and heavy, lies on a gray backdrop.
    foreground: wheel
    background: gray
    relation: The hub holds the rubber tyre.
    components:
      - {entity: hub, caption: A silver hub sits in the center., number: 1, location: center, direction: null,
         colour: silver, texture: shiny, shape: round}
      - {entity: rubber tyre, caption: A black rubber tyre glides along the rim., number: 1, location: rim,
         direction: null, colour: black, texture: rough, shape: ring-shaped}
"""
BEHIND = "must let a state stand behind "
MOVES = "must let another location take the place of 'in the center': no preposition or article may stand before it"
BEGINS = "must be a phrase that begins with a preposition, such as 'at the edge'"


def read(old="", new=""):
    assert old in WHEEL
    return check_captions(yaml.safe_load(WHEEL.replace(old, new)), Path("own.yaml"))


def found(error):
    return [line.partition("; got ")[0] for line in str(error.value).splitlines()]


@pytest.mark.parametrize(
    ("old", "new", "field", "rule"),
    [
        ("wheel, old", "wheel hub, old", "caption", f"{BEHIND}'wheel'"),
        ("wheel, old", "wheel of steel, old", "caption", f"{BEHIND}'wheel'"),
        ("wheel, old", "wheel-like thing, a wheel, old", "caption", f"{BEHIND}'wheel'"),
        ("wheel, old", "wheel's hub, old", "caption", f"{BEHIND}'wheel'"),
        ("The hub holds", "The hub cap holds", "relation", f"{BEHIND}'hub'"),
        ("rubber tyre.", "rubber tyre tread.", "relation", f"{BEHIND}'rubber tyre'"),
        ("hub sits", "hub cap sits", "components[0].caption", f"{BEHIND}'hub'"),
        ("tyre glides", "tyre skates", "components[1].caption", f"{BEHIND}'rubber tyre'"),
        ("in the center.", "near the center.", "components[0].location", "must occur in its component's caption"),
        ("in the center.", "in the center of it.", "components[0].caption", MOVES),
        ("in the center.", "in the center hole.", "components[0].caption", MOVES),
        ("in the center.", "from in the center.", "components[0].caption", MOVES),
        ("in the center.", "out of in the center.", "components[0].caption", MOVES),
        ("rim: along the rim", "rim: rim", "vocabulary.location.rim", BEGINS),
        (
            "rim: along the rim",
            "hub: In the Center, rim: along the rim",
            "vocabulary.location.hub",
            "must differ from the",
        ),
        ("black wheel", "clean black wheel", "caption", "must not hold 'clean', which denies or names a defect"),
        ("heavy", "without scratches", "caption", "must not hold 'without', which denies"),
        ("heavy", "without scratches", "caption", "must not hold 'scratches', which denies"),
        ("heavy", "brand-new", "caption", "must not hold 'brand-new', which denies"),
        ("holds the", "holds the Undamaged", "relation", "must not hold 'undamaged', which denies"),
        ("silver hub sits", "silver hub is whole and sits", "components[0].caption", "must not hold 'is whole', which"),
        ("background: gray", "background: spotless gray", "background", "must not hold 'spotless', which denies"),
    ],
)
def test_a_broken_rule_is_found_where_it_is(old, new, field, rule):
    read()
    with pytest.raises(CaptionError) as error:
        read(old, new)
    field = field if field.startswith("vocabulary") else f"wheel.{field}"
    assert [line for line in found(error) if line.startswith(f"own.yaml, {field}: {rule}")], found(error)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("wheel, old", "wheel (old)"),
        ("wheel, old", "wheel and its axle, old"),
        ("hub sits in the center.", "hub that turns in the center sits there."),
        ("in the center.", "in the center; it turns."),
        ("sits in the center.", "in the center shines."),
        ("heavy", "covers the whole view"),
        (
            "location: {rim: along the rim}",
            "location: {rim: along the rim, hub: in the center}\n  synonyms: {location: [[hub, center]]}",
        ),
    ],
)
def test_what_keeps_the_rules_passes(old, new):
    read(old, new)


def test_a_state_that_says_the_opposite_of_a_caption_is_found():
    wheel = read()
    record, words = wheel.records["wheel"], wheel.vocabulary
    assert not [*contradictions("wheel", record, words, ["{} with rust", "{} with a hole"])]
    problems = [*contradictions("wheel", record, words, ["{} with rust", "faded {}"])]
    assert [problem.field for problem in problems] == ["wheel.caption", "wheel.components[1].caption"]
    assert problems[0].rule.startswith("must not hold 'black', of which the state 'faded {}' says the opposite")
    assert problems[0].came == record.caption


def test_attributes_that_leave_too_few_words_are_found():
    wheel = read()
    record, words = wheel.records["wheel"], wheel.vocabulary
    left = len(words.others("colour", {"silver", "black"}))
    assert not [*shortages("wheel", record, words, left)]
    problems = [*shortages("wheel", record, words, left + 1)]
    assert problems[0].field == "wheel.components.colour"
    assert problems[0].rule.startswith(f"must leave {left + 1} words of the vocabulary")


def test_a_name_within_a_longer_one_is_not_split():
    """The longer name takes the state, "the rubber tyre tread with rust"."""
    tread = """{entity: rubber tyre tread, caption: A black rubber tyre tread along the rim., number: 1, location: rim,
         direction: null, colour: black, texture: rough, shape: round}
      - """
    with pytest.raises(CaptionError, match="behind 'rubber tyre'"):
        read("the rubber tyre.", "the rubber tyre tread.")
    content = WHEEL.replace("the rubber tyre.", "the rubber tyre tread.").replace(
        "{entity: rubber tyre,", tread + "{entity: rubber tyre,"
    )
    assert len(check_captions(yaml.safe_load(content), Path("own.yaml")).records["wheel"].components) == 3
