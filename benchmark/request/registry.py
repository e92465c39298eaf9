"""Names to facts and classes. A file is its own registration: `methods/winclip.py` is the method "winclip".

Facts are read from the source, so that listing, planning and refusing need no torch and run no third party's code. A
third party adds a class through the entry-point groups `clip_ad_bench.methods` and `clip_ad_bench.datasets`, as
`module:Class`, or as `module` where the file defines one alone.
"""

import difflib
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib import import_module
from inspect import isabstract
from pathlib import Path
from types import ModuleType
from typing import Any, get_origin

from benchmark.request import code, plugins
from benchmark.request.plugins import Claim
from benchmark.request.protocols import PROTOCOLS
from benchmark.request.source import Setting, SourceError, read_source
from datamodules.components.roots import find_root
from datamodules.components.sample import UserError

PACKAGES = {"method": "methods", "dataset": "datamodules"}
ROOT = Path(__file__).parents[2]
FOLDER = "folder"  # the data set that reads own images
OWN = f"{FOLDER}-"  # what the name of an own data set begins with, see `benchmark.request.own_sets`


AS_IMPORTED = "__clip_ad_bench_code__"  # attribute of a module: its specification, and its code when it was imported


class ConfigError(UserError):
    """The request is wrong; the message says what came and what is allowed."""


@dataclass(frozen=True)
class Facts:
    """What stands in the file of every method and every data set."""

    name: str
    module: str  # that is imported
    path: Path  # of the file that defines the class
    summary: str
    settings: Mapping[str, Setting]
    cls: str  # name of the class in that module; "" for the only one that it defines
    distribution: str  # name and version of the package that offers it; "" for the suite's own
    modules: tuple[str, ...]  # that its code begins with: this one, that of the class, what is installed with them


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
    if name not in _modules("dataset") and (meant := known_as(name)):
        raise ConfigError(f"the data set {name!r} is called {meant!r} here.")
    facts: DatasetFacts = _facts("dataset", name, DatasetFacts, ("categories", "source", "licence"))
    return facts


def distribution(kind: str, name: str) -> str:
    """Name and version of the package that offers a name, also of one whose facts cannot be read; "" for the suite."""
    (claim, *_) = _modules(kind).get(name) or [Claim("", None)]
    return claim.point.distribution if claim.point else ""


def left_out() -> tuple[str, ...]:
    """A sentence for each plug-in that cannot be used; nothing but asking for it is an error."""
    said = [
        f"{kind} {name!r} of {point.distribution} is left out: {why_broken(kind, name)}"
        for kind in PACKAGES
        for name, (claim, *_) in _modules(kind).items()
        if (point := claim.point) and why_broken(kind, name)
    ]
    return (*said, *(words for kind in PACKAGES for _, words in shadowed(kind)))


def shadowed(kind: str) -> list[tuple[str, str]]:
    """Names of the suite that a plug-in also wants, which stay the suite's, and a sentence on each."""
    own = {name: claims[0] for name, claims in _modules(kind).items() if not claims[0].point}
    return [
        (point.name, f"{kind} {point.name!r} of {point.distribution} is left out: the suite has one of this name.")
        for point in plugins.points(kind)
        if point.name in own
    ]


def look_again() -> None:
    """Forget what files said and what is installed: both may have changed since."""
    _modules.cache_clear()
    _facts.cache_clear()
    code.look_again()


def load(facts: Facts, base: type) -> Any:
    """The class of a method or data set; imports what its file imports.

    Raises:
        ConfigError: it cannot be imported, is no concrete subclass of `base`, or its files have changed since this
            process imported them.
    """
    try:
        module = import_module(facts.module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plug-in may even leave with sys.exit
        frames = traceback.extract_tb(error.__traceback__)
        place = next(frame for frame in reversed(frames) if not frame.filename.startswith("<frozen"))
        why = f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
        raise ConfigError(f"{_whose(facts)} cannot be imported: {why}.") from error
    _refuse_older(facts, module)
    local = [cls for cls in vars(module).values() if isinstance(cls, type) and cls.__module__ == module.__name__]
    named = [getattr(module, facts.cls, None)] if facts.cls else local
    found = [cls for cls in named if isinstance(cls, type) and issubclass(cls, base) and not isabstract(cls)]
    if len(found) != 1:
        wanted = f"it must inherit {base.__module__}.{base.__name__} and define {', '.join(sorted(_abstract(base)))}."
        if facts.cls:
            raise ConfigError(f"{facts.cls} of {facts.module!r} is no {base.__name__}: {wanted}")
        got = [cls.__name__ for cls in found]
        raise ConfigError(f"{facts.path} must define exactly one {base.__name__}, got {got}: {wanted}")
    return found[0]


def _refuse_older(facts: Facts, module: ModuleType) -> None:
    """ConfigError where a record would name other code than runs: a process imports a module once."""
    now = code.code_of(facts.modules)
    spec, then = vars(module).setdefault(AS_IMPORTED, (module.__spec__, now))
    if spec is not module.__spec__:  # reloaded
        vars(module)[AS_IMPORTED] = (module.__spec__, now)
    elif changed := [name for name in {**then, **now} if then.get(name) != now.get(name)]:
        raise ConfigError(
            f"{', '.join(changed)} changed since this process imported {_whose(facts)}: restart it (in a notebook, the "
            "kernel), so that the new code runs."
        )


def _whose(facts: Facts) -> str:
    return f"{facts.name!r} of {facts.distribution}" if facts.distribution else repr(facts.name)


def _abstract(base: type) -> frozenset[str]:
    return getattr(base, "__abstractmethods__", frozenset())


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


def known_as(alias: str) -> str | None:
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
    offered: dict[str, list[Claim]] = {}
    for point in plugins.points(kind):
        if point.name not in found:
            offered.setdefault(point.name, []).append(plugins.claim_of(point))
    return found | offered


@cache
def _facts(kind: str, name: str, cls: Any, required: tuple[str, ...]) -> Any:
    claims = _modules(kind)
    if name not in claims:
        raise unknown(kind, name, claims)
    claim, *others = claims[name]
    if others:
        places = ", ".join(map(_place, claims[name]))
        raise ConfigError(f"{kind} {name!r} is ambiguous among {places}: keep one of them.")
    point, path = claim.point, claim.path
    if path is None:
        raise ConfigError(
            f"{kind} {name!r} is the entry point {point.value if point else ''!r}, which cannot be used: "
            f"{claim.problem}."
        )
    try:
        source = read_source(path, required, claim.cls, claim.module)
    except SourceError as error:
        raise ConfigError(str(error)) from error
    types: dict[str, Any] = {literal.name: literal.type for literal in fields(cls)[len(fields(Facts)) :]}
    known = {key: value for key, value in source.attributes.items() if key in types}
    for key, value in known.items():
        wanted = types[key]
        if not isinstance(value, get_origin(wanted) or wanted):
            wanted = wanted if get_origin(wanted) else wanted.__name__
            raise ConfigError(f"{source.path}: {key} must be {wanted}, got {value!r}.")
    modules = tuple(dict.fromkeys((claim.module, source.module, *(point.tops if point else ()))))
    told = (claim.module, source.path, source.summary, source.settings, claim.cls)
    return cls(name, *told, point.distribution if point else "", modules, **known)


def _place(claim: Claim) -> str:
    """Where what claims a name is to be found."""
    return f"{claim.point.value!r} of {claim.point.distribution}" if claim.point else str(claim.path)
