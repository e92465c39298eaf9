"""Opens the data sets that a cell names; no image is read yet. Loads neither a CLIP nor a method."""

from collections.abc import Sequence
from dataclasses import replace

from benchmark.request import registry
from benchmark.request.cell import Cell
from datamodules.components.base import AnomalyDataModule


def open_data(cell: Cell, image_size: int, categories: Sequence[str] | None = None) -> AnomalyDataModule:
    """The target data set of a cell, of its categories or others; no image is read yet."""
    facts = registry.dataset(cell.dataset)
    cls = registry.load(facts, AnomalyDataModule)
    data: AnomalyDataModule = cls(
        registry.data_root(facts, cell.where.root),
        categories or cell.categories,
        image_size=image_size,
        evaluation_size=cell.settings.protocol.evaluation_size,
        shots=cell.shots,
        seed=cell.seed,
        batch_size=cell.where.trainer.batch_size,
        num_workers=cell.where.trainer.num_workers,
        limit=cell.limit,
        config=cls.Config(**cell.settings.dataset),
    )
    return data


def auxiliary_cell(cell: Cell) -> Cell:
    """A cell on all categories of the auxiliary data set."""
    facts = registry.dataset(cell.settings.protocol.auxiliary or "")
    return replace(
        cell,
        dataset=facts.name,
        variant=facts.variant,
        categories=facts.categories,
        shots=0,
        limit=None,
        settings=replace(cell.settings, dataset=cell.settings.auxiliary),
        where=replace(cell.where, root=cell.where.auxiliary_root),
    )
