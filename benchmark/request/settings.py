"""Layers of YAML, defaults of methods and `key=value` words, merged and typed, with the origin of every key.

Order, later wins: configs/base.yaml, the chosen files of configs/backbone, logger and executor, the defaults in the
source of methods and data sets, the preset, the user's YAML, the command line.

A file of `backbone`, `logger` or `executor` is chosen by its name; the last layer that chooses one decides. The group
then holds the keys of that file, overridden by those of earlier layers except `name` and `pretrained`, which the choice
replaces, and by those of the choosing layer and later ones. A key of `backbone` that an earlier layer set for another
backbone, and that contradicts the chosen file, is refused unless it is set again beside the choice or later.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from benchmark.request import groups, registry
from benchmark.request.merging import Layer, Settings, merge, unknown_key
from benchmark.request.own_sets import name_own_sets
from benchmark.request.registry import OWN, ConfigError, unknown
from benchmark.request.source import Setting, read_fields
from benchmark.request.variants import VARIANTS, merge_variants
from benchmark.request.words import COMMAND_LINE, Said, one_layer, read_word, refuse_resolvers
from methods.components.clip.model_files import SCHEMAS

CONFIGS = Path(__file__).parents[2] / "configs"

GROUPS = {group: read_fields(Path(groups.__file__), cls.__name__) for group, cls in groups.CLASSES.items()}
# groups of which a word chooses a file, and the keys that say which it is
CHOSEN = {"backbone": ("name", "pretrained"), "logger": ("name",), "executor": ("name",)}
NAMED = {"method": "methods", "dataset": "datasets"}  # groups with one part for each name, and where the names stand
KEYS = (*GROUPS, *NAMED, *VARIANTS)  # of a YAML file
BASE = "configs/base.yaml"  # origin of what nobody asked for
AUXILIARY, AUXILIARY_OF_MVTEC = "mvtec_ad", "visa"  # fit on MVTec AD and test elsewhere; on VisA to test on MVTec AD
ROOT = Setting(str | None, None, meaning="folder of the data set; null looks below $BENCH_DATA.")


def read_yaml(path: Path) -> Layer:
    """A YAML file as a layer; ConfigError if it cannot be read or is no mapping."""
    try:
        loaded = OmegaConf.load(path)
        refuse_resolvers(OmegaConf.to_container(loaded, resolve=False), _short(path))
        values = OmegaConf.to_container(loaded, resolve=True)
    except ConfigError:
        raise
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
    """The file `name` of a configuration group; a backbone may also be one of open_clip's, see `more` below."""
    if name in choices(group):
        layer = read_yaml(CONFIGS / group / f"{name}.yaml")
        return layer if group == "preset" else Layer(layer.origin, {group: layer.values})
    schema = name.startswith(SCHEMAS) and name not in SCHEMAS
    model, slash, pretrained = (name, "", "") if schema else name.partition("/")
    if group == "backbone" and (schema or slash):
        values = {"name": model, "pretrained": pretrained}
        return Layer(f"--backbone {name}", {group: values})
    more = ("NAME/PRETRAINED of open_clip", "hf-hub:ORG/NAME", "local-dir:PATH") if group == "backbone" else ()
    raise unknown(group, name, (*choices(group), *more))


def parse_words(words: Iterable[str], options: Iterable[Said] = ()) -> Layer:
    """`key=value` words of the command line and its options as one layer, whatever their order.

    Raises:
        ConfigError: a word is no key=value or cannot be read, or a key is set twice.
    """
    said = [*options, *(each for word in words for each in read_word(word))]
    for each in said:
        if each.key[0] in VARIANTS:
            raise ConfigError(f"{each.typed}: {each.key[0]} are ordered, so they must be given in a YAML (--config).")
    return one_layer(said, CHOSEN)


def compose(layers: Sequence[Layer]) -> Settings:
    """Merge `layers` onto the base and the chosen groups; each key is checked against its type and range.

    Raises:
        ConfigError: for a key that is unknown, or on the command line of a method or data set that is not requested,
            and for a wrong value, naming it, its origin, what came and what is allowed.
    """
    layers = name_own_sets([read_yaml(CONFIGS.parent / BASE), *layers])
    settings = Settings()
    for group, schema in GROUPS.items():
        merge(settings, group, schema, _parts(layers, group))
    _empty_pretrained(settings)
    for group, axis in NAMED.items():
        requested = getattr(settings.sweep, axis)
        for name in dict.fromkeys((*requested, *(_at_hand(settings) if group == "dataset" else ()))):
            _merge_named(settings, group, name, requested, layers)
    merge_variants(settings, layers)
    for layer in layers:
        for key in layer.values:
            if key not in KEYS:
                raise unknown_key(key, layer.origin, KEYS)
        if layer.origin == COMMAND_LINE:
            _check_requested(settings, layer)
    return settings


