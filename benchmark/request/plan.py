"""From settings to the list of cells; everything that can be refused without touching data is refused here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from benchmark.request import registry
from benchmark.request.cell import Cell
from benchmark.request.inputs import named_files
from benchmark.request.merging import Settings
from benchmark.request.protocols import PROTOCOLS, Protocol
from benchmark.request.registry import ConfigError, DatasetFacts, MethodFacts, unknown
from benchmark.request.settings import AUXILIARY, AUXILIARY_OF_MVTEC, BASE, CONFIGS, choices, read_yaml
from benchmark.request.variants import method_settings


@dataclass(frozen=True)
class Plan:
    """What a request means."""

    cells: tuple[Cell, ...]
    notes: tuple[str, ...]  # what was left out, and why


def make_plan(settings: Settings, on_disk: Mapping[str, Sequence[str]]) -> Plan:
    """List the cells of a request, method by method.

    Args:
        settings: the composed request.
        on_disk: categories of the data sets whose categories are only known from their folder.

    Raises:
        ConfigError: for a request that cannot be honoured.
    """
    sweep = settings["sweep"]
    _check(settings)
    known = {name: registry.dataset(name).categories or tuple(on_disk[name]) for name in sweep["datasets"]}
    categories = {name: _choose(sweep["categories"], names) for name, names in known.items()}
    for name in sweep["categories"]:
        if name not in {category for names in categories.values() for category in names}:
            every = [category for names in known.values() for category in names]
            raise unknown(f"category of {', '.join(known)}", name, every)
    notes: list[str] = []
    cells: list[Cell] = []
    for method in map(registry.method, sweep["methods"]):
        for protocol in _protocols(method, sweep["protocols"], notes):
            for dataset in map(registry.dataset, sweep["datasets"]):
                if categories[dataset.name]:
                    parts = _parts(PROTOCOLS[protocol], dataset.name, categories[dataset.name], known[dataset.name])
                    cells += _cells(method, protocol, dataset, parts, settings, notes)
    return Plan(tuple(cells), tuple(dict.fromkeys(notes)))


def _check(settings: Settings) -> None:
    sweep, protocol = settings["sweep"], settings["protocol"]
    for axis in ("methods", "datasets", "seeds"):
        if not sweep[axis]:
            raise ConfigError(f"no {axis} requested: give --{axis} a,b or a --preset that names some.")
    for axis in ("methods", "datasets", "protocols", "categories", "shots", "seeds"):
        if len(set(sweep[axis])) < len(sweep[axis]):
            raise ConfigError(f"--{axis} names one twice: {', '.join(map(str, sweep[axis]))}.")
    for name in sweep["protocols"]:
        if name not in PROTOCOLS:
            raise unknown("protocol", name, PROTOCOLS)
    if protocol["published_metric"] and protocol["regions"] != "resized":
        raise ConfigError(
            "protocol.published_metric=true computes PRO as published code does: on regions=resized alone."
        )
    if protocol["auxiliary"] in sweep["datasets"]:
        raise ConfigError(
            f"protocol.auxiliary={protocol['auxiliary']} is also a target: a method must not be fitted on the set "
            f"it is tested on. Take it out of --datasets or choose another auxiliary."
        )


def _choose(asked: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in known if name in asked) if asked else tuple(known)


def _protocols(method: MethodFacts, asked: Sequence[str], notes: list[str]) -> Iterator[str]:
    if not asked:
        yield method.protocols[0]
        return
    if not set(asked) & set(method.protocols):
        raise ConfigError(
            f"{method.name} honours {', '.join(method.protocols)}; asked were the protocols {', '.join(asked)}"
            + (": it cannot run without shots." if asked == ["zero_shot"] else f"{_why_not(method, asked)}.")
        )
    for name in asked:
        if name in method.protocols:
            yield name
        else:
            honours = ", ".join(method.protocols)
            notes.append(f"left out: {method.name} in {name}; it honours {honours}{_why_not(method, [name])}")


def _why_not(method: MethodFacts, asked: Sequence[str]) -> str:
    held_out = any(PROTOCOLS[name].holds_out for name in asked)
    if held_out and method.fits_on != "shots":
        return ": it fits nothing on shots, so no category can be held out of a fit"
    return ""


def _parts(
    protocol: Protocol, dataset: str, categories: tuple[str, ...], known: Sequence[str]
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The categories that each cell tests, and those it is fitted on where they are others.

    Beside a category that is held out stand all others of the data set, also those that --categories does not name:
    else a request for fewer cells would change what they measure.
    """
    if protocol.joint:
        return [(categories, ())]
    if protocol.holds_out and len(known) < 2:
        raise ConfigError(
            f"leave_one_class_out fits on all categories of a data set but the tested one, so it needs two or more; "
            f"{dataset} has {', '.join(known)} alone."
        )
    return [((name,), tuple(c for c in known if c != name) if protocol.holds_out else ()) for name in categories]


