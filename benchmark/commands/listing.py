"""`bench list`: what can be asked for, from the sources, without torch."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.console import Console

from benchmark.commands.columns import plain, print_rows
from benchmark.request import registry
from benchmark.request.groups import BackboneSettings, from_values
from benchmark.request.protocols import PROTOCOLS
from benchmark.request.registry import unknown
from benchmark.request.settings import CONFIGS, NAMED, choices, chosen

Item = Mapping[str, Any]
NO_PAPER = "none (baseline)"
#: What `--backbone` takes besides names of the list.
OPEN_NAMES = (
    ("NAME/PRETRAINED", "any ViT of open_clip", "tag or checkpoint path"),
    ("hf-hub:ORG/NAME", "any ViT that its open_clip_config.json describes", "of the repository"),
    ("local-dir:PATH", "likewise", "of the folder"),
)


def print_list(what: str, console: Console, *, as_json: bool) -> None:
    """Print everything of one kind, a row each, or as a JSON list of objects; what is broken stands at the end.

    Raises:
        ConfigError: there is no such kind.
    """
    if what not in LISTS:
        raise unknown("kind", what, LISTS)
    items, head, row = LISTS[what]
    kind = what.removesuffix("s")
    named = registry.names(kind) if kind in NAMED else ()
    broken = {name: why for name in named if (why := registry.why_broken(kind, name))}
    whole = list(items())
    if as_json:
        lost = [dict.fromkeys(whole[0]) | {"name": name, "broken": why} for name, why in broken.items()]
        print(json.dumps([*whole, *lost], indent=1, ensure_ascii=False))
        return
    rows = [*map(row, whole), *(OPEN_NAMES if what == "backbones" else ())]
    if any(item.get("from") for item in whole):  # plug-ins are installed
        head, rows = (*head, "from"), [(*its, item["from"] or "") for its, item in zip(rows, whole, strict=True)]
    print_rows(head, rows, console)
    for name, why in broken.items():
        console.print(f"{name}  broken: {plain(why)}", markup=False, highlight=False, soft_wrap=True)
    for _, words in registry.shadowed(kind) if kind in NAMED else ():
        console.print(f"note: {words}", markup=False, highlight=False, soft_wrap=True)


def _whole(kind: str) -> Iterable[str]:
    return (name for name in registry.names(kind) if not registry.why_broken(kind, name))


def _methods() -> Iterable[Item]:
    for facts in map(registry.method, _whole("method")):
        yield {
            "name": facts.name,
            "summary": facts.summary,
            "protocols": facts.protocols,
            "fits_on": facts.fits_on,
            "needs": facts.needs,
            "paper": facts.paper or None,
            "from": facts.distribution or None,
            "file": str(facts.path),
            "broken": None,
        }


def _datasets() -> Iterable[Item]:
    for facts in map(registry.dataset, _whole("dataset")):
        yield {
            "name": facts.name,
            "summary": facts.summary,
            "categories": facts.categories or None,
            "has_masks": facts.has_masks,
            "licence": facts.licence,
            "source": facts.source,
            "folder": facts.folder_name if facts.needs_root else None,
            "from": facts.distribution or None,
            "file": str(facts.path),
            "broken": None,
        }


def _protocols() -> Iterable[Item]:
    return ({"name": name} | protocol._asdict() for name, protocol in PROTOCOLS.items())


def _backbones() -> Iterable[Item]:
    for name in choices("backbone"):
        backbone = from_values(BackboneSettings, chosen("backbone", name).values["backbone"])
        yield {"name": name, "model": backbone.name, "pretrained": backbone.pretrained}


def _presets() -> Iterable[Item]:
    for name in choices("preset"):
        first = (CONFIGS / "preset" / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
        yield {"name": name, "summary": first.lstrip("# ")}


def _method_row(item: Item) -> tuple[str, ...]:
    protocols, needs = ", ".join(item["protocols"]), ", ".join(item["needs"])
    return item["name"], protocols, item["fits_on"], needs, item["paper"] or NO_PAPER, item["summary"]


def _dataset_row(item: Item) -> tuple[str, ...]:
    count = str(len(item["categories"])) if item["categories"] else "on disk"
    place = "nothing to download" if item["folder"] is None else f"$BENCH_DATA/{item['folder']} or dataset.root"
    return item["name"], count, "yes" if item["has_masks"] else "no", item["licence"], place


def _plain_row(item: Item) -> tuple[str, ...]:
    return tuple(item[key] for key in ("name", "summary", "model", "pretrained") if key in item)


#: Of each kind its items, the headings of its columns, and the row of an item.
LISTS: Mapping[str, tuple[Callable[[], Iterable[Item]], tuple[str, ...], Callable[[Item], tuple[str, ...]]]] = {
    "methods": (_methods, ("method", "protocols", "fits on", "needs", "paper", "summary"), _method_row),
    "datasets": (_datasets, ("dataset", "categories", "masks", "licence", "where"), _dataset_row),
    "protocols": (_protocols, ("protocol", "what a method may see"), _plain_row),
    "backbones": (_backbones, ("backbone", "open_clip name", "weights"), _plain_row),
    "presets": (_presets, ("preset", "what for"), _plain_row),
}
