"""The cell of one method on images that belong to no data set: what `bench predict` and `Detector` fit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmark.request import registry
from benchmark.request.cell import Cell
from benchmark.request.merging import Layer
from benchmark.request.plan import make_plan
from benchmark.request.protocols import PROTOCOLS
from benchmark.request.registry import FOLDER, ConfigError, MethodFacts
from benchmark.request.settings import compose, parse_words
from benchmark.request.words import Said
from datamodules.components.roots import cache_folder

ORIGIN = "the settings of the method"
KEPT = "detectors"  # folder of the cache in which fits on auxiliary sets are kept
ANYTHING = "object"  # the category of a method to which names say nothing


def protocol_of(facts: MethodFacts, *, shots: bool) -> str | None:
    """The first protocol in which a method sees shots of what it is tested on, or sees none; None if there is none."""
    for name in facts.protocols:
        if not PROTOCOLS[name].holds_out and PROTOCOLS[name].uses_shots == shots:
            return name
    return None


def name_category(facts: MethodFacts, object_name: str | None) -> str:
    """The key of a category by the words for its object.

    Raises:
        ConfigError: no words where the method writes them into its prompts, or words that cannot be a key.
    """
    reads = "text_tower" in facts.needs and any(need.startswith("category") for need in facts.needs)
    if object_name is None and reads:
        raise ConfigError(
            f"{facts.name} writes the name of the object into its prompts: say it with --object, or object_name=, "
            f"such as 'metal nut', or '{ANYTHING}' where none fits."
        )
    words = ANYTHING if object_name is None else object_name.strip()
    if not words or not words.isprintable() or {*words} & {*"/\\"}:
        raise ConfigError(f"an object's name must be printable words without a slash; got {object_name!r}.")
    return words.replace(" ", "_")


def single_cell(
    method: str,
    category: str,
    *,
    shots: int,
    seed: int,
    backbone: str,
    device: str,
    words: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Cell:
    """The cell of a method that sees `shots` normal images of one category, 0 or more.

    Args:
        method: its name.
        category: see `name_category`.
        shots: normal images that it is shown.
        seed: of the fit.
        backbone: as `bench run --backbone` takes it.
        device: of `trainer.accelerator`.
        words: further `key=value` words of `bench run`.
        settings: of the method, by name.

    Raises:
        ConfigError: a name or value is wrong, or the method cannot do with, or without, shots.
    """
    facts = registry.method(method)
    protocol = protocol_of(facts, shots=shots > 0)
    if protocol is None:
        needed = "needs normal images: give some (--shots, or fit)" if not shots else "looks at no normal images"
        raise ConfigError(f"{method} {needed}; its protocols are {', '.join(facts.protocols)}.")
    axes = {"methods": [method], "datasets": [FOLDER], "protocols": [protocol], "seeds": [seed]}
    asked = {"sweep": {**axes, "shots": [max(1, shots)]}}
    asked |= {"trainer": {"accelerator": device}} if device != "auto" else {}
    said = parse_words(words, [Said(f"--backbone {backbone}", ("backbone",), backbone)])
    values = {method: _plain(settings or {})}
    composed = compose([Layer(ORIGIN, {"method": values}), said, Layer("the call", asked)])
    (cell,) = make_plan(composed, {FOLDER: (category,)}).cells
    return replace(cell, shots=shots, where=replace(cell.where, results=str(cache_folder() / KEPT)))


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
