"""Words and options of one command line as one layer, the same whatever their order."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from benchmark.request.merging import Layer
from benchmark.request.registry import ConfigError

_RESOLVER = re.compile(r"\$\{[^}]*:")
COMMAND_LINE = "command line"  # origin of what was typed


class Said(NamedTuple):
    """One value of a command line."""

    typed: str  # the word or option it came from
    key: tuple[str, ...]  # its group, and the names below it
    value: Any


def read_word(word: str) -> list[Said]:
    """The values of `key=value`; where the value is a mapping, those of its leaves.

    Raises:
        ConfigError: the word has no "=", its value is no YAML, or it sets no key.
    """
    if "=" not in word or word.startswith("="):
        raise ConfigError(f"expected key=value, got {word!r}.")
    try:
        loaded = OmegaConf.from_dotlist([word])
        refuse_resolvers(OmegaConf.to_container(loaded, resolve=False), word)
        values = OmegaConf.to_container(loaded, resolve=True)
    except ConfigError:
        raise
    except Exception as error:  # of omegaconf, and of the YAML reader below it
        why = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ConfigError(f"cannot read {word!r} as key=value: {why}") from error
    said = [Said(word, key, value) for key, value in _leaves(values)]
    if any(each.value == {} or (each.value is None and len(each.key) == 1) for each in said):
        raise ConfigError(f"{word!r} sets no key.")
    return said


def refuse_resolvers(values: Any, origin: str) -> None:
    """ConfigError where a value is computed, as `${oc.env:SECRET}` is: settings end in records, tables and W&B."""
    for key, value in _leaves(values):
        if any(
            isinstance(each, str) and _RESOLVER.search(each) for each in (value if isinstance(value, list) else [value])
        ):
            raise ConfigError(
                f"{'.'.join(key)} ({origin}) must be a value, got {value!r}: records would show what it reads."
            )


def one_layer(said: Iterable[Said], choosable: Collection[str]) -> Layer:
    """The values of a command line as a layer.

    Args:
        said: in any order.
        choosable: groups of which a word may choose a file beside words that set its keys.

    Raises:
        ConfigError: a key is set twice, or both a key and one below it.
    """
    said = list(said)
    for one, other in combinations(said, 2):
        above, below = sorted((one, other), key=lambda each: len(each.key))
        if below.key[: len(above.key)] == above.key and (above.key == below.key or not _chooses(above, choosable)):
            raise ConfigError(f"{one.typed} and {other.typed} both set {'.'.join(above.key)}: keep one of the two.")
    values: dict[str, Any] = {}
    for *path, last, value in ((*each.key, each.value) for each in said if not _chooses(each, choosable)):
        place = values
        for name in path:
            place = place.setdefault(name, {})
        place[last] = value
    return Layer(COMMAND_LINE, values, {each.key[0]: each.value for each in said if _chooses(each, choosable)})


def _chooses(said: Said, choosable: Collection[str]) -> bool:
    return len(said.key) == 1 and said.key[0] in choosable and isinstance(said.value, str)


def _leaves(values: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(values, Mapping) and (values or not above):
        for name, value in values.items():
            yield from _leaves(value, (*above, str(name)))
    else:
        yield above, values
