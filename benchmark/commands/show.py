"""`bench show`: what is known of a method, data set or preset, and each of its settings, without torch."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import wrap
from types import GenericAlias
from typing import Any, NamedTuple

from benchmark.request import registry
from benchmark.request.merging import Layer, Settings
from benchmark.request.registry import ROOT, ConfigError, unknown
from benchmark.request.settings import GROUPS, NAMED, choices, chosen, compose, parse_words
from benchmark.request.variants import VARIANTS

SHOWN = ("method", "dataset", "preset", "synthesis")
WIDTH = 80  # columns of printed YAML; what must be copied whole, such as a path, may be longer
BEHIND = 34  # column at which the comment behind a value begins
PAPER = "paper/"  # presets that set what a paper has
SHOWN_FACTS = (
    "distribution", "paper", "protocols", "fits_on", "needs", "categories", "aliases", "source", "obtain", "licence",
    "citation", "variant", "has_masks", "kinds",
)  # fmt: skip
#: What a mark in the meaning of a setting says of where its value comes from.
MARKS = {
    "[s]": "stated by the source",
    "[r]": "recalled from it",
    "[i]": "inferred",
    "[u]": "told by no source",
}
_wrap = partial(wrap, break_long_words=False, break_on_hyphens=False)


class Shown(NamedTuple):
    """What is shown: facts by name, and settings."""

    summary: str
    facts: Mapping[str, Any]
    settings: Settings
    groups: Sequence[str]  # of the settings, such as "trainer" or "method.winclip"
    in_detail: bool  # whether all that is known of each setting is told
    papers: Mapping[str, Mapping[str, Any]]  # of a key of a method: preset of a paper → the value that it sets


def print_settings(what: str, name: str | None, words: Sequence[str], *, as_json: bool) -> None:
    """Print facts and settings as YAML whose comments tell meaning, range and origin of each, or as JSON.

    Args:
        what: one of `SHOWN` but "synthesis".
        name: of `bench list`; of a data set also NAME=PATH, a set of your own.
        words: `key=value` that then hold.
        as_json: one object instead.

    Raises:
        ConfigError: there is no such kind, name or key.
    """
    if what not in SHOWN:
        raise unknown("kind", what, SHOWN)
    if name is None:
        raise ConfigError(f"`bench show {what}` needs a name of `bench list {what}s`, got none.")
    shown = _preset(name, words) if what == "preset" else _one(what, name, words)
    print(json.dumps(_data(what, name, shown), indent=1, ensure_ascii=False) if as_json else "\n".join(_text(shown)))


def _one(what: str, name: str, words: Sequence[str]) -> Shown:
    """A method or a data set."""
    settings = compose([Layer("", {"sweep": {f"{what}s": [name]}}), parse_words(words)])
    known = getattr(settings.sweep, NAMED[what])[0]
    facts: registry.Facts = registry.method(known) if what == "method" else registry.dataset(known)
    told = {key: value for key in SHOWN_FACTS if (value := getattr(facts, key, "")) not in ("", (), {})}
    papers = _papers(known) if what == "method" else {}
    told |= {"presets": tuple(papers)} if papers else {}
    return Shown(facts.summary, told, settings, [f"{what}.{known}"], True, papers)


def _preset(name: str, words: Sequence[str]) -> Shown:
    settings = compose([chosen("preset", name), parse_words(words)])
    named = [f"{group}.{its}" for group, axis in NAMED.items() for its in getattr(settings.sweep, axis)]
    return Shown("", {}, settings, [*GROUPS, *named], False, {})


def _papers(method: str) -> dict[str, Mapping[str, Any]]:
    """The presets of papers that run a method alone, and what each sets of it."""
    presets = {name: chosen("preset", name).values for name in choices("preset") if name.startswith(PAPER)}
    its = {name: values for name, values in presets.items() if values["sweep"]["methods"] == [method]}
    return {name: values.get("method", {}).get(method, {}) for name, values in its.items()}


def _data(what: str, name: str, shown: Shown) -> dict[str, Any]:
    """What is shown, as plain data."""
    told = {key: shown.settings.values[key] for key in VARIANTS if key in shown.settings.values}
    settings = {
        f"{group}.{key}": _setting(shown, group, key, value)
        for group in shown.groups
        for key, value in _values(shown, group).items()
    }
    facts = {"kind": what, "name": name, "summary": shown.summary, "facts": shown.facts}
    return facts | {"settings": settings} | told


def _setting(shown: Shown, group: str, key: str, value: Any) -> dict[str, Any]:
    """All that is known of a setting."""
    declared = shown.settings.declared[f"{group}.{key}"]
    kind = declared.type
    return {
        "value": value,
        "default": declared.default,
        "type": kind.__name__ if isinstance(kind, type) and not isinstance(kind, GenericAlias) else str(kind),
        "meaning": declared.meaning,
        "detail": declared.detail,
        "range": declared.range or None,
        "choices": declared.choices or None,
        "origin": _origin(shown.settings.origins.get(f"{group}.{key}"), declared.path),
        "paper": {preset: values[key] for preset, values in shown.papers.items() if key in values},
    }


def _origin(layer: str | None, declared: Path | None) -> str | None:
    """Where a value comes from; a default from the file that declares the setting, whose class others may inherit."""
    if layer is None or declared is None or not layer.endswith(".py"):
        return layer
    return declared.relative_to(ROOT).as_posix() if declared.is_relative_to(ROOT) else str(declared)


def _values(shown: Shown, group: str) -> Mapping[str, Any]:
    top, _, name = group.partition(".")
    values: Mapping[str, Any] = shown.settings.values[top]
    return values[name] if name else values


def _text(shown: Shown) -> Iterator[str]:
    if shown.summary:
        yield from _wrap(shown.summary, WIDTH, initial_indent="# ", subsequent_indent="# ")
    for name, fact in shown.facts.items():
        yield from _wrap(f"{name}: {_words(fact)}", WIDTH, initial_indent="# ", subsequent_indent="#   ")
    if marks := _marks(shown):
        yield from _wrap(f"where values come from: {marks}", WIDTH, initial_indent="# ", subsequent_indent="#   ")
    before = ""
    for group in shown.groups:
        top, _, name = group.partition(".")
        values = _values(shown, group)
        if top != before:
            yield f"{top}:"
        if name:
            yield f"  {name}:" + ("" if values else " {}")
        before = top
        for key, value in values.items():
            its = _setting(shown, group, key, value)
            yield from _lines(key, its if shown.in_detail else its | {"detail": ""}, " " * (4 if name else 2))
    yield from _variants(shown.settings)


def _marks(shown: Shown) -> str:
    """What the marks say that meanings of the shown settings have, in words; "" where there is none."""
    declared = [shown.settings.declared[f"{group}.{key}"] for group in shown.groups for key in _values(shown, group)]
    said = " ".join(f"{setting.meaning} {setting.detail}" for setting in declared) if shown.in_detail else ""
    return ", ".join(f"{mark} {words}" for mark, words in MARKS.items() if mark in said)


def _lines(key: str, its: Mapping[str, Any], space: str) -> Iterator[str]:
    """A key with its value and origin, below comments that say what it means and what it may be."""
    choices, default = its["choices"] or (), its["default"]
    unsaid = any(f'"{choice}"' not in its["meaning"] for choice in choices)
    told = [words for words in (its["meaning"], its["detail"]) if words]
    told += [f"One of {', '.join(map(str, choices))}."] if unsaid else []
    told += [f"{preset} sets {_scalar(value)}." for preset, value in its["paper"].items() if value != its["value"]]
    yield from _wrap(" ".join(told), WIDTH, initial_indent=f"{space}# ", subsequent_indent=f"{space}# ")
    comment = ", ".join(
        [
            its["origin"] or "not set",
            *([its["range"]] if its["range"] else []),
            *([f"default {_scalar(default)}"] if default != its["value"] else []),
        ]
    )
    line = f"{space}{key}: {_scalar(its['value'])}"
    beside = f"{line.ljust(BEHIND)}  # {comment}"
    yield from [beside] if len(beside) <= WIDTH else [f"{space}# {comment}", line]


def _scalar(value: object) -> str:
    """A value as YAML writes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _words(fact: object) -> str:
    """A fact in words; of a mapping such as `kinds` what has the same value stands together."""
    if not isinstance(fact, Mapping):
        return ", ".join(fact) if isinstance(fact, tuple) else str(fact)
    values = dict.fromkeys(fact.values())
    return "; ".join(f"{value} ({', '.join(key for key in fact if fact[key] == value)})" for value in values)


def _variants(settings: Settings) -> Iterator[str]:
    """Variants in order, the reference first, and the figures printed elsewhere; JSON is YAML."""
    for group in VARIANTS:
        for index, (name, content) in enumerate(settings.values.get(group, {}).items()):
            if not index:
                yield f"{group}:"
            yield f"  {name}:".ljust(BEHIND) + f"  # {settings.origins[f'variants.{name}']}"
            told = {v["label"]: v["changes"] for v in content} if group == "variants" else content
            for key, value in told.items():
                yield f"    {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
