"""From settings to the list of cells; everything that can be refused without touching data is refused here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.util import find_spec
from itertools import product
from typing import Any, NamedTuple

from benchmark.request import registry
from benchmark.request.cell import Cell, CellSettings, Where
from benchmark.request.groups import ProtocolSettings, from_values
from benchmark.request.inputs import named_files
from benchmark.request.merging import Settings
from benchmark.request.needs import check_needs, note_words
from benchmark.request.protocols import PROTOCOLS, Protocol
from benchmark.request.registry import ConfigError, DatasetFacts, MethodFacts, unknown
from benchmark.request.settings import AUXILIARY, AUXILIARY_OF_MVTEC, BASE, CONFIGS, choices, read_yaml
from benchmark.request.variants import labelled_settings


@dataclass(frozen=True)
class Plan:
    """What a request means."""

    cells: tuple[Cell, ...]
    notes: tuple[str, ...]  # what was left out, and why


#: Packages of loggers that are extras of this one, by the logger's name, which is the extra's too.
PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow"}
NO_SHOTS = "which has no normal training images"


class Part(NamedTuple):
    """The categories of one cell."""

    tested: tuple[str, ...]
    fitted: tuple[str, ...]  # those fitted on where they are others than those tested, else ()


def make_plan(settings: Settings, on_disk: Mapping[str, Sequence[str]]) -> Plan:
    """List the cells of a request, method by method.

    Args:
        settings: the composed request.
        on_disk: categories of the data sets whose categories are only known from their folder.

    Raises:
        ConfigError: for a request that cannot be honoured.
    """
    _check(settings)
    _check_logger(settings["logger"]["name"])
    sweep = settings.sweep
    known = {name: registry.dataset(name).categories or tuple(on_disk[name]) for name in sweep.datasets}
    categories = {name: _choose(sweep.categories, names) for name, names in known.items()}
    for name in sweep.categories:
        if name not in {category for names in categories.values() for category in names}:
            every = [category for names in known.values() for category in names]
            raise unknown(f"category of {', '.join(known)}", name, every)
    notes: list[str] = []
    cells: list[Cell] = []
    for method in map(registry.method, sweep.methods):
        for protocol in _protocols(method, sweep.protocols, notes):
            for dataset in map(registry.dataset, sweep.datasets):
                chosen, its = categories[dataset.name], _counts(dataset, settings, categories[dataset.name])
                if PROTOCOLS[protocol].uses_shots and its and not its.train:
                    notes.append(f"left out: {method.name} in {protocol} on {its.name}, {NO_SHOTS}")
                elif chosen:
                    parts = _parts(PROTOCOLS[protocol], dataset.name, chosen, known[dataset.name])
                    cells += _cells(method, protocol, dataset, parts, settings, notes)
                    notes += [f"{its.name} {words}" for words in its.gaps()] if its else []
    notes = [*dict.fromkeys(notes)]
    if not cells and (lost := [note for note in notes if NO_SHOTS in note]):
        raise ConfigError(f"nothing is left to run: {'; '.join(lost)}. Choose another variant or zero_shot.")
    return Plan(tuple(cells), tuple(notes))


class _Counts(NamedTuple):
    """Published numbers of the images of some categories."""

    name: str  # of the data set, with its variant
    train: int
    normal: int
    anomalous: int
    masks: bool

    def gaps(self) -> Iterator[str]:
        """What cannot be measured, and why."""
        if not self.normal:
            yield "has no normal test images: image metrics are undefined, a dash in tables"
        if not self.masks:
            yield "has no masks: pixel metrics are undefined, a dash in tables"


def _counts(dataset: DatasetFacts, settings: Settings, categories: Sequence[str]) -> _Counts | None:
    """None where the data set's file does not say them for each category."""
    variant = dataset.variant_of(settings["dataset"][dataset.name])
    known = dataset.counts.get(variant, {})
    if not categories or not {*categories} <= {*known}:
        return None
    name = f"{dataset.name} ({variant})" if len(dataset.counts) > 1 else dataset.name
    train, normal, anomalous = (sum(numbers) for numbers in zip(*(known[c] for c in categories), strict=True))
    return _Counts(name, train, normal, anomalous, dataset.has_masks)


def _check_logger(name: str) -> None:
    if (package := PACKAGES.get(name)) and find_spec(package) is None:
        raise ConfigError(f"logger={name} needs the package {package}: pip install 'clip-ad-bench[{name}]'.")


