"""The captions that are shipped, and every rule of their linter broken once."""

import copy
from pathlib import Path

import open_clip
import pytest
import yaml

from benchmark.request import registry
from methods.components.captions import lookup as captions
from methods.components.captions.fields import CaptionError
from methods.components.captions.lookup import (
    CONTEXT_LENGTH,
    check_captions,
    check_lengths,
    find_captions,
    read_captions,
    shipped_sets,
)
from methods.components.states import anomalous_states

DESCRIBED = ("mvtec_ad", "visa", "procedural", "procedural_auxiliary", "textile")
PATH = Path("own.yaml")
OWN = {
    "schema": 1,
    "vocabulary": {"shape": ["star-shaped"], "location": {"rim": "along the rim"}},
    "categories": {
        "wheel": {
            "caption": "One black wheel lies on a gray backdrop.",
            "foreground": "wheel",
            "background": "gray",
            "relation": "The hub holds the rubber tyre.",
            "components": [
                {
                    "entity": "hub",
                    "caption": "A silver Hub sits in the center.",
                    "number": 1,
                    "location": "center",
                    "direction": None,
                    "colour": "silver",
                    "texture": "shiny",
                    "shape": "star-shaped",
                },
                {
                    "entity": "rubber tyre",
                    "caption": "A black rubber tyre runs along the rim.",
                    "number": "multiple",
                    "location": "rim",
                    "direction": "upward",
                    "colour": "black",
                    "texture": "rough",
                    "shape": "round",
                },
            ],
        }
    },
}
WORDS = "must be words on one line, without braces"
SENTENCE = "must be a sentence on one line, without braces, that ends with a full stop"
EXACTLY = "must hold exactly the fields"
IN_CAPTION = "must occur, letter by letter, in the caption 'One black wheel lies on a gray backdrop.'"
FIELDS = "entity, number, location, direction, colour, texture, shape"
REMOVED = object()


def tokens():
    tokenizer = open_clip.SimpleTokenizer()
    return lambda text: len(tokenizer.encode(text))


def broken(place, value):
    """`OWN` with another value in one place, "caption" and "components.0.entity" being those of the wheel."""
    content = copy.deepcopy(OWN)
    top = place.partition(".")[0] in ("schema", "vocabulary", "categories")
    *steps, last = [int(step) if step.isdigit() else step for step in place.split(".")]
    holder = content if top else content["categories"]["wheel"]
    for step in steps:
        holder = holder[step]
    if value is REMOVED:
        del holder[last]
    else:
        holder[last] = value
    return content


def test_every_category_has_a_caption():
    assert shipped_sets() == tuple(sorted(DESCRIBED))
    for name in DESCRIBED:
        assert tuple(read_captions(name).records) == tuple(registry.dataset(name).categories), name


@pytest.mark.slow
def test_what_is_shipped_passes_with_every_state_and_shows_its_object():
    count = tokens()
    for name in DESCRIBED:
        found, facts = read_captions(name), registry.dataset(name)
        for category, record in found.records.items():
            longest = check_lengths(found, category, anomalous_states(category, "specific"), count)
            assert 20 < longest <= CONTEXT_LENGTH, (name, category)
            called = facts.object_names.get(category, category.replace("_", " "))
            assert record.foreground.rstrip("s") == called.rstrip("s"), (name, category)


def test_an_own_file_reads_into_records_with_its_words_behind_the_shipped_ones(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(OWN, sort_keys=False))
    found = read_captions(str(path))
    wheel = found.records["wheel"]
    assert wheel.components[1]._asdict() == OWN["categories"]["wheel"]["components"][1]
    assert (wheel.foreground, wheel.background, len(wheel.components)) == ("wheel", "gray", 2)
    shipped = read_captions("visa").vocabulary
    assert found.vocabulary.shape == (*shipped.shape, "star-shaped")
    assert found.vocabulary.location == {**shipped.location, "rim": "along the rim"}
    assert found.vocabulary.colour == shipped.colour
    assert found.vocabulary[4:] == shipped[4:]


def test_a_caption_is_looked_up_in_the_sources_first_then_in_what_is_shipped(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(OWN))
    assert find_captions("zipper").path.stem == "mvtec_ad"
    assert find_captions("zipper", ["procedural"]).path.stem == "procedural"
    assert find_captions("pcb1", ["procedural"]).path.stem == "visa"
    assert find_captions("wheel", [str(own)]).path == own
    assert find_captions("wheel") is None


