"""What a cell depends on besides its words: files that settings name, and the source behind it, all by content."""

from functools import lru_cache
from pathlib import Path

from benchmark.request import registry
from benchmark.request.cell import Cell, CellSettings
from benchmark.request.code import MEASURING, code_of
from benchmark.request.settings import choices
from datamodules.components.content import file_digest, folder_digest
from methods.components.clip.model_files import local_digest
from methods.components.clip.published_weights import DEMO_FILE, EMBEDDED


def named_files(method: str, dataset: str, settings: CellSettings) -> dict[str, str]:
    """Sha256 of each file or folder that a resolved setting of a cell names.

    A name in configs/captions is no path: the whole folder is part of the record's content.

    Returns:
        "group.key" → sha256. A path that does not exist is left out; opening it raises later.
    """
    facts: dict[str, registry.Facts] = {"method": registry.method(method), "dataset": registry.dataset(dataset)}
    if settings.protocol.auxiliary:
        facts["auxiliary"] = registry.dataset(settings.protocol.auxiliary)
    found: dict[str, str | None] = {}
    for group, its in facts.items():
        for key, value in getattr(settings, group).items():
            if isinstance(value, str) and not its.settings[key].choices and value not in choices(key):
                found[f"{group}.{key}"] = _digest(value)
    name, pretrained = settings.backbone.name, settings.backbone.pretrained
    found["backbone.name"] = local_digest(name)
    demo = (name, pretrained) == (EMBEDDED, "demo")
    found["backbone.pretrained"] = _digest(str(DEMO_FILE) if demo else pretrained)
    return {key: sha256 for key, sha256 in found.items() if sha256}


def _digest(name: str) -> str | None:
    path = Path(name).expanduser()
    if path.is_file():
        return file_digest(path)
    return folder_digest(path) if name and path.is_dir() else None


def look_again() -> None:
    """Let a process that has run cells see the files and packages that are there now."""
    registry.look_again()
    _code.cache_clear()


def code(cell: Cell) -> dict[str, str]:
    """Hashes of all in-house files behind a cell, by name."""
    facts = (registry.method(cell.method), *map(registry.dataset, cell.datasets))
    return _code(tuple(module for each in facts for module in each.modules))


@lru_cache
def _code(modules: tuple[str, ...]) -> dict[str, str]:
    return code_of((MEASURING, *modules))
