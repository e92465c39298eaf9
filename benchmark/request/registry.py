"""Names to facts and classes. A file is its own registration: `methods/winclip.py` is the method "winclip".

Facts are read from the source, so that listing, planning and refusing need no torch. A third party adds a
module through the entry-point groups `clip_ad_bench.methods` and `clip_ad_bench.datasets`.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from inspect import isabstract
from pathlib import Path
from typing import Any, NamedTuple, get_origin

from benchmark.request.protocols import PROTOCOLS
from benchmark.request.source import Setting, SourceError, read_source
from datamodules.components.roots import find_root
from datamodules.components.sample import UserError

PACKAGES = {"method": "methods", "dataset": "datamodules"}
ROOT = Path(__file__).parents[2]
FOLDER = "folder"  # the data set that reads own images
OWN = f"{FOLDER}-"  # what the name of an own data set begins with, see `benchmark.request.own_sets`


class ConfigError(UserError):
    """The request is wrong; the message says what came and what is allowed."""


@dataclass(frozen=True)
class Facts:
    """What stands in the file of every method and every data set."""

    name: str
    module: str
    path: Path
    summary: str
    settings: Mapping[str, Setting]


@dataclass(frozen=True)
class MethodFacts(Facts):
    """Literals of a method's class; the meaning of each is in `methods.components.base.Method`."""

    paper: str
    protocols: tuple[str, ...]
    fits_on: str = "nothing"
    max_epochs: int = 0
    needs: tuple[str, ...] = ()
    published: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetFacts(Facts):
    """Literals of a data set's class; their meaning is in `datamodules.components.base.AnomalyDataModule`."""

    categories: tuple[str, ...]
    source: str
    licence: str
    variant: str = "standard"
    has_masks: bool = True
    needs_root: bool = True
    folder_name: str = ""
    object_names: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, tuple[int, int, int]]] = field(default_factory=dict)
    unconfirmed: tuple[str, ...] = ()
    citation: str = ""
    aliases: tuple[str, ...] = ()
    archives: tuple[Mapping[str, Any], ...] = ()
    obtain: str = ""

    def variant_of(self, settings: Mapping[str, Any]) -> str:
        """Which split in circulation the set is with these settings: its setting `variant` where it has one."""
        return str(settings.get("variant", self.variant))


class Claim(NamedTuple):
    """A module that wants to be known by a name."""

    module: str
    path: Path | None
    problem: str = ""  # why it cannot


def names(kind: str) -> tuple[str, ...]:
    """Every key of `kind` ("method" or "dataset"), also of what is broken."""
    return tuple(_modules(kind))


def why_broken(kind: str, name: str) -> str:
    """Why the facts of a name of `names` cannot be read; "" where they can."""
    try:
        (method if kind == "method" else dataset)(name)
    except ConfigError as error:
        return str(error)
    return ""


def method(name: str) -> MethodFacts:
    """Facts of a method; ConfigError if there is none of this name or its file is broken."""
    facts: MethodFacts = _facts("method", name, MethodFacts, ("paper", "protocols"))
    if not facts.protocols or not PROTOCOLS.keys() >= {*facts.protocols}:
        raise ConfigError(f"{facts.path}: protocols must be among {', '.join(PROTOCOLS)}; got {facts.protocols!r}.")
    return facts


def dataset(name: str) -> DatasetFacts:
    """Facts of a data set; ConfigError if there is none of this name or its file is broken."""
    if name.startswith(OWN):
        own = dataset(FOLDER)
        return replace(own, name=name, folder_name=name.removeprefix(OWN))
    if name not in _modules("dataset") and (meant := _known_as(name)):
        raise ConfigError(f"the data set {name!r} is called {meant!r} here.")
    facts: DatasetFacts = _facts("dataset", name, DatasetFacts, ("categories", "source", "licence"))
    return facts


def load(facts: Facts, base: type) -> Any:
    """The one concrete subclass of `base` in the file; imports what the file imports."""
    module = import_module(facts.module)
    local = [cls for cls in vars(module).values() if isinstance(cls, type) and cls.__module__ == module.__name__]
    found = [cls for cls in local if issubclass(cls, base) and not isabstract(cls)]
    if len(found) != 1:
        raise ConfigError(f"{facts.path} must define exactly one {base.__name__}, got {[c.__name__ for c in found]}.")
    return found[0]


def data_root(facts: DatasetFacts, explicit: str | None) -> Path | None:
    """Where a data set lies; None if it needs no folder and none is named. DataError if it is absent."""
    if not facts.needs_root and not explicit:
        return None
    return find_root(facts.name, facts.folder_name, facts.source, explicit)


def unknown(kind: str, name: object, allowed: Iterable[object]) -> ConfigError:
    """The error for an unknown name: what came, the nearest allowed one, and all that are allowed."""
    known = [str(item) for item in allowed]
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ConfigError(f"unknown {kind} {str(name)!r}.{hint} Allowed: {', '.join(known) or 'none'}.")


def _known_as(alias: str) -> str | None:
    """The data set that is elsewhere known by a name, whatever its case."""
    whole = (dataset(name) for name in names("dataset") if not why_broken("dataset", name))
    return next((facts.name for facts in whole if alias.lower() in map(str.lower, facts.aliases)), None)


@cache
def _modules(kind: str) -> dict[str, list[Claim]]:
    """The modules that claim each name, one where all is well."""
    package = PACKAGES[kind]
    found: dict[str, list[Claim]] = {}
    for path in sorted((ROOT / package).glob("[!_]*.py")):
        found.setdefault(path.stem, []).append(Claim(f"{package}.{path.stem}", path))
    for path in sorted((ROOT / package).glob(f"*/{kind}.py")):  # a folder of its own
        found.setdefault(path.parent.name, []).append(Claim(f"{package}.{path.parent.name}.{kind}", path))
    found = dict(sorted(found.items()))
    for point in entry_points(group=f"clip_ad_bench.{kind}s"):
        found.setdefault(point.name, []).append(_plugin(point.value))
    return found


def _plugin(module: str) -> Claim:
    """The module of an entry point; finding it imports the packages around it, which may fail in any way."""
    try:
        spec = find_spec(module)
    except Exception as error:  # noqa: BLE001  a third party's code
        return Claim(module, None, f"{type(error).__name__}: {error}")
    if spec is None or spec.origin is None:
        return Claim(module, None, "no such module")
    return Claim(module, Path(spec.origin))


@cache
def _facts(kind: str, name: str, cls: Any, required: tuple[str, ...]) -> Any:
    claims = _modules(kind)
    if name not in claims:
        raise unknown(kind, name, claims)
    (module, path, problem), *others = claims[name]
    if others:
        places = ", ".join(str(claim.path or claim.module) for claim in claims[name])
        raise ConfigError(f"{kind} {name!r} is ambiguous among {places}: rename all but one.")
    if path is None:
        raise ConfigError(f"{kind} {name!r} is the entry point {module!r}, which cannot be found: {problem}.")
    try:
        source = read_source(path, required)
    except SourceError as error:
        raise ConfigError(str(error)) from error
    types: dict[str, Any] = {literal.name: literal.type for literal in fields(cls)[len(fields(Facts)) :]}
    known = {key: value for key, value in source.attributes.items() if key in types}
    for key, value in known.items():
        wanted = types[key]
        if not isinstance(value, get_origin(wanted) or wanted):
            wanted = wanted if get_origin(wanted) else wanted.__name__
            raise ConfigError(f"{path}: {key} must be {wanted}, got {value!r}.")
    return cls(name, module, path, source.summary, source.settings, **known)