def _cells(
    method: MethodFacts,
    protocol_name: str,
    dataset: DatasetFacts,
    parts: Sequence[tuple[tuple[str, ...], tuple[str, ...]]],
    settings: Settings,
    notes: list[str],
) -> Iterator[Cell]:
    sweep, protocol = settings["sweep"], PROTOCOLS[protocol_name]
    seeds = sweep["seeds"]
    if protocol.uses_shots:
        shots = sweep["shots"]
        if not shots or min(shots) < 1:
            other = "; without shots it runs in zero_shot" if "zero_shot" in method.protocols else ""
            raise ConfigError(f"{method.name} in {protocol_name} needs shots of 1 or more, got {shots}{other}.")
    else:
        shots = [0]
        if settings.origins["sweep.shots"] != BASE:
            notes.append(f"shots are not used: {method.name} runs in {protocol_name}; --protocols few_shot uses them")
        if method.fits_on == "nothing" and len(seeds) > 1:
            seeds = seeds[:1]
            notes.append(f"one seed is enough: {method.name} in {protocol_name} draws and fits nothing")
    variants = [_resolve(method, values, dataset, settings) for values in method_settings(settings, method.name)]
    files = [named_files(method.name, dataset.name, resolved) for resolved in variants]
    defaults = _defaults(method, dataset, variants[0]["protocol"]["auxiliary"])
    # a sweep that is cut short holds whole comparisons of variants
    for k, seed, (categories, fitted), (resolved, named) in product(
        shots, seeds, parts, list(zip(variants, files, strict=True))
    ):
        yield Cell(
            method=method.name,
            dataset=dataset.name,
            variant=dataset.variant,
            protocol=protocol_name,
            categories=categories,
            shots=k,
            seed=seed,
            limit=sweep["limit"],
            settings=resolved,
            defaults=defaults,
            files=named,
            joint=protocol.joint,
            where=_where(dataset.name, resolved, settings),
            fitted=fitted,
        )


def _resolve(
    method: MethodFacts, values: dict[str, Any], dataset: DatasetFacts, settings: Settings
) -> dict[str, dict[str, Any]]:
    auxiliary = settings["protocol"]["auxiliary"] if method.fits_on == "auxiliary" else None
    auxiliary = auxiliary or _habitual(method, dataset)
    named = {name: _without_root(values) for name, values in settings["dataset"].items()}
    return {
        "method": _captioned(values, dataset.name),
        "dataset": named[dataset.name],
        "auxiliary": named[auxiliary] if auxiliary else {},
        "protocol": {**settings["protocol"], "auxiliary": auxiliary},
        "backbone": settings["backbone"],
    }


def _defaults(method: MethodFacts, dataset: DatasetFacts, auxiliary: str | None) -> dict[str, dict[str, Any]]:
    """What nobody asked for, by group of a cell's settings."""
    return {
        "method": _captioned({key: setting.default for key, setting in method.settings.items()}, dataset.name),
        "dataset": _of_dataset(dataset),
        "auxiliary": _of_dataset(registry.dataset(auxiliary)) if auxiliary else {},
        "protocol": {**_base_protocol(), "auxiliary": _habitual(method, dataset)},
    }


def _of_dataset(dataset: DatasetFacts) -> dict[str, Any]:
    return {key: setting.default for key, setting in dataset.settings.items()}


@cache
def _base_protocol() -> dict[str, Any]:
    values: dict[str, Any] = read_yaml(CONFIGS.parent / BASE).values["protocol"]
    return values


def _habitual(method: MethodFacts, dataset: DatasetFacts) -> str | None:
    """The data set that a method is fitted on where none is named."""
    if method.fits_on != "auxiliary":
        return None
    return AUXILIARY_OF_MVTEC if dataset.name == AUXILIARY else AUXILIARY


def _captioned(values: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """Settings of a method; captions that are not named are those of the data set, where it has some."""
    if "captions" in values and values["captions"] is None and dataset in choices("captions"):
        return {**values, "captions": dataset}
    return dict(values)


def _where(dataset: str, resolved: Mapping[str, Mapping[str, Any]], settings: Settings) -> dict[str, Any]:
    auxiliary = resolved["protocol"]["auxiliary"]
    return {
        "root": settings["dataset"][dataset]["root"],
        "auxiliary_root": settings["dataset"][auxiliary]["root"] if auxiliary else None,
        "trainer": settings["trainer"],
        "logger": settings["logger"],
        "features": settings["features"],
    }


def _without_root(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "root"}
