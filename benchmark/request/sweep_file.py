"""The file of a sweep, `sweeps/NAME.json` of a results folder, as a request again.

It holds every setting as it was resolved. They are asked for anew, as they stand: also those that were a default then,
so that the cells are the same where a default has changed meanwhile. One that nobody set and that is the default still
is left out, so that words may choose another backbone, logger or executor.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.request.merging import Layer
from benchmark.request.registry import ConfigError
from benchmark.request.settings import BASE, CHOSEN, CONFIGS, GROUPS, choices, chosen, read_yaml

KEYS = ("argv", "cells", "settings", "origins")
MISSING = object()


def read_sweep_file(path: Path) -> Layer | None:
    """The settings of a sweep's file as a layer; None of any other file."""
    try:
        sweep = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(sweep, dict) or not all(key in sweep for key in KEYS):
        return None
    try:
        origins: Mapping[str, str] = sweep["origins"]
        files = {group: name for group in CHOSEN if (name := _file(group, origins)) in choices(group)}
        return Layer(str(path), _asked(sweep["settings"], origins, files), files)
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no sweep as `bench run` writes it: its settings are damaged.") from error


def sweep_name(path: Path) -> str:
    """The name of a sweep without the hash of its request, which its file is called by."""
    return path.stem.rpartition("-")[0]


def _file(group: str, origins: Mapping[str, str]) -> str:
    """The file of a group that was chosen, by the origin of its name."""
    return origins.get(f"{group}.name", "").removeprefix(f"configs/{group}/").removesuffix(".yaml")


def _asked(settings: Mapping[str, Any], origins: Mapping[str, str], files: Mapping[str, str]) -> dict[str, Any]:
    """Resolved settings in the form of a YAML, without those that nobody set beside `files` and that are so today."""
    values, base = dict(settings), read_yaml(CONFIGS.parent / BASE).values
    for group, schema in GROUPS.items():
        defaults = {key: setting.default for key, setting in schema.items()}
        today: dict[str | None, Mapping[str, Any]] = {None: defaults, BASE: base.get(group, {})}
        if group in files:
            today[f"configs/{group}/{files[group]}.yaml"] = chosen(group, files[group]).values[group]
        values[group] = {
            key: value
            for key, value in settings.get(group, {}).items()
            if (origin := origins.get(f"{group}.{key}")) not in today or today[origin].get(key, MISSING) != value
        }
    if "variants" in settings:
        values["variants"] = {
            method: {variant["label"]: variant["changes"] for variant in variants}
            for method, variants in settings["variants"].items()
        }
    return values
