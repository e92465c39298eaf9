"""Own data sets by name: `--datasets parts=/my/parts,cells=/my/cells` asks for two, which the data set `folder` reads.

Each is known as `folder-NAME` from here on, in ids, records and tables; what it is called says who reads it, so no
process has to be told. Settings may be given by either name.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark.request import registry
from benchmark.request.merging import Layer
from benchmark.request.registry import OWN, ConfigError
from datamodules.components.roots import plain_path

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def name_own_sets(layers: Sequence[Layer]) -> list[Layer]:
    """The layers with each NAME=PATH, and each `dataset.folder.name`, in the form that the rest of a request knows.

    Raises:
        ConfigError: a name is none or that of a known set, or two names stand for one folder.
    """
    named = [_with_roots(layer) for layer in layers]
    given = next((name for layer in reversed(named) if (name := _of(layer, "folder").get("name"))), None)
    if given is not None:
        named = [_renamed(layer, {"folder": own_name(str(given))}) for layer in named]
    own = {name for layer in named for name in _datasets(layer) if name.startswith(OWN)}
    named = [_renamed(layer, {name.removeprefix(OWN): name for name in own}, keys_alone=True) for layer in named]
    _check_roots(named, own)
    return named


def own_name(name: str) -> str:
    """What an own data set is known as; ConfigError if it cannot be called so."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"an own data set must be named by 1 to 40 of a-z, 0-9, _ and -, none of the last two first; got {name!r}."
        )
    if name in registry.names("dataset"):
        raise ConfigError(f"an own data set cannot be named {name!r}: `bench list datasets` has one of that name.")
    return f"{OWN}{name}"


def _with_roots(layer: Layer) -> Layer:
    """A layer in which NAME=PATH has become a name, and its path the root of that data set."""
    roots: dict[str, str] = {}

    def known(text: Any) -> Any:
        name, equals, path = text.partition("=") if isinstance(text, str) else (text, "", "")
        if not equals:
            return text
        if not path:
            raise ConfigError(f"{text!r} ({layer.origin}) must be NAME=PATH.")
        if roots.setdefault(own_name(name.strip()), path) != path:
            raise ConfigError(f"{name.strip()} ({layer.origin}) names two folders: {roots[own_name(name)]} and {path}.")
        return own_name(name.strip())

    values = _copy(layer.values)
    if isinstance(asked := values.get("sweep", {}).get("datasets"), list | tuple):
        values["sweep"]["datasets"] = [known(each) for each in asked]
    if isinstance(values.get("protocol"), dict) and "auxiliary" in values["protocol"]:
        values["protocol"]["auxiliary"] = known(values["protocol"]["auxiliary"])
    for name, path in roots.items():
        values.setdefault("dataset", {}).setdefault(name, {}).setdefault("root", path)
    return replace(layer, values=values)


def _renamed(layer: Layer, names: Mapping[str, str], *, keys_alone: bool = False) -> Layer:
    """A layer with other names of data sets: in the settings and, unless `keys_alone`, where they are asked for."""
    values = _copy(layer.values)
    if isinstance(given := values.get("dataset"), dict):
        moved: dict[str, Any] = {}
        for key, value in given.items():
            name = names.get(key, key) if isinstance(value, dict) else key
            its = {k: v for k, v in value.items() if k != "name"} if isinstance(value, dict) else value
            moved[name] = {**moved.get(name, {}), **its} if isinstance(its, dict) else its
        values["dataset"] = moved
    if not keys_alone and isinstance(asked := values.get("sweep", {}).get("datasets"), list | tuple):
        values["sweep"]["datasets"] = [names.get(each, each) for each in asked]
    return replace(layer, values=values)


def _check_roots(layers: Iterable[Layer], own: Iterable[str]) -> None:
    places: dict[str, str] = {}
    for name in sorted(own):
        roots = [root for layer in layers if (root := _of(layer, name).get("root"))]
        place = str(plain_path(Path(str(roots[-1])))) if roots else ""
        if place and places.setdefault(place, name) != name:
            one, other = (each.removeprefix(OWN) for each in (places[place], name))
            raise ConfigError(f"{one} and {other} are one folder, {place}: name it once.")


def _datasets(layer: Layer) -> list[str]:
    asked = layer.values.get("sweep", {}) if isinstance(layer.values.get("sweep"), Mapping) else {}
    protocol = layer.values.get("protocol") if isinstance(layer.values.get("protocol"), Mapping) else {}
    named = asked.get("datasets")
    found = [each for each in named if isinstance(each, str)] if isinstance(named, list | tuple) else []
    auxiliary = protocol.get("auxiliary") if protocol else None
    return [*found, *([auxiliary] if isinstance(auxiliary, str) else [])]


def _of(layer: Layer, name: str) -> Mapping[str, Any]:
    given = layer.values.get("dataset")
    its = given.get(name) if isinstance(given, Mapping) else None
    return its if isinstance(its, Mapping) else {}


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}
