"""`bench list` and `bench show`: facts from the sources, without torch."""

import json
from collections.abc import Iterable, Mapping
from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmark.request import registry
from benchmark.request.groups import BackboneSettings, from_values
from benchmark.request.merging import Layer, Settings
from benchmark.request.protocols import PROTOCOLS
from benchmark.request.registry import ConfigError, unknown
from benchmark.request.settings import CONFIGS, NAMED, choices, chosen, compose
from benchmark.request.variants import VARIANTS

KINDS = ("methods", "datasets", "protocols", "backbones", "presets")
SHOWN = ("method", "dataset", "preset", "synthesis")
WIDTH = 120  # columns of printed YAML
NO_PAPER = "none (baseline)"


def print_list(what: str, console: Console) -> None:
    """Print everything of one kind, a line each."""
    if what not in KINDS:
        raise unknown("kind", what, KINDS)
    table = Table(box=None, header_style="bold", pad_edge=False)
    key, *facts = HEADS[what]
    table.add_column(key, no_wrap=True)  # a name is there to be copied
    for name in facts:
        table.add_column(name, overflow="fold")
    rows = list(ROWS[what]())
    if facts[-1:] == [ORIGIN] and not any(row[-1] for row in rows):  # no plug-in is installed
        table.columns.pop()
        rows = [row[:-1] for row in rows]
    for row in rows:
        table.add_row(*row)
    console.print(table)
    kind = what.removesuffix("s")
    for name in registry.names(kind) if kind in NAMED else ():
        if why := registry.why_broken(kind, name):
            console.print(f"{name}  broken: {why}", markup=False, highlight=False, soft_wrap=True)
    for _, words in registry.shadowed(kind) if kind in NAMED else ():
        console.print(f"note: {words}", markup=False, highlight=False, soft_wrap=True)


def _whole(kind: str) -> Iterable[str]:
    return (name for name in registry.names(kind) if not registry.why_broken(kind, name))


def _methods() -> Iterable[tuple[str, ...]]:
    for facts in map(registry.method, _whole("method")):
        needs = ", ".join(facts.needs)
        told = (", ".join(facts.protocols), facts.fits_on, needs, facts.paper or NO_PAPER, facts.summary)
        yield facts.name, *told, facts.distribution


def _datasets() -> Iterable[tuple[str, ...]]:
    for facts in map(registry.dataset, _whole("dataset")):
        count = str(len(facts.categories) or "on disk")
        place = f"$BENCH_DATA/{facts.folder_name} or dataset.root" if facts.needs_root else "nothing to download"
        yield facts.name, count, "yes" if facts.has_masks else "no", facts.licence, place, facts.distribution


def _protocols() -> Iterable[tuple[str, ...]]:
    return ((name, protocol.summary) for name, protocol in PROTOCOLS.items())


def _backbones() -> Iterable[tuple[str, ...]]:
    for name in choices("backbone"):
        backbone = from_values(BackboneSettings, chosen("backbone", name).values["backbone"])
        yield name, backbone.name, backbone.pretrained
    yield "NAME/PRETRAINED", "any ViT of open_clip", "tag or checkpoint path"
    yield "hf-hub:ORG/NAME", "any ViT that its open_clip_config.json describes", "of the repository"
    yield "local-dir:PATH", "likewise", "of the folder"


