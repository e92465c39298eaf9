"""Captions of a new category: a short form that a person, or a captioner, fills in, and the sentences made of it."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from methods.components.captions.fields import (
    CAPTION,
    COMPONENT,
    FILE,
    SCHEMA,
    SENTENCE_OR_NULL,
    CaptionError,
    Kind,
    read_yaml,
    record_problems,
    refuse,
)
from methods.components.captions.lookup import read_vocabulary
from methods.components.captions.records import DESCRIBING, Vocabulary
from methods.components.captions.rules import opposing
from methods.components.captions.sentences import mentions

FORM: Mapping[str, Kind] = {
    "foreground": CAPTION["foreground"],
    "number": COMPONENT["number"],
    "background": CAPTION["background"],
    "relation": SENTENCE_OR_NULL,
    "components": CAPTION["components"],
}
EMPTY: Mapping[str, Any] = {
    "foreground": "",
    "number": 1,
    "background": None,
    "relation": None,
    "components": [
        {"entity": "", "number": 1, "location": "", "direction": None, "colour": "", "texture": "", "shape": ""}
    ],
}
HELP = """\
# What a normal image shows. `bench captions new THIS_FILE` writes the sentences.
# foreground: the words for the object, in the plural where number is not 1. number: 1, 2, … or multiple.
# background: words, or null where the object fills the image. relation: a sentence that names the entities, or null.
# components: one for each part that can be damaged; as many as there are.
# No words that deny or name a defect: neither "clean" nor "without scratches". A verb behind a name that is not known
# goes into `verbs` of your own `vocabulary:`, beside `categories:`.
# colour, texture, shape, location are words of this list, or of your own vocabulary, where a location has the phrase
# that says it, such as `rim: along the rim`.
"""
NUMBERS = ("One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")


def write_form(category: str, fields: Mapping[str, Any] = EMPTY) -> str:
    """The YAML of a form for one category, with what it may hold as comments."""
    vocabulary = read_vocabulary()
    words = "".join(f"# {key}: {', '.join(getattr(vocabulary, key))}\n" for key in DESCRIBING)
    return HELP + words + write_yaml({"schema": SCHEMA, "categories": {category: fields}})


def write_yaml(values: Mapping[str, Any]) -> str:
    """YAML that keeps the order of `values`."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(values)))


def ask_captioner(captioner: str, image: Path, category: str) -> Mapping[str, Any]:
    """What a captioner says of an image: the fields of a form.

    Args:
        captioner: "MODULE:FUNCTION" of a function (image path, category key) -> dict.
        image: a normal image.
        category: its key.

    Raises:
        CaptionError: there is no such function or image, or what it returned is no filled form.
    """
    module, _, function = captioner.partition(":")
    try:
        describe = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise CaptionError(
            f"--captioner must be MODULE:FUNCTION, a function that Python can import; got {captioner!r}: {error}."
        ) from error
    if not image.is_file():
        raise CaptionError(f"--image must be a file, a normal image of {category!r}; got {str(image)!r}.")
    fields: Mapping[str, Any] = describe(image, category)
    refuse(captioner, record_problems(category, fields, FORM, COMPONENT))
    return fields


def fill_form(path: Path, states: Callable[[str], Sequence[str]]) -> dict[str, Any]:
    """The content of a caption file made of a form.

    Args:
        path: of the form.
        states: gives the anomalous states of a category.

    Raises:
        CaptionError: the form cannot be read, or a field of it holds what it may not.
    """
    form = read_yaml(path, FILE)
    records: Mapping[str, Any] = form["categories"]
    refuse(path, (p for key, fields in records.items() for p in record_problems(key, fields, FORM, COMPONENT)))
    vocabulary = read_vocabulary(form["vocabulary"])
    own = {key: words for key, words in form["vocabulary"].items() if words}
    captions = {key: _write_record(fields, vocabulary, states(key)) for key, fields in records.items()}
    return {"schema": SCHEMA, **({"vocabulary": own} if own else {}), "categories": captions}


def _write_record(fields: Mapping[str, Any], vocabulary: Vocabulary, states: Sequence[str]) -> dict[str, Any]:
    things = f"{_say_number(fields['number'])} {fields['foreground']}"
    background = fields["background"]
    article = "an" if background and background[0] in "aeiou" else "a"
    place = "across the whole view" if background is None else f"on {article} {background} backdrop"
    *others, last = (f"the {part['entity']}" for part in fields["components"])
    listed = f"{', '.join(others)} and {last}" if others else last
    return {
        "caption": f"{things} {place}.",
        "foreground": fields["foreground"],
        "background": background,
        "relation": fields["relation"] or f"{listed[0].upper()}{listed[1:]} in the usual place.",
        "components": [
            {"entity": part["entity"], "caption": _describe(part, vocabulary, states), **part}
            for part in fields["components"]
        ],
    }


def _describe(part: Mapping[str, Any], vocabulary: Vocabulary, states: Sequence[str]) -> str:
    """The sentence of a component, without attributes that its name says already or a state denies."""
    words = (part[key] for key in ("texture", "colour", "shape"))
    attributes = [w for w in words if not mentions(part["entity"], w) and not opposing(w, vocabulary, states)]
    place = vocabulary.location.get(part["location"], part["location"])
    return " ".join([_say_number(part["number"]), *attributes, part["entity"], place]) + "."


def _say_number(number: int | str) -> str:
    if number == "multiple":
        return "Many"
    assert isinstance(number, int)
    return NUMBERS[number - 1] if number <= len(NUMBERS) else str(number)
