"""Layers of YAML, method defaults and `key=value` words, merged, typed, and with the origin of every key.

Order, later wins: configs/base.yaml, the chosen files of configs/backbone and configs/logger, the defaults in
the method's and data set's source, the preset, the user's YAML, the command line.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmark import registry
from benchmark.merging import Layer, Settings, merge, unknown_key
from benchmark.registry import ConfigError, unknown
from benchmark.source import Setting
from benchmark.variants import VARIANTS, merge_variants

CONFIGS = Path(__file__).parent.parent / "configs"

GROUPS: dict[str, dict[str, Setting]] = {
    "sweep": {
        "methods": Setting(list[str], []),
        "datasets": Setting(list[str], []),
        "protocols": Setting(list[str], []),
        "categories": Setting(list[str], []),
        "shots": Setting(list[int], []),
        "seeds": Setting(list[int], []),
        "limit": Setting(int | None, None),
    },
    "backbone": {
        "name": Setting(str, ""),
        "pretrained": Setting(str, ""),
        "activation": Setting(str | None, None, ("gelu", "quick_gelu")),
        "image_size": Setting(int | None, None),
        "position_resize": Setting(str, "bilinear", ("bilinear", "open_clip")),
        "label": Setting(str, ""),
    },
    "protocol": {
        "evaluation_size": Setting(int, 0),
        "precision": Setting(str, "fp32", ("fp32", "tf32", "bf16", "fp16")),
        "auxiliary": Setting(str | None, None),
        "published_metric": Setting(bool, False),
    },
    "trainer": {
        "accelerator": Setting(str, "auto", ("auto", "cpu", "gpu", "mps")),
        "batch_size": Setting(int, 0),
        "num_workers": Setting(int, 0),
    },
    "features": {
        "enabled": Setting(bool, False),
        "folder": Setting(str | None, None),
        "max_gib": Setting(float, 0.0),
    },
    "logger": {
        "name": Setting(str, "csv", ("csv", "wandb")),
        "project": Setting(str | None, None),
        "entity": Setting(str | None, None),
        "mode": Setting(str | None, None, ("online", "offline", "disabled")),
    },
}
CHOSEN = ("backbone", "logger")  # groups that a single word chooses
NAMED = {"method": "methods", "dataset": "datasets"}  # groups with one part for each name, and where the names stand
KEYS = (*GROUPS, *NAMED, *VARIANTS)  # of a YAML file
BASE = "configs/base.yaml"  # origin of what nobody asked for
AUXILIARY, AUXILIARY_OF_MVTEC = "mvtec_ad", "visa"  # fit on MVTec AD and test elsewhere; on VisA to test on MVTec AD
ROOT = Setting(str | None, None)


def read_yaml(path: Path) -> Layer:
    """A YAML file as a layer; ConfigError if it cannot be read or is no mapping."""
    try:
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except FileNotFoundError as error:
        raise ConfigError(f"no configuration file {path}.") from error
    except Exception as error:
        raise ConfigError(f"{path} is no readable YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of {', '.join(KEYS)}, got {type(values).__name__}.")
    return Layer(_short(path), {str(key): value for key, value in values.items()})


def choices(group: str) -> tuple[str, ...]:
    """Names of the files of a configuration group; a preset may lie in a folder."""
    folder = CONFIGS / group
    return tuple(sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")))


def chosen(group: str, name: str) -> Layer:
    """The file `name` of a configuration group; a backbone may also be NAME/PRETRAINED of open_clip."""
    if name in choices(group):
        layer = read_yaml(CONFIGS / group / f"{name}.yaml")
        return layer if group == "preset" else Layer(layer.origin, {group: layer.values})
    model, slash, pretrained = name.partition("/")
    if group == "backbone" and slash:
        values = {"name": model, "pretrained": pretrained, "label": name}
        return Layer(f"--backbone {name}", {group: values})
    more = ("NAME/PRETRAINED of open_clip",) if group == "backbone" else ()
    raise unknown(group, name, (*choices(group), *more))


def parse_words(words: Iterable[str]) -> Layer:
    """`key=value` words of the command line as a layer."""
    words = list(words)
    for word in words:
        if "=" not in word or word.startswith("="):
            raise ConfigError(f"expected key=value, got {word!r}.")
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist(words))
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"cannot read {' '.join(words)!r} as key=value: {error}") from error
    assert isinstance(values, dict)
    return Layer("command line", {str(key): value for key, value in values.items()})


def compose(layers: Sequence[Layer]) -> Settings:
    """Merge `layers` onto the base and the chosen groups; each key is checked against its type.

    Raises:
        ConfigError: for an unknown or ill-typed key, naming it, its origin, what came and what is allowed.
    """
    layers = [read_yaml(CONFIGS.parent / BASE), *layers]
    picks = {
        group: [layer.values[group] for layer in layers if isinstance(layer.values.get(group), str)][-1]
        for group in CHOSEN
    }
    layers = [layers[0], *(chosen(group, name) for group, name in picks.items()), *layers[1:]]
    settings = Settings()
    for group, schema in GROUPS.items():
        merge(settings, group, schema, [(layer.origin, _part(layer, group)) for layer in layers])
    for group, axis in NAMED.items():
        requested = settings["sweep"][axis]
        for name in dict.fromkeys((*requested, *(auxiliaries(settings) if group == "dataset" else ()))):
            _merge_named(settings, group, name, requested, layers)
    merge_variants(settings, layers)
    for layer in layers:
        for key in layer.values:
            if key not in KEYS:
                raise unknown_key(key, layer.origin, KEYS)
    return settings


def auxiliaries(settings: Settings) -> tuple[str, ...]:
    """Data sets a method may be fitted on: the one asked for, or the field's two habitual ones."""
    asked = settings["protocol"]["auxiliary"]
    return (asked,) if asked else (AUXILIARY, AUXILIARY_OF_MVTEC)


def _part(layer: Layer, group: str) -> Any:
    """What a layer says of a group; the word that chose its file has been followed."""
    values = layer.values.get(group)
    return None if group in CHOSEN and isinstance(values, str) else values


def _merge_named(settings: Settings, group: str, name: str, requested: Sequence[str], layers: Sequence[Layer]) -> None:
    facts = registry.method(name) if group == "method" else registry.dataset(name)
    schema = dict(facts.settings) | ({"root": ROOT} if group == "dataset" else {})
    parts: list[tuple[str, Any]] = [(_short(facts.path), {key: setting.default for key, setting in schema.items()})]
    for layer in layers:
        values = layer.values.get(group) or {}
        if not isinstance(values, Mapping):
            raise ConfigError(f"{group} ({layer.origin}) must hold settings, got {values!r}.")
        strangers = [
            key for key, value in values.items() if isinstance(value, Mapping) and key not in registry.names(group)
        ]
        if strangers:
            raise unknown(f"{group} in {layer.origin}", strangers[0], registry.names(group))
        common = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
        common = common if name in requested else {}
        if "root" in common and group == "dataset" and len(requested) > 1:
            raise ConfigError(
                f"dataset.root={common['root']} ({layer.origin}) is ambiguous for {', '.join(requested)}: "
                f"write dataset.{name}.root=…"
            )
        parts += [(layer.origin, common), (layer.origin, values.get(name))]
    merge(settings, f"{group}.{name}", schema, parts)


def _short(path: Path) -> str:
    root = CONFIGS.parent
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