def _presets() -> Iterable[tuple[str, ...]]:
    for name in choices("preset"):
        first = (CONFIGS / "preset" / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
        yield name, first.lstrip("# ")


ORIGIN = "from"  # the package that offers a plug-in
HEADS = {
    "methods": ("method", "protocols", "fits on", "needs", "paper", "summary", ORIGIN),
    "datasets": ("dataset", "categories", "masks", "licence", "where", ORIGIN),
    "protocols": ("protocol", "what a method may see"),
    "backbones": ("backbone", "open_clip name", "weights"),
    "presets": ("preset", "what for"),
}
ROWS = {
    "methods": _methods,
    "datasets": _datasets,
    "protocols": _protocols,
    "backbones": _backbones,
    "presets": _presets,
}


def print_settings(what: str, name: str | None) -> None:
    """Print resolved YAML with the origin of each key as a comment."""
    if what not in SHOWN:
        raise unknown("kind", what, SHOWN)
    if name is None:
        raise ConfigError(f"`bench show {what}` needs a name of `bench list {what}s`, got none.")
    if what == "preset":
        settings = compose([chosen("preset", name)])
        groups = (
            "sweep",
            "backbone",
            "protocol",
            "trainer",
            "features",
            "predictions",
            "logger",
            "executor",
            "ray",
            "method",
            "dataset",
        )
        print("\n".join((*_yaml(settings, groups), *_variants(settings))))
        return
    facts: registry.Facts = registry.method(name) if what == "method" else registry.dataset(name)
    print(f"# {facts.summary}")
    for key, value in vars(facts).items():
        if key in SHOWN_FACTS and value not in ("", (), {}):
            print("\n".join(wrap(f"{key}: {_words(value)}", WIDTH, initial_indent="# ", subsequent_indent="#   ")))
    settings = compose([Layer("", {"sweep": {f"{what}s": [name]}})])
    print("\n".join(_yaml(settings, (what,), only=name)))


def _words(fact: object) -> str:
    """A fact in words; of a mapping such as `kinds` what has the same value stands together."""
    if not isinstance(fact, Mapping):
        return ", ".join(fact) if isinstance(fact, tuple) else str(fact)
    values = dict.fromkeys(fact.values())
    return "; ".join(f"{value} ({', '.join(key for key in fact if fact[key] == value)})" for value in values)


SHOWN_FACTS = (
    "distribution",
    "paper",
    "protocols",
    "fits_on",
    "needs",
    "categories",
    "aliases",
    "source",
    "obtain",
    "licence",
    "citation",
    "variant",
    "has_masks",
    "kinds",
)


def _yaml(settings: Settings, groups: Iterable[str], only: str | None = None) -> list[str]:
    lines = []
    for group in groups:
        values = settings.values.get(group, {})
        if group in ("method", "dataset"):
            requested = [only] if only else getattr(settings.sweep, NAMED[group])
            lines.append(f"{group}:")
            for name in requested:
                lines += [f"  {name}:" + ("" if values[name] else " {}")]
                lines += _block(settings, f"{group}.{name}", values[name])
        else:
            lines += [f"{group}:", *_block(settings, group, values)]
    return lines


def _block(settings: Settings, group: str, values: Mapping[str, Any]) -> list[str]:
    indent = 2 + 2 * group.count(".")
    return [line for key, value in values.items() for line in _lines(settings, f"{group}.{key}", value, indent)]


def _variants(settings: Settings) -> list[str]:
    """Variants in order, the reference first, and the figures printed elsewhere; JSON is YAML."""
    lines = []
    for group in VARIANTS:
        for index, (name, content) in enumerate(settings.values.get(group, {}).items()):
            lines += [] if index else [f"{group}:"]
            lines.append(f"  {name}:".ljust(48) + f"  # {settings.origins[f'variants.{name}']}")
            told = {v["label"]: v["changes"] for v in content} if group == "variants" else content
            lines += [f"    {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in told.items()]
    return lines


def _lines(settings: Settings, key: str, value: object, indent: int) -> list[str]:
    """A key with its value, origin and range, below comments that say what it means and what it may be."""
    declared, origin, space = settings.declared[key], settings.origins.get(key, "not set"), " " * indent
    unsaid = any(f'"{choice}"' not in declared.meaning for choice in declared.choices)
    choices = f" One of {', '.join(map(str, declared.choices))}." if unsaid else ""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = text if not isinstance(value, list) else "[" + ", ".join(map(str, value)) + "]"
    comment = f"{origin}, {declared.range}" if declared.range else origin
    return [
        *(f"{space}# {line}" for line in wrap(f"{declared.meaning}{choices}", WIDTH - indent - 2)),
        f"{space}{key.rsplit('.', 1)[1]}: {text}".ljust(48) + f"  # {comment}",
    ]
