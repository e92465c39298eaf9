"""Anomalous states of an object, in words: what PromptAD (arXiv:2404.05231) calls manual anomaly suffixes.

`promptad_states.json` holds the suffixes of each category, the words that follow the object's name. That a category of
MVTec AD or VisA has states of its own, and how many, two to seven, is the publication's manner (a suffix that its code
writes twice is counted once). The words are ours, after the data sets' own kinds of defects; the released words differ,
so published numbers may too. The synthetic sets and textile have lists in the same manner. A key stands for one list,
whichever data set it comes from: leather, screw, wood and zipper are MVTec AD's. Whoever names defects knows which ones
the test set has.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

STATES_FILE = Path(__file__).with_name("promptad_states.json")
GENERIC_STATES = (
    "damaged {}",
    "flawed {}",
    "abnormal {}",
    "imperfect {}",
    "blemished {}",
    "{} with flaw",
    "{} with defect",
    "{} with damage",
)
StateLists = Literal["auto", "specific", "generic"]


def anomalous_states(category: str, lists: StateLists, file: str | None = None) -> tuple[str, ...]:
    """The states of one category, each with "{}" in the place of the object's name.

    Args:
        category: its key.
        lists: "specific" adds the category's suffixes to the eight generic states, "generic" adds none, "auto" adds
            them where the category has some.
        file: JSON that maps categories to lists of suffixes; None takes `promptad_states.json`.

    Raises:
        ValueError: no such choice, a file or a list that is none, or "specific" finds no list for this category; it
            names file, field and rule.
    """
    if lists not in get_args(StateLists):
        raise ValueError(f"states must be 'auto', 'specific' or 'generic'; got {lists!r}.")
    if lists == "generic" or without_list([category], lists, file):
        return GENERIC_STATES
    suffixes = read_lists(file).get(category)
    if not isinstance(suffixes, list) or not suffixes or not all(_is_suffix(suffix) for suffix in suffixes):
        raise ValueError(
            f"{_path(file)}, field {category!r} must be a list of one or more suffixes, words that follow the object's "
            f"name, such as 'with rust', without braces; got {suffixes!r}. Write one, or set states=generic to do "
            "without."
        )
    return (*GENERIC_STATES, *("{} " + suffix for suffix in suffixes))


def without_list(categories: Iterable[str], lists: StateLists, file: str | None = None) -> list[str]:
    """The categories that "auto" gives the generic states alone; none with another choice.

    Raises:
        ValueError: there is no such file, or it holds no JSON object.
    """
    if lists != "auto":
        return []
    found = read_lists(file)
    return [category for category in categories if category not in found]


def remarks_on_lists(categories: Iterable[str], lists: StateLists, file: str | None = None) -> list[str]:
    """What a plan and a record say of the categories of `without_list`; nothing if there are none."""
    plain = without_list(categories, lists, file)
    return [f"no defect words for {', '.join(plain)}: generic states"] if plain else []


def read_lists(file: str | None = None) -> dict[str, Any]:
    """What stands in the file, category by category; ValueError if it cannot be read or is no JSON object."""
    path = _path(file)
    rule = f"{path} must be a JSON object with a list of suffixes for each category"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{rule}; got {error}.") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{rule}; got {fields!r}.")
    return fields


def _path(file: str | None) -> Path:
    return STATES_FILE if file is None else Path(file).absolute()


def _is_suffix(suffix: Any) -> bool:
    return isinstance(suffix, str) and bool(suffix.strip()) and not set(suffix) & set("{}")
