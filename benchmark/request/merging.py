"""Layers of values merged into one group of settings: every key known, typed, and with its origin."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmark.request.groups import (
    BackboneSettings,
    ExecutorSettings,
    ProtocolSettings,
    RaySettings,
    SweepSettings,
    from_values,
)
from benchmark.request.ranges import in_words, lies_in
from benchmark.request.registry import ConfigError, unknown
from benchmark.request.source import Setting


@dataclass(frozen=True)
class Layer:
    """Values and where they come from."""

    origin: str
    values: Mapping[str, Any]
    chosen: Mapping[str, str] = field(default_factory=dict)  # group → its file, where `values` sets keys of it as well


@dataclass
class Settings:
    """Merged values by group, and of each dotted key its origin and its declaration."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    declared: dict[str, Setting] = field(default_factory=dict)

    def __getitem__(self, group: str) -> dict[str, Any]:
        values: dict[str, Any] = self.values[group]
        return values

    @property
    def sweep(self) -> SweepSettings:
        """What is compared."""
        return from_values(SweepSettings, self["sweep"])

    @property
    def protocol(self) -> ProtocolSettings:
        """How every method is fitted and measured."""
        return from_values(ProtocolSettings, self["protocol"])

    @property
    def backbone(self) -> BackboneSettings:
        """The frozen CLIP."""
        return from_values(BackboneSettings, self["backbone"])

    @property
    def executor(self) -> ExecutorSettings:
        """Where cells run."""
        return from_values(ExecutorSettings, self["executor"])

    @property
    def ray(self) -> RaySettings:
        """What `executor=ray` runs on."""
        return from_values(RaySettings, self["ray"])


def merge(settings: Settings, group: str, schema: Mapping[str, Setting], parts: Sequence[tuple[str, Any]]) -> None:
    """Merge `parts`, each an origin and its values, over the defaults of `schema` into the group "top" or "top.name".

    Raises:
        ConfigError: for a key that is unknown or a value that is ill-typed, infinite, NaN or out of its range, also
            where a later part has another, naming it, its origin, what came and what is allowed.
    """
    fields = [(key, setting.type, field(default=MISSING)) for key, setting in schema.items()]
    merged = OmegaConf.structured(make_dataclass("Schema", fields))
    for key, setting in schema.items():
        merged[key] = setting.default
        settings.declared[f"{group}.{key}"] = setting
    for origin, values in parts:
        if values is None:
            continue
        if not isinstance(values, Mapping):
            raise ConfigError(f"{group} ({origin}) must hold keys {', '.join(schema)}, got {values!r}.")
        for key, value in values.items():
            if key not in schema:
                raise unknown_key(f"{group}.{key}", origin, [f"{group}.{known}" for known in schema])
            _put(merged, key, value, schema[key], f"{group}.{key} ({origin})")
            settings.origins[f"{group}.{key}"] = origin
    top, _, name = group.partition(".")
    values = OmegaConf.to_container(merged, resolve=True)
    settings.values.setdefault(top, {}).update({name: values} if name else values)  # type: ignore[arg-type]


def _put(merged: Any, key: str, value: Any, setting: Setting, what: str) -> None:
    try:
        value_of = float(value) if setting.type is float and type(value) is int else value
        OmegaConf.update(merged, key, value_of, merge=False)
        taken: Any = merged[key]  # "???" is a missing value to omegaconf
        taken = OmegaConf.to_container(taken, throw_on_missing=True) if OmegaConf.is_config(taken) else taken
    except (OmegaConfBaseException, OverflowError) as error:
        wanted = getattr(setting.type, "__name__", None) or str(setting.type)
        wanted = str(setting.type) if "[" in str(setting.type) else wanted
        raise ConfigError(f"{what} must be {wanted}, got {value!r}.") from error
    several = isinstance(taken, list)
    if several and setting.length not in (None, len(taken)):
        raise ConfigError(f"{what} must hold {setting.length} values, got {taken!r}.")
    for each in taken if several else (taken,):
        if setting.choices and each not in setting.choices and taken != setting.default:
            raise unknown(what, each, setting.choices)
        if isinstance(each, float) and not math.isfinite(each):
            raise ConfigError(f"{what} must be finite, got {value!r}.")
        if setting.range and each is not None and not lies_in(each, setting.range):
            must = f"must {'hold numbers' if several else 'be'} {in_words(setting.range)}"
            raise ConfigError(f"{what} {must}, got {taken!r}.")


def unknown_key(key: str, origin: str, allowed: Iterable[str]) -> ConfigError:
    """The error for a key that no schema has."""
    return unknown(f"configuration key ({origin})", key, allowed)
