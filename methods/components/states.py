"""Anomalous states of an object, in words: what PromptAD (arXiv:2404.05231) calls manual anomaly suffixes.

`promptad_states.json` holds the suffixes of each category, the words that follow the object's name. That a category of
MVTec AD or VisA has states of its own, and how many, two to seven, is the publication's manner (a suffix that its code
writes twice is counted once). The words are ours, after the data sets' own kinds of defects; the released words differ,
so published numbers may too. The synthetic sets and textile have lists in the same manner. A key stands for one list,
whichever data set it comes from: leather, screw, wood and zipper are MVTec AD's. Whoever names defects knows which ones
the test set has.
"""

import json
from pathlib import Path
from typing import Any, Literal

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
StateLists = Literal["specific", "generic"]


def anomalous_states(category: str, lists: StateLists, file: str | None = None) -> tuple[str, ...]:
    """The states of one category, each with "{}" in the place of the object's name.

    Args:
        category: its key.
        lists: "specific" adds the category's suffixes to the eight generic states, "generic" adds none.
        file: JSON that maps categories to lists of suffixes; None takes `promptad_states.json`.

    Raises:
        ValueError: no such lists, or "specific" finds no file, no JSON object or no list for this category; it names
            file, field and rule.
    """
    if lists not in ("specific", "generic"):
        raise ValueError(f"states must be 'specific' or 'generic'; got {lists!r}.")
    if lists == "generic":
        return GENERIC_STATES
    path = STATES_FILE if file is None else Path(file).absolute()
    suffixes = _read(path).get(category)
    if not isinstance(suffixes, list) or not suffixes or not all(_is_suffix(suffix) for suffix in suffixes):
        raise ValueError(
            f"{path}, field {category!r} must be a list of one or more suffixes, words that follow the object's name, "
            f"such as 'with rust', without braces; got {suffixes!r}. Write one, or set states=generic to do without."
        )
    return (*GENERIC_STATES, *("{} " + suffix for suffix in suffixes))


def _read(path: Path) -> dict[str, Any]:
    rule = f"{path} must be a JSON object with a list of suffixes for each category"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{rule}; got {error}.") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{rule}; got {fields!r}.")
    return fields


def _is_suffix(suffix: Any) -> bool:
    return isinstance(suffix, str) and bool(suffix.strip()) and not set(suffix) & set("{}")
