"""Opens the data sets that a cell names; no image is read yet. Loads neither a CLIP nor a method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmark.request import registry
from benchmark.request.cell import Cell
from benchmark.request.on_disk import categories_of, load_datamodule

if TYPE_CHECKING:
    from datamodules.components.base import AnomalyDataModule  # imports torch


@dataclass(frozen=True)
class DataSpec:
    """Some categories of a data set, with the shots and test images that are asked for."""

    dataset: str
    root: str | None  # None looks below $BENCH_DATA
    settings: Mapping[str, Any]
    categories: tuple[str, ...]
    shots: int = 0
    seed: int = 0
    limit: int | None = None


def target(cell: Cell, categories: Sequence[str] | None = None) -> DataSpec:
    """What a cell is tested on, or other categories of that data set."""
    chosen = tuple(categories or cell.categories)
    settings, root = cell.settings.dataset, cell.where.root
    return DataSpec(cell.dataset, root, settings, chosen, cell.shots, cell.seed, cell.limit)


def auxiliary(cell: Cell) -> DataSpec | None:
    """All categories of the data set that a cell is fitted on before it is tested elsewhere, if there is one."""
    name = cell.settings.protocol.auxiliary
    if not name:
        return None
    root, settings = cell.where.auxiliary_root, cell.settings.auxiliary
    return DataSpec(name, root, settings, categories_of(name, root, settings), seed=cell.seed)


def fitted_on(cell: Cell) -> DataSpec:
    """What a fit begins on: the auxiliary data set, the categories beside one that is held out, or the target."""
    return auxiliary(cell) or target(cell, cell.fitted or None)


def open_data(
    spec: DataSpec, image_size: int, *, batch_size: int = 1, num_workers: int = 0, cache_gib: float = 0.0
) -> "AnomalyDataModule":
    """The datamodule of a data set, its images made if it makes them itself.

    Args:
        spec: what to open.
        image_size: side of the images, pixels.
        batch_size: test images per batch.
        num_workers: processes that read.
        cache_gib: size of the cache of decoded images.

    Raises:
        DataError: there is no such folder, or no such category.
    """
    facts = registry.dataset(spec.dataset)
    cls = load_datamodule(facts)
    data: AnomalyDataModule = cls(
        registry.data_root(facts, spec.root),
        spec.categories,
        image_size=image_size,
        shots=spec.shots,
        seed=spec.seed,
        batch_size=batch_size,
        num_workers=num_workers,
        limit=spec.limit,
        cache_gib=cache_gib,
        config=cls.Config(**spec.settings),
    )
    data.prepare_data()
    return data
