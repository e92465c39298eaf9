"""Plug-ins: what installed distributions offer as methods and data sets, read from their files; nothing is imported."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.request.code import file_of


class Point(NamedTuple):
    """An entry point of an installed distribution."""

    name: str
    value: str
    distribution: str  # its name and version
    tops: tuple[str, ...] = ()  # top-level packages and modules that it installs


class Claim(NamedTuple):
    """A module that wants to be known by a name."""

    module: str
    path: Path | None
    cls: str = ""
    point: Point | None = None  # None of the suite's own
    problem: str = ""  # why it cannot


def points(kind: str) -> tuple[Point, ...]:
    """All entry points of "method" or "dataset", also where other distributions have some that cannot be read."""
    return _points(kind, tuple((place, *_lists(place)) for place in sys.path))


def _lists(place: str) -> Iterator[tuple[str, int]]:
    """The lists of entry points in a folder that Python looks into, each with the time of its last change."""
    for path in Path(place or ".").glob("*-info/entry_points.txt"):
        with suppress(OSError):
            yield str(path), path.stat().st_mtime_ns


@lru_cache(maxsize=8)
def _points(kind: str, places: tuple[Any, ...]) -> tuple[Point, ...]:
    group = f"clip_ad_bench.{kind}s"
    found: dict[str, list[Point]] = {}
    for distribution in distributions():
        with suppress(Exception):  # of somebody's metadata
            its = [point for point in distribution.entry_points if point.group == group]
            if its and distribution.name not in found:  # one that is installed twice counts where Python finds it first
                words, tops = f"{distribution.name} {distribution.version}", tuple(_tops(distribution))
                found[distribution.name] = [Point(point.name, point.value, words, tops) for point in its]
    return tuple(point for points in found.values() for point in points)


def _tops(distribution: Distribution) -> Iterator[str]:
    """The packages and modules that Python finds where a distribution installs them."""
    place = Path(str(distribution.locate_file("")))
    files = (file for file in distribution.files or () if file.suffix == ".py")
    for name in dict.fromkeys(file.parts[0].removesuffix(".py") for file in files):
        found = file_of(name) if name.isidentifier() and not name.startswith("_") else None  # _ of an editable one
        if found and found.is_relative_to(place):
            yield name


def claim_of(point: Point) -> Claim:
    """What an entry point claims, from files alone: nothing of it is imported."""
    module, _, cls = (part.strip() for part in point.value.partition(":"))
    if not point.name.isidentifier():
        problem = "its name must be made of letters, digits and underscores and begin with a letter"
        return Claim(module, None, cls, point, problem)
    if ":" in point.value and not cls.isidentifier():
        return Claim(module, None, cls, point, "it must have the form module:Class")
    try:
        path = file_of(module)
    except Exception as error:  # noqa: BLE001  an import hook of a third party
        return Claim(module, None, cls, point, f"{type(error).__name__}: {error}")
    return Claim(module, path, cls, point, "" if path else f"there is no Python file of the module {module!r}")
