"""Layers of values merged into one group of settings: every key known, typed, and with its origin."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmark.registry import ConfigError, unknown
from benchmark.source import Setting


@dataclass(frozen=True)
class Layer:
    """Values and where they come from."""

    origin: str
    values: Mapping[str, Any]


@dataclass
class Settings:
    """Merged values by group, and the origin of each dotted key."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, group: str) -> dict[str, Any]:
        values: dict[str, Any] = self.values[group]
        return values


def merge(settings: Settings, group: str, schema: Mapping[str, Setting], parts: Sequence[tuple[str, Any]]) -> None:
    """Merge `parts`, each an origin and its values, over the defaults of `schema` into the group "top" or "top.name".

    Raises:
        ConfigError: for an unknown or ill-typed key, naming it, its origin, what came and what is allowed.
    """
    fields = [(key, setting.type, field(default=MISSING)) for key, setting in schema.items()]
    merged = OmegaConf.structured(make_dataclass("Schema", fields))
    for key, setting in schema.items():
        merged[key] = setting.default
    for origin, values in parts:
        if values is None:
            continue
        if not isinstance(values, Mapping):
            raise ConfigError(f"{group} ({origin}) must hold keys {', '.join(schema)}, got {values!r}.")
        for key, value in values.items():
            if key not in schema:
                raise unknown_key(f"{group}.{key}", origin, [f"{group}.{known}" for known in schema])
            if schema[key].type is float and type(value) is int:
                value = float(value)
            try:
                merged[key] = value
            except OmegaConfBaseException as error:
                wanted = getattr(schema[key].type, "__name__", None) or str(schema[key].type)
                wanted = str(schema[key].type) if "[" in str(schema[key].type) else wanted
                raise ConfigError(f"{group}.{key} ({origin}) must be {wanted}, got {value!r}.") from error
            if schema[key].choices and merged[key] not in (*schema[key].choices, schema[key].default):
                raise unknown(f"{group}.{key} ({origin})", value, schema[key].choices)
            settings.origins[f"{group}.{key}"] = origin
    top, _, name = group.partition(".")
    values = OmegaConf.to_container(merged, resolve=True)
    settings.values.setdefault(top, {}).update({name: values} if name else values)  # type: ignore[arg-type]


def unknown_key(key: str, origin: str, allowed: Iterable[str]) -> ConfigError:
    """The error for a key that no schema has."""
    return unknown(f"configuration key ({origin})", key, allowed)