@pytest.mark.parametrize(
    ("place", "value", "field", "rule"),
    [
        ("schema", 2, "schema", "must be 1, the version that this release reads"),
        ("schema", REMOVED, "the top level", f"{EXACTLY} schema, vocabulary, categories (vocabulary"),
        ("categories", {}, "categories", "must map one or more category keys to their fields"),
        ("vocabulary", ["red"], "vocabulary", "must be a mapping"),
        (
            "vocabulary.size",
            [],
            "vocabulary",
            f"{EXACTLY} colour, texture, shape, location, synonyms, verbs, forbidden, opposites (",
        ),
        ("vocabulary.shape", "round", "vocabulary.shape", "must be a list of words"),
        ("vocabulary.location", ["rim"], "vocabulary.location", "must map words to the phrase that says them"),
        (
            "vocabulary.synonyms",
            {"size": [["big"]]},
            "vocabulary.synonyms",
            "must map colour, texture, shape or location",
        ),
        (
            "vocabulary.synonyms",
            {"shape": ["round"]},
            "vocabulary.synonyms",
            "must map colour, texture, shape or location",
        ),
        ("vocabulary.verbs", "glides", "vocabulary.verbs", "must be a list of words"),
        ("vocabulary.forbidden", [False], "vocabulary.forbidden", "must be a list of words"),
        (
            "vocabulary.opposites",
            {"flat": "bent"},
            "vocabulary.opposites",
            "must map words to lists of their opposites",
        ),
        ("relation", REMOVED, "wheel", f"{EXACTLY} caption, foreground, background, relation, components; got"),
        ("caption", "A wheel", "wheel.caption", SENTENCE),
        ("caption", "A wheel\nof rubber.", "wheel.caption", SENTENCE),
        ("foreground", "{}", "wheel.foreground", WORDS),
        ("background", "", "wheel.background", f"{WORDS}, or null"),
        ("relation", None, "wheel.relation", SENTENCE),
        ("components", [], "wheel.components", "must be a list of one or more components"),
        ("components.0.size", 3, "wheel.components[0]", f"{EXACTLY} caption, {FIELDS}; got"),
        ("components.0.number", 0, "wheel.components[0].number", "must be a whole number from 1 on, or 'multiple'"),
        ("components.0.direction", 3, "wheel.components[0].direction", f"{WORDS}, or null"),
        ("foreground", "Wheel", "wheel.foreground", IN_CAPTION),
        ("foreground", "heel", "wheel.foreground", IN_CAPTION),
        ("relation", "All is well.", "wheel.relation", "must name an entity, one of hub, rubber tyre"),
        (
            "components.0.entity",
            "axle",
            "wheel.components[0].entity",
            "must occur in its component's caption 'A silver Hub sits in the center.'",
        ),
        (
            "components.1.location",
            "edge",
            "wheel.components[1].location",
            "must occur in its component's caption 'A black rubber tyre runs along the rim.' as its whole phrase, 'at",
        ),
        (
            "components.1",
            OWN["categories"]["wheel"]["components"][0],
            "wheel.components[1].entity",
            "must differ from the entities before it",
        ),
        *(
            (f"components.0.{key}", "odd", f"wheel.components[0].{key}", "must be a word of the vocabulary (")
            for key in ("colour", "texture", "shape", "location")
        ),
    ],
)
def test_a_broken_rule_names_file_field_rule_and_what_came(place, value, field, rule):
    content = broken(place, value)
    with pytest.raises(CaptionError) as caught:
        check_captions(content, PATH)
    lines = str(caught.value).splitlines()
    (line,) = [line for line in lines if line.startswith(f"own.yaml, {field}: {rule}")]
    if value is not REMOVED and not isinstance(value, dict) and "exactly" not in rule:
        assert line.endswith(f"; got {value!r}.")
    check_captions(OWN, PATH)


def test_every_broken_rule_has_a_line():
    content = broken("foreground", "Wheel")
    content["categories"]["wheel"]["components"][0]["colour"] = "odd"
    with pytest.raises(CaptionError, match=r"wheel\.foreground: .*\n.*wheel\.components\[0\]\.colour: "):
        check_captions(content, PATH)


@pytest.mark.parametrize(
    ("place", "value", "field"),
    [
        ("caption", "One wheel" + " lies" * 70 + ".", "caption"),
        ("relation", "The hub" + " turns" * 70 + ".", "relation"),
        ("background", "gray " * 69 + "gray", "background"),
        ("components.1.caption", "A rubber tyre" + " runs" * 70 + " along the rim.", r"components\[1\]\.caption"),
    ],
)
def test_prompts_over_77_tokens_are_refused(place, value, field):
    found = check_captions(broken(place, value), PATH)
    with pytest.raises(CaptionError, match=rf"own\.yaml, wheel\.{field}: must make prompts of 77 tokens at most, not "):
        check_lengths(found, "wheel", ["{} with crack"], tokens())


def test_the_longest_prompt_is_counted_to_the_token():
    """Four learnt words, one more, the text in its longest state and place, a second full stop, start and end."""
    found, count = check_captions(OWN, PATH), tokens()
    written = "N N N N A A black old rubber tyre runs over the whole view.."
    written = max(written, "N N N N A One black old wheel lies on a gray backdrop..", key=count)
    written = max(written, "N N N N A The old hub holds the old rubber tyre..", key=count)
    assert check_lengths(found, "wheel", ["old {}"], count) == count(written) + 2
    with pytest.raises(CaptionError, match=f"at most, not {count(written) + 2}; got"):
        check_lengths(found, "wheel", ["old {}"], count, context_length=count(written) + 1)
    assert check_lengths(found, "wheel", ["old {}"], count, n_learnt=9) == count(written) + 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema: [", "own.yaml is no readable YAML"),
        ("schema: 1\nschema: 1\n", "own.yaml is no readable YAML"),
        ("- 1", "own.yaml, the top level: must hold exactly the fields schema, vocabulary, categories"),
    ],
)
def test_a_file_that_is_no_caption_file_is_refused(text, message, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(CaptionError) as caught:
        read_captions(str(path))
    assert message in str(caught.value)


def test_a_set_that_is_not_there_is_refused():
    allowed = ", ".join(shipped_sets())
    with pytest.raises(CaptionError) as caught:
        find_captions("wheel", ["absent.yaml"])
    assert str(caught.value) == f"captions must be one of {allowed}, or the path of a YAML file; got 'absent.yaml'."
    with pytest.raises(CaptionError, match="got 'vocabulary'"):
        read_captions(captions.WORDS_FILE.stem)
