"""`bench list` and `bench show`: facts from the sources, without torch."""

import json
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from benchmark.request import registry
from benchmark.request.merging import Layer, Settings
from benchmark.request.protocols import PROTOCOLS
from benchmark.request.registry import ConfigError, unknown
from benchmark.request.settings import CONFIGS, choices, chosen, compose
from benchmark.request.variants import VARIANTS

KINDS = ("methods", "datasets", "protocols", "backbones", "presets")
SHOWN = ("method", "dataset", "preset", "synthesis")
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
    for row in ROWS[what]():
        table.add_row(*row)
    console.print(table)


def _methods() -> Iterable[tuple[str, ...]]:
    for facts in map(registry.method, registry.names("method")):
        yield facts.name, ", ".join(facts.protocols), facts.fits_on, facts.paper or NO_PAPER, facts.summary


def _datasets() -> Iterable[tuple[str, ...]]:
    for facts in map(registry.dataset, registry.names("dataset")):
        count = str(len(facts.categories) or "on disk")
        place = f"$BENCH_DATA/{facts.folder_name} or dataset.root" if facts.needs_root else "nothing to download"
        yield facts.name, count, "yes" if facts.has_masks else "no", facts.licence, place


def _protocols() -> Iterable[tuple[str, ...]]:
    return ((name, protocol.summary) for name, protocol in PROTOCOLS.items())


def _backbones() -> Iterable[tuple[str, ...]]:
    for name in choices("backbone"):
        values = chosen("backbone", name).values["backbone"]
        yield name, values["name"], values["pretrained"]
    yield "NAME/PRETRAINED", "any ViT of open_clip", "tag or checkpoint path"
    yield "hf-hub:ORG/NAME", "any ViT that its open_clip_config.json describes", "of the repository"
    yield "local-dir:PATH", "likewise", "of the folder"


def _presets() -> Iterable[tuple[str, ...]]:
    for name in choices("preset"):
        first = (CONFIGS / "preset" / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
        yield name, first.lstrip("# ")


HEADS = {
    "methods": ("method", "protocols", "fits on", "paper", "summary"),
    "datasets": ("dataset", "categories", "masks", "licence", "where"),
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
        groups = ("sweep", "backbone", "protocol", "trainer", "features", "logger", "method", "dataset")
        print("\n".join((*_yaml(settings, groups), *_variants(settings))))
        return
    facts: registry.Facts = registry.method(name) if what == "method" else registry.dataset(name)
    print(f"# {facts.summary}")
    for key, value in vars(facts).items():
        if key in SHOWN_FACTS and value not in ("", (), {}):
            print(f"# {key}: {', '.join(value) if isinstance(value, tuple) else value}")
    settings = compose([Layer("", {"sweep": {f"{what}s": [name]}})])
    print("\n".join(_yaml(settings, (what,), only=name)))


SHOWN_FACTS = ("paper", "protocols", "fits_on", "categories", "source", "licence", "variant", "has_masks", "kinds")


def _yaml(settings: Settings, groups: Iterable[str], only: str | None = None) -> list[str]:
    lines = []
    for group in groups:
        values = settings.values.get(group, {})
        if group in ("method", "dataset"):
            requested = [only] if only else settings["sweep"][f"{group}s"]
            lines.append(f"{group}:")
            for name in requested:
                body = [_line(settings, f"{group}.{name}.{key}", value, 4) for key, value in values[name].items()]
                lines += [f"  {name}:" + ("" if body else " {}"), *body]
        else:
            lines += [f"{group}:", *(_line(settings, f"{group}.{key}", value, 2) for key, value in values.items())]
    return lines


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


def _line(settings: Settings, key: str, value: object, indent: int) -> str:
    origin = settings.origins.get(key, "not set")
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = text if not isinstance(value, list) else "[" + ", ".join(map(str, value)) + "]"
    comment = f"{origin}, {settings.ranges[key]}" if key in settings.ranges else origin
    return f"{' ' * indent}{key.rsplit('.', 1)[1]}: {text}".ljust(48) + f"  # {comment}"
