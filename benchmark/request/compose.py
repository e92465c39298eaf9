"""From the words of the command line to cells with their states."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.request import registry
from benchmark.request.cell import canonical
from benchmark.request.merging import Settings
from benchmark.request.on_disk import categories_of
from benchmark.request.plan import Plan, make_plan
from benchmark.request.registry import ConfigError
from benchmark.request.settings import chosen, compose, parse_words, read_yaml
from benchmark.request.sweep_file import read_sweep_file, sweep_name
from benchmark.request.variants import labelled_settings
from benchmark.request.words import Said
from datamodules.components.sample import DataError

AXES = ("methods", "datasets", "protocols", "categories", "shots", "seeds")


@dataclass(frozen=True)
class Request:
    """What the user asked for, composed."""

    settings: Settings
    sweep: str  # name: the preset, else the methods, and a hash of the request
    default_folder: Path


def read_request(
    preset: str | None,
    config: Path | None,
    axes: Mapping[str, str | None],
    backbone: str | None,
    limit: int | None,
    words: Sequence[str],
) -> Request:
    """Compose the layers of a request.

    Args:
        preset: file of configs/preset.
        config: a user's YAML, or the file of a sweep, whose cells are then asked for.
        axes: comma-separated lists by the names of `AXES`; None keeps the value of the layers below.
        backbone: file of configs/backbone or NAME/PRETRAINED.
        limit: test images per category.
        words: `key=value`.

    Raises:
        ConfigError: naming what is wrong, where it came from and what is allowed; also a key that two words, or a word
            and an option, set.
    """
    sweep = read_sweep_file(config) if config else None
    own = sweep or (read_yaml(config) if config else None)
    layers = [
        *([chosen("preset", preset)] if preset else []),
        *([own] if own else []),
        parse_words(words, _options(axes, backbone, limit)),
    ]
    settings = compose(layers)
    digits = hashlib.sha256(canonical(_identity(settings)).encode()).hexdigest()[:8]
    named = preset or (sweep_name(config) if sweep and config else "")
    name = (named or "-".join(settings.sweep.methods) or "run").replace("/", "-")
    return Request(settings, f"{name[:40]}-{digits}", Path("results") / (preset or "main").replace("/", "-"))


def _options(axes: Mapping[str, str | None], backbone: str | None, limit: int | None) -> Iterator[Said]:
    """The options of the command line that were given."""
    for axis, text in axes.items():
        if text is not None:
            yield Said(f"--{axis} {text}", ("sweep", axis), split(axis, text))
    if limit is not None:
        yield Said(f"--limit {limit}", ("sweep", "limit"), limit)
    if backbone is not None:
        yield Said(f"--backbone {backbone}", ("backbone",), backbone)


def _identity(settings: Settings) -> dict[str, Any]:
    """What makes a request another one; of variants the settings and their order, not the labels, which name rows."""
    groups = ("sweep", "method", "dataset", "protocol", "backbone")
    identity = {group: settings[group] for group in groups if group in settings.values}
    identity["backbone"] = settings.backbone.arguments
    if "variants" in settings.values:
        identity["variants"] = {name: list(labelled_settings(settings, name).values()) for name in settings["variants"]}
    return identity


def plan(request: Request, *, data_needed: bool) -> Plan:
    """The cells of a request; reads the folders of data sets whose categories are only known on disk.

    Raises:
        ConfigError: the request cannot be honoured.
        DataError: such a folder is absent, unless `data_needed` is False; then its cells are left out and noted.
    """
    on_disk: dict[str, Sequence[str]] = {}
    notes = []
    for facts in map(registry.dataset, request.settings.sweep.datasets):
        if not facts.categories:
            try:
                values = dict(request.settings["dataset"][facts.name])
                on_disk[facts.name] = categories_of(facts.name, values.pop("root"), values)
            except DataError as error:
                if data_needed:
                    raise
                on_disk[facts.name] = ()
                notes.append(f"{facts.name}: its categories are only known on disk. {error}")
    made = make_plan(request.settings, on_disk)
    return replace(made, notes=(*made.notes, *notes))


def split(axis: str, text: str) -> list[Any]:
    """The values of a comma-separated list, whole numbers for shots and seeds; ConfigError if they are none."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if axis not in ("shots", "seeds"):
        return parts  # of data sets also NAME=PATH
    try:
        return [int(part) for part in parts]
    except ValueError as error:
        raise ConfigError(f"--{axis} must be whole numbers like 1,2,4; got {text!r}.") from error