def _check(settings: Settings) -> None:
    sweep, protocol = settings.sweep, settings.protocol
    for axis in ("methods", "datasets", "seeds"):
        if not getattr(sweep, axis):
            raise ConfigError(f"no {axis} requested: give --{axis} a,b or a --preset that names some.")
    for axis in ("methods", "datasets", "protocols", "categories", "shots", "seeds"):
        asked = getattr(sweep, axis)
        if len(set(asked)) < len(asked):
            raise ConfigError(f"--{axis} must name each one once, got {', '.join(map(str, asked))}.")
    for name in sweep.protocols:
        if name not in PROTOCOLS:
            raise unknown("protocol", name, PROTOCOLS)
    if protocol.published_metric and protocol.regions != "resized":
        raise ConfigError(
            f"protocol.published_metric=true needs protocol.regions=resized, as in published code; got "
            f"protocol.regions={protocol.regions}."
        )
    if protocol.auxiliary in sweep.datasets:
        raise ConfigError(
            f"protocol.auxiliary={protocol.auxiliary} is also a target: a method must not be fitted on the set "
            f"that it is tested on. Remove it from --datasets or choose another auxiliary."
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
            + (": it cannot run without shots." if tuple(asked) == ("zero_shot",) else f"{_why_not(method, asked)}.")
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


def _parts(protocol: Protocol, dataset: str, categories: tuple[str, ...], known: Sequence[str]) -> list[Part]:
    """The categories of each cell.

    A category that is held out is tested after a fit on all others of the data set, also on those that --categories
    leaves out: otherwise a request for fewer cells would change what each one measures.
    """
    if protocol.joint:
        return [Part(categories, ())]
    if protocol.holds_out and len(known) < 2:
        raise ConfigError(
            f"leave_one_class_out fits on all categories of a data set but the tested one, so it needs two or more; "
            f"{dataset} has {', '.join(known)} alone."
        )
    return [Part((name,), tuple(c for c in known if c != name) if protocol.holds_out else ()) for name in categories]


def _cells(
    method: MethodFacts,
    protocol: str,
    dataset: DatasetFacts,
    parts: Sequence[Part],
    settings: Settings,
    notes: list[str],
) -> Iterator[Cell]:
    """The cells of one method, protocol and data set, variants innermost: a sweep cut short holds whole comparisons."""
    shots, seeds = _shots(method, protocol, settings, notes), _seeds(method, protocol, settings, notes)
    variants = {
        label: _resolve(method, values, dataset, settings)
        for label, values in labelled_settings(settings, method.name).items()
    }
    for resolved in variants.values():
        seen = sorted({name for part in parts for name in (*part.tested, *part.fitted)})
        check_needs(method, resolved, seen, shots=PROTOCOLS[protocol].uses_shots)
        notes += note_words(method, resolved, seen)
    files = {label: named_files(method.name, dataset.name, resolved) for label, resolved in variants.items()}
    defaults = _defaults(method, dataset, next(iter(variants.values())).protocol.auxiliary)
    for k, seed, part, (label, resolved) in product(shots, seeds, parts, variants.items()):
        yield Cell(
            method=method.name,
            dataset=dataset.name,
            variant=dataset.variant_of(resolved.dataset),
            protocol=protocol,
            categories=part.tested,
            shots=k,
            seed=seed,
            limit=settings.sweep.limit,
            settings=resolved,
            defaults=defaults,
            files=files[label],
            joint=PROTOCOLS[protocol].joint,
            where=_where(dataset.name, resolved, settings),
            fitted=part.fitted,
            label=label,
        )


def _shots(method: MethodFacts, protocol: str, settings: Settings, notes: list[str]) -> Sequence[int]:
    shots = settings.sweep.shots
    if not PROTOCOLS[protocol].uses_shots:
        if settings.origins["sweep.shots"] != BASE:
            notes.append(f"shots are not used: {method.name} runs in {protocol}; --protocols few_shot uses them")
        return (0,)
    if not shots or min(shots) < 1:
        other = "; without shots it runs in zero_shot" if "zero_shot" in method.protocols else ""
        raise ConfigError(f"{method.name} in {protocol} needs shots of 1 or more, got {list(shots)}{other}.")
    return shots


def _seeds(method: MethodFacts, protocol: str, settings: Settings, notes: list[str]) -> Sequence[int]:
    seeds = settings.sweep.seeds
    if PROTOCOLS[protocol].uses_shots or method.fits_on != "nothing" or len(seeds) == 1:
        return seeds
    notes.append(f"one seed is enough: {method.name} in {protocol} chooses no shots and fits nothing")
    return seeds[:1]


def _resolve(method: MethodFacts, values: Mapping[str, Any], dataset: DatasetFacts, settings: Settings) -> CellSettings:
    auxiliary = settings.protocol.auxiliary if method.fits_on == "auxiliary" else None
    auxiliary = auxiliary or _habitual(method, dataset)
    return CellSettings(
        method=_captioned(values, dataset.name),
        dataset=_without_root(settings["dataset"][dataset.name]),
        auxiliary=_without_root(settings["dataset"][auxiliary]) if auxiliary else {},
        protocol=replace(settings.protocol, auxiliary=auxiliary),
        backbone=settings.backbone,
    )


def _defaults(method: MethodFacts, dataset: DatasetFacts, auxiliary: str | None) -> dict[str, dict[str, Any]]:
    """What nobody asked for, by group of a cell's settings."""
    return {
        "method": _captioned({key: setting.default for key, setting in method.settings.items()}, dataset.name),
        "dataset": _of_dataset(dataset),
        "auxiliary": _of_dataset(registry.dataset(auxiliary)) if auxiliary else {},
        "protocol": asdict(replace(_base_protocol(), auxiliary=_habitual(method, dataset))),
    }


def _of_dataset(dataset: DatasetFacts) -> dict[str, Any]:
    return {key: setting.default for key, setting in dataset.settings.items()}


@cache
def _base_protocol() -> ProtocolSettings:
    return from_values(ProtocolSettings, read_yaml(CONFIGS.parent / BASE).values["protocol"])


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


def _where(dataset: str, resolved: CellSettings, settings: Settings) -> Where:
    auxiliary = resolved.protocol.auxiliary
    roots = {
        "root": settings["dataset"][dataset]["root"],
        "auxiliary_root": settings["dataset"][auxiliary]["root"] if auxiliary else None,
    }
    groups = ("trainer", "logger", "features", "predictions")
    return from_values(Where, roots | {group: settings[group] for group in groups})


def _without_root(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "root"}
