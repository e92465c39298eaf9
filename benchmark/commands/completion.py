"""What TAB offers: names and settings, from the sources, without torch.

Nothing here may print or fail where a file is broken: the shell shows both between the words that are typed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import typer

from benchmark.commands.listing import LISTS
from benchmark.commands.show import SHOWN
from benchmark.metrics.table import metric_names
from benchmark.request import registry
from benchmark.request.protocols import PROTOCOLS
from benchmark.request.registry import ConfigError
from benchmark.request.settings import CHOSEN, GROUPS, ROOT, choices
from benchmark.request.source import Setting
from methods.components.captions.lookup import shipped_sets

Complete = Callable[[str], list[str]]


def one_of(names: Callable[[], Iterable[str]]) -> Complete:
    """Completes a name."""
    return lambda incomplete: [name for name in names() if name.startswith(incomplete)]


def listed(names: Callable[[], Iterable[str]]) -> Complete:
    """Completes the last name of a comma-separated list, to one that is not in it yet."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        said = before.split(",")
        return [f"{before}{comma}{name}" for name in names() if name.startswith(last) and name not in said]

    return complete


def methods() -> Iterable[str]:
    """Names of methods."""
    return registry.names("method")


def datasets() -> Iterable[str]:
    """Names of data sets."""
    return registry.names("dataset")


method, method_list = one_of(methods), listed(methods)
dataset, dataset_list = one_of(datasets), listed(datasets)
protocol_list = listed(lambda: PROTOCOLS)
backbone = one_of(lambda: (*choices("backbone"), "hf-hub:", "local-dir:"))
preset = one_of(lambda: choices("preset"))
metric_list = listed(lambda: metric_names(published=True))
kind = one_of(lambda: LISTS)
shown = one_of(lambda: SHOWN)
captions = one_of(shipped_sets)


def shown_name(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of what `bench show` shows."""
    names = {"method": methods, "dataset": datasets, "synthesis": datasets, "preset": lambda: choices("preset")}
    return one_of(names.get(ctx.params.get("what", ""), tuple))(incomplete)


def category_list(ctx: typer.Context, incomplete: str) -> list[str]:
    """Categories of the data sets that are named before; those that only a folder tells are unknown."""
    named = ctx.params.get("datasets") or ctx.params.get("name") or ""
    found = [its.categories for name in named.split(",") if (its := _facts(registry.dataset, name))]
    return listed(lambda: dict.fromkeys(category for its in found for category in its))(incomplete)


def words(ctx: typer.Context, incomplete: str) -> list[str]:
    """Settings as whole words: a key with each of its choices, or with its default.

    Bash parts words at "=", and asks for the value alone: behind KEY and =, or behind KEY where = is the last.
    """
    said: list[str] = ["", "", *(ctx.params.get("words") or [])]
    key, last = said[-2:]
    key = key if last == "=" else "" if incomplete or "=" in last else last
    begin = f"{key}=" if key else ""
    known = _words(ctx, begin + incomplete)
    return [word.removeprefix(begin) for word in known if word.startswith(begin + incomplete)]


def _words(ctx: typer.Context, incomplete: str) -> Iterator[str]:
    for group in CHOSEN:
        yield from (f"{group}={name}" for name in choices(group))
    for group, schema in GROUPS.items():
        if group != "sweep":
            yield from _settings(group, schema)
    asked = {"method": ctx.params.get("methods"), "dataset": ctx.params.get("datasets")}
    for group, read in (("method", registry.method), ("dataset", registry.dataset)):
        for name in (asked[group] or "").split(",") if asked[group] else registry.names(group):
            begin = f"{group}.{name}."
            if begin.startswith(incomplete) or incomplete.startswith(begin):
                facts = _facts(read, name)
                more = {"root": ROOT} if group == "dataset" else {}
                yield from _settings(begin.removesuffix("."), {**facts.settings, **more} if facts else {})


def _settings(group: str, schema: Mapping[str, Setting]) -> Iterator[str]:
    for key, setting in schema.items():
        values: tuple[object, ...] = (setting.default,)
        if isinstance(setting.default, bool):
            values = (True, False)
        elif setting.choices and not isinstance(setting.default, list):
            values = setting.choices
        yield from (f"{group}.{key}={_value(value)}" for value in values)


def _value(value: object) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _facts(read: Callable[[str], Any], name: str) -> Any:
    """The facts of a name; None where there are none."""
    try:
        return read(name)
    except ConfigError:
        return None