def _empty_pretrained(settings: Settings) -> None:
    """Where `backbone.name` brings its own weights, those of the chosen file give way and others are refused."""
    backbone, origin = settings["backbone"], settings.origins["backbone.pretrained"]
    if not backbone["name"].startswith(SCHEMAS) or not backbone["pretrained"]:
        return
    if not origin.startswith("configs/backbone/"):
        raise ConfigError(
            f"backbone.pretrained={backbone['pretrained']} ({origin}) must be empty: backbone.name={backbone['name']} "
            "brings its own weights."
        )
    backbone["pretrained"] = ""
    settings.origins["backbone.pretrained"] = settings.origins["backbone.name"]


def auxiliaries(settings: Settings) -> tuple[str, ...]:
    """Data sets a method may be fitted on: the one asked for, or the field's two habitual ones."""
    asked = settings.protocol.auxiliary
    return (asked,) if asked else (AUXILIARY, AUXILIARY_OF_MVTEC)


def _fits_on_auxiliary(settings: Settings) -> bool:
    return any(registry.method(name).fits_on == "auxiliary" for name in settings.sweep.methods)


def _at_hand(settings: Settings) -> tuple[str, ...]:
    """The auxiliary data sets; those that nobody asked for and no method needs are left out where they are broken."""
    needed = bool(settings.protocol.auxiliary) or _fits_on_auxiliary(settings)
    return tuple(name for name in auxiliaries(settings) if needed or not registry.why_broken("dataset", name))


def _check_requested(settings: Settings, layer: Layer) -> None:
    """Refuse a setting of a method or data set that the request does not run; only a file may hold one."""
    fitted = _fits_on_auxiliary(settings)
    for group, axis in NAMED.items():
        used = [*getattr(settings.sweep, axis), *(auxiliaries(settings) if group == "dataset" and fitted else ())]
        said = layer.values.get(group)
        for name, values in said.items() if isinstance(said, Mapping) else ():
            if isinstance(values, Mapping) and name not in used:
                raise ConfigError(
                    f"{group}.{name}.{next(iter(values))} ({layer.origin}) sets a {group} that does not run: "
                    f"used are {', '.join(dict.fromkeys(used)) or 'none'}."
                )


def _choice(layer: Layer, group: str) -> str | None:
    said = layer.values.get(group)
    return said if isinstance(said, str) else layer.chosen.get(group)


def _parts(layers: Sequence[Layer], group: str) -> list[tuple[str, Any]]:
    """The values of a group by origin, lowest first; the chosen file comes first where there is one."""
    parts = [(layer.origin, layer.values.get(group)) for layer in layers]
    if group not in CHOSEN:
        return parts
    parts = [(origin, None if isinstance(values, str) else values) for origin, values in parts]
    picks = {index: name for index, layer in enumerate(layers) if (name := _choice(layer, group)) is not None}
    last, name = max(picks.items())
    file = chosen(group, name)
    again = {key for _, values in parts[last:] if isinstance(values, Mapping) for key in values}
    of_another = False  # whether a layer below the choice had set another backbone; the base's does not count
    for index, (origin, values) in enumerate(parts[1:last], start=1):
        of_another = picks[index] != name if index in picks else of_another
        if isinstance(values, Mapping):
            of_another = of_another or any(key in CHOSEN[group] for key in values)
            kept = {key: value for key, value in values.items() if key not in CHOSEN[group]}
            strange = [key for key in kept if key not in again and kept[key] != file.values[group].get(key)]
            if strange and group == "backbone" and of_another:
                key = f"{group}.{strange[0]}"
                raise ConfigError(
                    f"{key}={kept[strange[0]]} ({origin}) was set for another {group} than {name} "
                    f"({layers[last].origin}): set {key}=… beside {name} too, or remove it."
                )
            parts[index] = (origin, kept)
    return [(file.origin, file.values[group]), *parts]


def _merge_named(settings: Settings, group: str, name: str, requested: Sequence[str], layers: Sequence[Layer]) -> None:
    facts = registry.method(name) if group == "method" else registry.dataset(name)
    schema = dict(facts.settings) | ({"root": ROOT} if group == "dataset" else {})
    parts: list[tuple[str, Any]] = [(_short(facts.path), {key: setting.default for key, setting in schema.items()})]
    for layer in layers:
        values = layer.values.get(group) or {}
        if not isinstance(values, Mapping):
            raise ConfigError(f"{group} ({layer.origin}) must hold settings, got {values!r}.")
        strangers = [
            key
            for key, value in values.items()
            if isinstance(value, Mapping) and key not in registry.names(group) and not key.startswith(OWN)
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
