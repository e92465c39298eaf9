"""Several settings of one method, to be compared: what an ablation runs, checked like any other setting.

`variants` holds, for a method, labels with the settings that differ, in order; the first is the reference.
`published` holds, for the same labels, what others printed. The last layer that names variants of a method
replaces those of the layers before it, and their published figures.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmark.metrics.table import metric_names
from benchmark.request import registry
from benchmark.request.cell import Cell
from benchmark.request.merging import Layer, Settings, merge
from benchmark.request.registry import ConfigError, MethodFacts, unknown
from benchmark.request.source import Setting

VARIANTS = ("variants", "published")  # keys of a YAML file
PRINTED = {  # keys that `published` must have beside its figures, which are in percent
    "source": Setting(str, ""),
    "backbone": Setting(str, ""),
    "metric": Setting(str, "", metric_names()),
}


def merge_variants(settings: Settings, layers: Sequence[Layer]) -> None:
    """Put the variants of each requested method into `settings`.

    `settings["variants"][method]` is a list, the reference first, of `label`, `changes` (the settings that the layer
    names) and `settings` (all of the method's); `settings["published"][method]` holds the keys of `PRINTED` and
    `figures`: label → data set → percent. Both groups are absent where no method has variants.

    Raises:
        ConfigError: for an unknown method, label, data set or setting, for fewer than two variants, or two alike.
    """
    _check_methods(layers)
    for name in settings.sweep.methods:
        naming = [layer for layer in layers if name in (layer.values.get("variants") or {})]
        if naming:
            variants = _variants(registry.method(name), settings["method"][name], naming[-1])
            settings.values.setdefault("variants", {})[name] = variants
            settings.origins[f"variants.{name}"] = naming[-1].origin
            if name in (naming[-1].values.get("published") or {}):
                labels = [variant["label"] for variant in variants]
                settings.values.setdefault("published", {})[name] = _published(name, labels, naming[-1])


def labelled_settings(settings: Settings, name: str) -> dict[str, dict[str, Any]]:
    """The settings of a method by the labels of its variants, the reference first; "" where it has none."""
    variants = settings.values.get("variants", {}).get(name)
    if not variants:
        return {"": settings["method"][name]}
    return {variant["label"]: variant["settings"] for variant in variants}


def trials(cells: Iterable[Cell]) -> dict[str, list[dict[str, Any]]]:
    """Labelled cells that differ in nothing but the variant, as plain data: method → trials, with `cells` by label."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in cells:
        if cell.label:
            trial = {
                "dataset": cell.dataset,
                "protocol": cell.protocol,
                "shots": cell.shots,
                "backbone": cell.backbone_label,
                "note": cell.note,
                "seed": cell.seed,
                "categories": list(cell.categories),
            }
            group = found.setdefault(cell.method, {}).setdefault(repr(trial), trial | {"cells": {}})
            group["cells"][cell.label] = cell.id
    return {name: list(groups.values()) for name, groups in found.items()}


def _check_methods(layers: Sequence[Layer]) -> None:
    for key in VARIANTS:
        for layer in layers:
            for name in _mapping(layer.values.get(key) or {}, f"{key} ({layer.origin})"):
                if name not in registry.names("method"):
                    raise unknown(f"method of {key} ({layer.origin})", name, registry.names("method"))
    for layer in layers:
        for name in layer.values.get("published") or {}:
            if name not in (layer.values.get("variants") or {}):
                raise ConfigError(f"published.{name} ({layer.origin}) needs variants.{name} beside it.")


def _variants(method: MethodFacts, base: Mapping[str, Any], layer: Layer) -> list[dict[str, Any]]:
    where = f"variants.{method.name} ({layer.origin})"
    named = _mapping(layer.values["variants"][method.name] or {}, where)
    if len(named) < 2:
        raise ConfigError(
            f"{where} must name two settings or more, the reference first, got {', '.join(map(str, named)) or 'none'}."
        )
    if len({"", *map(str, named)}) <= len(named):
        raise ConfigError(f"{where} must have labels that differ and are not empty, got {', '.join(map(repr, named))}.")
    variants: list[dict[str, Any]] = []
    for label, changes in named.items():
        merged = Settings()
        changes = _mapping(changes or {}, f"variants.{method.name}.{label} ({layer.origin})")
        parts = [("", base), (f"{layer.origin}, variant {str(label)!r}", changes)]
        merge(merged, f"method.{method.name}", method.settings, parts)
        chosen = merged["method"][method.name]
        twins = [variant["label"] for variant in variants if variant["settings"] == chosen]
        if twins:
            raise ConfigError(f"{where}: {twins[0]!r} and {str(label)!r} have the same settings.")
        variants.append({"label": str(label), "changes": {key: chosen[key] for key in changes}, "settings": chosen})
    return variants


def _published(name: str, labels: Sequence[str], layer: Layer) -> dict[str, Any]:
    where = f"published.{name} ({layer.origin})"
    values = dict(_mapping(layer.values["published"][name], where))
    figures = _mapping(values.pop("figures", None), f"published.{name}.figures ({layer.origin})")
    merged = Settings()
    merge(merged, f"published.{name}", PRINTED, [(layer.origin, values)])
    said: dict[str, Any] = merged["published"][name]
    for key in PRINTED:
        if not said[key]:
            raise ConfigError(f"{where} must have {', '.join(PRINTED)} and figures; {key} is missing.")
    for label, of_datasets in figures.items():
        if label not in labels:
            raise unknown(f"variant in {where}", label, labels)
        for dataset, value in _mapping(of_datasets, f"published.{name}.figures.{label} ({layer.origin})").items():
            if dataset not in registry.names("dataset"):
                raise unknown(f"dataset in {where}", dataset, registry.names("dataset"))
            if not isinstance(value, int | float) or not 0 <= value <= 100:
                raise ConfigError(f"{where}: {label}, {dataset} must be percent from 0 to 100, got {value!r}.")
    return said | {"figures": {label: dict(of_datasets) for label, of_datasets in figures.items()}}


def _mapping(values: Any, what: str) -> Mapping[Any, Any]:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{what} must be a mapping, got {values!r}.")
    return values
