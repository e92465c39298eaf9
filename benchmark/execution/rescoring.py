"""Kept predictions measured anew, under other choices than the cell's own; no CLIP and no GPU is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.execution.data import open_data, target
from benchmark.execution.evaluator import Kept, measure_test
from benchmark.execution.run_cell import told
from benchmark.records.predictions import Predicted
from benchmark.records.store import Record
from benchmark.request.cell import Cell, digest
from datamodules.components.base import AnomalyDataModule
from datamodules.components.content import file_digest
from datamodules.components.sample import DataError
from methods.components.prediction import Finish

ImageScore = Literal["own", "max", "top1", "scaled"]
SCORES: dict[ImageScore, str] = {
    "own": "the method's score",
    "max": "the highest value of the map",
    "top1": "the mean of the highest 1 % of the map",
    "scaled": "half the method's score and half the highest value of the map, each scaled to [0, 1] over a category",
}
SMALLEST = 8  # px; no image is read


class Choice(NamedTuple):
    """What is chosen otherwise; None and "own" leave what the cell had."""

    resolution: int | None = None  # side of the maps that are measured, px
    smoothing: float | None = None  # deviation of the Gaussian at that resolution, px, instead of the method's; 0: none
    image_score: ImageScore = "own"
    regions: Literal["resized", "native"] | None = None
    steps: bool = False  # PRO of 200 steps beside the exact AUPRO

    def __str__(self) -> str:
        words = [f"resolution={self.resolution}"] if self.resolution else []
        words += [f"smoothing={self.smoothing:g}"] if self.smoothing is not None else []
        words += [f"image-score={self.image_score}"] if self.image_score != "own" else []
        words += [f"regions={self.regions}"] if self.regions else []
        words += ["aupro=200steps"] if self.steps else []
        return " ".join(words) or "as measured"


def beyond(choice: Choice, cell: Cell) -> Choice:
    """What of a choice is otherwise than the cell had it."""
    own = cell.settings.protocol
    return choice._replace(
        resolution=None if choice.resolution == own.evaluation_size else choice.resolution,
        regions=None if choice.regions == own.regions else choice.regions,
        steps=choice.steps and not own.published_metric,
    )


def open_tests(cell: Cell, predicted: Predicted) -> AnomalyDataModule:
    """The test images of a cell, whose masks are read.

    Raises:
        DataError: they are absent, or are not those that were predicted, byte by byte.
    """
    data = open_data(target(cell), SMALLEST)
    samples = data.test_samples
    if [data.relative(sample.image) for sample in samples] != [*predicted.names]:
        raise DataError(f"{data.root} holds other test images than {cell.id} was tested on.")
    for sample, content in zip(samples, predicted.contents, strict=True):
        if file_digest(sample.image) != content:
            raise DataError(f"{sample.image} is not the image that {cell.id} was tested on: its content differs.")
    return data


def remeasure(cell: Cell, predicted: Predicted, data: AnomalyDataModule, choice: Choice) -> dict[str, dict[str, Any]]:
    """Metrics by category and name, as a record has them.

    Raises:
        DataError: no maps were kept.
    """
    if predicted.maps is None:
        raise DataError(f"no maps were kept of {cell.id}: predictions.max_mib was too small.")
    protocol = cell.settings.protocol
    size = choice.resolution or protocol.evaluation_size
    maps = torch.from_numpy(predicted.maps)
    step = max(1, 2**26 // size**2)  # maps that are finished at once
    parts = [_finish(maps[start : start + step], predicted.finish, choice, size) for start in range(0, len(maps), step)]
    scores = _score(choice.image_score, torch.from_numpy(predicted.scores), parts, predicted.categories)
    indices = torch.arange(len(maps))
    kept = [Kept(*each) for each in zip(indices.split(step), scores.split(step), parts, strict=True)]
    published = choice.steps or protocol.published_metric
    return told(measure_test(kept, data, choice.regions or protocol.regions, published=published))


def rescored(record: Record, predicted: Predicted, data: AnomalyDataModule, choice: Choice) -> Record:
    """The record as it would be under a choice, which stands in its labels and its comparison id."""
    cell = record.cell
    metrics = remeasure(cell, predicted, data, choice)
    told: dict[str, Any] = {"rescored_smoothing": choice.smoothing} if choice.smoothing is not None else {}
    told |= {"rescored_image_score": choice.image_score} if choice.image_score != "own" else {}
    own = cell.settings.protocol
    protocol = replace(
        own,
        evaluation_size=choice.resolution or own.evaluation_size,
        regions=choice.regions or own.regions,
        published_metric=choice.steps or own.published_metric,
    )
    settings = replace(cell.settings, method={**cell.settings.method, **told}, protocol=protocol)
    compared = [protocol.evaluation_size, protocol.regions]
    same = compared == [own.evaluation_size, own.regions]
    changed = replace(cell, settings=settings)
    comparison = record.comparison_id if same else digest([record.comparison_id, *compared])
    return replace(record, cell=changed, cell_id=changed.id, comparison_id=comparison, metrics=metrics)


def _finish(maps: Tensor, told: Mapping[str, Any], choice: Choice, size: int) -> Tensor:
    """Raw maps (n, rows, columns) as they are measured, (n, size, size)."""
    own = Finish(tuple(told["size"]) if told["size"] else None, told["sigma"], told["align_corners"])
    if choice.smoothing is not None:
        return Finish((size, size), choice.smoothing, own.align_corners)(maps)
    finished = own(maps)
    return F.interpolate(finished[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]


def _score(rule: ImageScore, own: Tensor, parts: Sequence[Tensor], categories: Sequence[str]) -> Tensor:
    """Image scores (n,) by a rule of `SCORES`."""
    if rule == "own":
        return own
    if rule == "top1":
        return torch.cat([maps.flatten(1).topk(max(1, maps[0].numel() // 100)).values.mean(dim=1) for maps in parts])
    highest = torch.cat([maps.amax(dim=(1, 2)) for maps in parts])
    if rule == "max":
        return highest
    mixed = torch.empty_like(highest)
    for category in dict.fromkeys(categories):
        rows = torch.tensor([its == category for its in categories])
        mixed[rows] = (_unit(own[rows]) + _unit(highest[rows])) / 2
    return mixed


def _unit(values: Tensor) -> Tensor:
    """Values scaled to [0, 1]; equal ones become 0."""
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread > 0 else torch.zeros_like(values)
