"""Measures one test run. Methods return scores; only this callback puts them beside the truth."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmark.metrics.accumulate import ImageMetrics, NotFiniteError, PixelMetrics
from benchmark.metrics.names import PIXEL_METRICS, MetricValue
from datamodules.components.regions import label_regions
from datamodules.components.sample import Batch
from methods.components.base import Prediction

NO_MASKS = "no masks in this data set"


class Evaluator(Callback):
    """Compares predictions with labels and masks, category by category.

    Args:
        evaluation_size: side of the square, in px, at which maps and masks are compared.
        masks_known: whether a category's pixels are labelled; where not, its pixel metrics are undefined.
        published: also compute PRO as published code does.
    """

    def __init__(self, evaluation_size: int, masks_known: Mapping[str, bool], *, published: bool = False) -> None:
        self.size = (evaluation_size, evaluation_size)
        self.image = {category: ImageMetrics() for category in masks_known}
        self.pixel = {category: PixelMetrics(published=published) for category, known in masks_known.items() if known}
        self.counts = {category: {"normal": 0, "anomalous": 0} for category in masks_known}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        check_shapes(outputs, batch)
        maps = F.interpolate(outputs.anomaly_map[:, None].float(), self.size, mode="bilinear", align_corners=False)[
            :, 0
        ]
        for category in dict.fromkeys(batch.category):
            rows = [i for i, name in enumerate(batch.category) if name == category]
            labels = batch.label[rows]
            try:
                self.image[category].update(outputs.score[rows], labels)
                if category in self.pixel:
                    regions = np.stack([label_regions(mask) for mask in batch.mask[rows].cpu().numpy()])
                    self.pixel[category].update(maps[rows], torch.from_numpy(regions))
            except NotFiniteError as error:
                images = ", ".join(batch.path[rows[index]] for index in error.indices)
                raise ValueError(f"{error.what} must be finite, got NaN or infinity for {images}.") from error
            self.counts[category]["anomalous"] += int(labels.sum())
            self.counts[category]["normal"] += int((~labels).sum())

    def metrics(self) -> dict[str, dict[str, MetricValue]]:
        """The seven metrics of each category."""
        nothing = dict.fromkeys(PIXEL_METRICS, MetricValue(None, NO_MASKS))
        return {
            category: image.compute() | (self.pixel[category].compute() if category in self.pixel else nothing)
            for category, image in self.image.items()
        }


def check_shapes(prediction: Prediction, batch: Batch) -> None:
    """Refuse a prediction that does not fit the batch."""
    score, anomaly_map, count = prediction.score, prediction.anomaly_map, len(batch.path)
    if score.shape != (count,) or anomaly_map.ndim != 3 or len(anomaly_map) != count:
        raise ValueError(
            f"predict must return a score ({count},) and a map ({count}, h, w), "
            f"got {tuple(score.shape)} and {tuple(anomaly_map.shape)}."
        )
