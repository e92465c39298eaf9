"""What a fitted method says of single images, read and batched as the test of a cell reads and batches them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.execution.evaluator import Predictions, rescored
from datamodules.components.reading import read_image
from datamodules.components.sample import DataError, Sample, UnlabelledBatch
from methods.components.base import Method


class Scored(NamedTuple):
    """What a method says of n images."""

    scores: NDArray[np.float32]  # (n,), nan where there is none
    maps: NDArray[np.float32]  # (n, size, size) as the benchmark measures them, 0 where there is none
    errors: dict[int, str]  # why an image has no score, by its place


def score_images(
    method: Method,
    paths: Sequence[Path],
    category: str,
    *,
    size: int,
    batch_size: int,
    told: Callable[[int], None] = lambda done: None,
) -> Scored:
    """Score the images of one category, in order; one that cannot be read is left out of its batch.

    The same images in the same order, in batches of the same size, have on a CPU the scores of a cell to the last bit;
    in other batches they may differ by a rounding.

    Args:
        method: fitted; it goes into eval mode.
        paths: of the images.
        category: key of the category.
        size: side of the maps, pixels.
        batch_size: images per step.
        told: is called with the number of images of each step.
    """
    predictions, errors = Predictions(size), dict[int, str]()
    method.eval()
    with torch.inference_mode():
        for start in range(0, len(paths), batch_size):
            places = range(start, min(start + batch_size, len(paths)))
            batch = _read(paths, places, category, method.backbone.image_size, errors)
            if batch is not None:
                moved = batch._replace(image=batch.image.to(method.backbone.mean.device))
                predictions.take(method.test_step(moved, start), batch)
            told(len(places))
    samples = [Sample(path, category) for path in paths]
    scores, maps = np.full(len(paths), np.nan, np.float32), np.zeros((len(paths), size, size), np.float32)
    for kept in rescored(method, predictions.gather(), samples):
        scores[kept.indices.numpy()], maps[kept.indices.numpy()] = kept.score.numpy(), kept.anomaly_map.numpy()
    for place in np.flatnonzero(~(np.isfinite(scores) & np.isfinite(maps).all(axis=(1, 2)))).tolist():
        errors.setdefault(place, f"{paths[place]}: the score or the map is not finite.")
        scores[place], maps[place] = np.nan, 0
    return Scored(scores, maps, errors)


def _read(
    paths: Sequence[Path], places: Sequence[int], category: str, side: int, errors: dict[int, str]
) -> UnlabelledBatch | None:
    """The images at some places that can be read; None if none can."""
    images = {}
    for place in places:
        try:
            images[place] = read_image(paths[place], side)
        except DataError as error:
            errors[place] = str(error)
    if not images:
        return None
    return UnlabelledBatch(torch.stack([*images.values()]), [category] * len(images), torch.tensor([*images]))
