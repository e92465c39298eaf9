"""What only the folder of a data set tells, remembered until something in it is touched: then no torch is loaded."""

from collections.abc import Mapping
from typing import Any

from benchmark.request import registry
from benchmark.request.cell import canonical
from benchmark.request.code import code_of, hash_code
from datamodules.components.remembered import Remembered


def categories_of(name: str, root: str | None, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """All categories of a data set, from its file or, where that names none, from the disk.

    Raises:
        DataError: they are not known without the folder, which is absent.
    """
    facts = registry.dataset(name)
    if facts.categories:
        return facts.categories
    folder = registry.data_root(facts, root)
    known = Remembered(question("categories", name, root, settings))
    if name not in known.answers:
        if folder is not None:
            known.look_at([folder])
        cls = load_datamodule(facts)
        known.keep(name, cls.find_categories(folder, cls.Config(**settings)))
    return tuple(known.answers[name])


def question(what: str, name: str, root: str | None, settings: Mapping[str, Any]) -> str:
    """All that an answer on a data set depends on besides its files."""
    facts = registry.dataset(name)
    folder = registry.data_root(facts, root)
    return canonical([what, name, str(folder), settings, hash_code(code_of(facts.modules))])


def load_datamodule(facts: registry.DatasetFacts) -> Any:
    """The class of a data set."""
    from datamodules.components.base import AnomalyDataModule  # noqa: PLC0415  (imports torch)

    return registry.load(facts, AnomalyDataModule)
