"""Pages made of what the registry knows of data sets, presets and settings; no torch."""

from collections.abc import Mapping
from types import NoneType
from typing import get_args, get_origin

from benchmark.commands.listing import LISTS
from benchmark.request import registry
from benchmark.request.registry import DatasetFacts
from benchmark.request.settings import GROUPS
from benchmark.request.source import Setting, read_source
from tables import cell, code, table

SETTING_HEAD = ("setting", "default", "allowed", "meaning")
GROUP_SAYS = {
    "sweep": "Which cells there are; options of `bench run`.",
    "backbone": "The frozen CLIP.",
    "protocol": "What must be equal for two rows to compare.",
    "trainer": "How it runs; changes no number.",
    "features": "The store of features of frozen passes.",
    "predictions": "What is kept of a test.",
    "logger": "Whom else to tell.",
    "executor": "What runs the cells.",
    "ray": "Of `executor=ray`.",
}


def kind_of(setting: Setting) -> str:
    """What a setting may be, in words: its range, its choices or its type."""
    if setting.choices:
        return ", ".join(code(choice) for choice in setting.choices)
    optional = NoneType in get_args(setting.type)
    plain = next(kind for kind in get_args(setting.type) if kind is not NoneType) if optional else setting.type
    listed = get_origin(plain) is list
    each = get_args(plain)[0] if listed else plain
    many = f"list of {setting.length} " if setting.length else "list of "
    return (
        (many if listed else "") + f"{each.__name__} {cell(setting.range)}".strip() + (" or null" if optional else "")
    )


def settings_table(settings: Mapping[str, Setting], prefix: str) -> str:
    """A line for each setting: name, default, what is allowed, meaning."""
    rows = [
        (code(f"{prefix}{name}"), code(setting.default), kind_of(setting), cell(setting.meaning))
        for name, setting in settings.items()
    ]
    return table(SETTING_HEAD, rows)


def tables_of_settings() -> str:
    """The settings that belong to no method and no data set."""
    return "\n\n".join(
        f"## {group}\n\n{GROUP_SAYS.get(group, '')}\n\n{settings_table(settings, f'{group}.')}"
        for group, settings in GROUPS.items()
    )


def table_of_presets() -> str:
    """Every preset and what it is for."""
    return table(("preset", "what for"), [(code(its["name"]), cell(its["summary"])) for its in LISTS["presets"][0]()])


def datasets() -> list[DatasetFacts]:
    """The data sets of this repository."""
    every = [registry.dataset(name) for name in registry.names("dataset")]
    return [facts for facts in every if facts.path.is_relative_to(registry.ROOT)]


def _way(facts: DatasetFacts) -> str:
    if not facts.needs_root:
        return cell(facts.source) if facts.source.startswith("pip ") else "made here"
    return code(f"bench data prepare {facts.name} --yes") if facts.archives else "by hand"


def table_of_datasets() -> str:
    """Every data set in a line."""
    rows = [
        (
            f"[{facts.name}](reference/datasets.md#{facts.name})",
            len(facts.categories) or "as found",
            "yes" if facts.has_masks else "no",
            cell(facts.licence),
            _way(facts),
        )
        for facts in datasets()
    ]
    return table(("data set", "categories", "masks", "licence", "how to get it"), rows)


def sections_of_datasets() -> str:
    """A section for each data set."""
    return "\n\n".join(map(_section, datasets()))


def _section(facts: DatasetFacts) -> str:
    layout = read_source(facts.path, ("categories", "source", "licence")).attributes.get("layout", "")
    counts = [
        f"{variant}: {sum(c[0] for c in of.values()):,} training images, {sum(c[1] for c in of.values()):,} normal and "
        f"{sum(c[2] for c in of.values()):,} anomalous test images"
        + (" (recalled, not confirmed)" if variant in facts.unconfirmed else "")
        for variant, of in facts.counts.items()
    ]
    address = facts.source.startswith("https://") and " " not in facts.source
    said = {
        "how": _way(facts),
        "categories": ", ".join(facts.categories) or "the folders that are there",
        "counts": cell("; ".join(counts)),
        "source": f"<{facts.source}>" if address else cell(facts.source),
        "licence": cell(facts.licence),
        "cite": cell(facts.citation),
        "known elsewhere as": cell(", ".join(facts.aliases)),
        "folder": code(f"$BENCH_DATA/{facts.folder_name}") if facts.folder_name else "",
        "layout": code(layout) if layout else "",
        "to get it": cell(facts.obtain),
    }
    lines = [f"- **{name}**: {value}" for name, value in said.items() if value]
    settings = settings_table(facts.settings, f"dataset.{facts.name}.") if facts.settings else ""
    return f"## {facts.name}\n\n{cell(facts.summary)}\n\n" + "\n".join(lines) + f"\n\n{settings}"
