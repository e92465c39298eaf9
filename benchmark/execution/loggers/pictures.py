"""The images of a cell that rank most wrongly, each beside its map."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.execution.data import open_data, target
from benchmark.records.predictions import Predicted
from benchmark.request.cell import Cell
from datamodules.components.decoding import decode_image, decode_mask
from methods.components.maps import gaussian_smooth

SIDE = 256  # px
OPACITY = 0.5  # of a map over its image
OUTLINE = (0, 255, 0)  # RGB


class Misplaced(NamedTuple):
    """One image and how wrongly it ranks."""

    place: int  # among the predicted
    share: float  # of the images of the other kind in its category that rank on the wrong side of it, ties half


class Picture(NamedTuple):
    """One image beside its map."""

    pixels: NDArray[np.uint8]  # (SIDE, 2 SIDE, 3) RGB
    caption: str


def worst(predicted: Predicted, count: int) -> list[Misplaced]:
    """The `count` images that rank most wrongly within their category, the worst first.

    The mean of the shares over the images of one kind is 1 − AUROC. Of equal shares the image comes first that lies
    closer to the other kind, or farther among it, in standard deviations of the category's scores.
    """
    categories, found = np.asarray(predicted.categories), []
    for category in dict.fromkeys(predicted.categories):
        its = np.flatnonzero(categories == category)
        scores, anomalous = predicted.scores[its].astype(np.float64), predicted.anomalous[its]
        spread = float(scores.std()) or 1.0
        for kind, sign in ((True, 1.0), (False, -1.0)):
            own, other = its[anomalous == kind], np.sort(sign * scores[anomalous != kind])
            if not len(other):
                continue
            for place, score in zip(own, sign * scores[anomalous == kind], strict=True):
                beyond = len(other) - (np.searchsorted(other, score) + np.searchsorted(other, score, "right")) / 2
                found.append((-beyond / len(other), (score - other[-1]) / spread, int(place)))
    return [Misplaced(place, -minus) for minus, _, place in sorted(found)[:count]]


def worst_of(cell: Cell, predicted: Predicted, count: int) -> list[Picture]:
    """Pictures of the `count` worst images of a cell; none where no maps were kept."""
    if predicted.maps is None or not count:
        return []
    data = open_data(target(cell), SIDE)
    samples = {data.relative(sample.image): sample for sample in data.test_samples}
    spans = dict(_spans(predicted))
    pictures = []
    for place, share in worst(predicted, count):
        name, category = predicted.names[place], predicted.categories[place]
        sample, anomalous = samples[name], bool(predicted.anomalous[place])
        truth = decode_mask(sample.mask, SIDE) if sample.mask else np.zeros((SIDE, SIDE), bool)
        heat = finished(predicted.maps[place], predicted.finish)
        caption = (
            f"{category}: {name}, {'anomalous' if anomalous else 'normal'}, score {predicted.scores[place]:.4g}; "
            f"{100 * share:.0f} % of the {'normal' if anomalous else 'anomalous'} images rank on the wrong side of it"
        )
        pictures.append(Picture(beside(decode_image(sample.image, SIDE), truth, heat, spans[category]), caption))
    return pictures


def finished(raw: NDArray[np.float32], finish: Mapping[str, Any]) -> NDArray[np.float32]:
    """A map (rows, columns) as the method finishes it, (h, w)."""
    maps = torch.from_numpy(raw)[None]
    if finish["size"] is not None:
        size, corners = tuple(finish["size"]), finish["align_corners"]
        maps = torch.nn.functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=corners)[:, 0]
    heat: NDArray[np.float32] = gaussian_smooth(maps, finish["sigma"])[0].numpy()
    return heat


def beside(
    image: NDArray[np.uint8], truth: NDArray[np.bool_], heat: NDArray[np.float32], span: tuple[float, float]
) -> NDArray[np.uint8]:
    """An image with its true regions outlined, and the same with its map over it.

    Args:
        image: (S, S, 3) RGB.
        truth: (S, S).
        heat: (h, w), resized to S.
        span: values of the map that get the first and the last colour.

    Returns:
        (S, 2 S, 3) RGB.
    """
    side, (least, most) = len(image), span
    resized = cv2.resize(heat, (side, side), interpolation=cv2.INTER_LINEAR)
    levels = np.clip((resized - least) / ((most - least) or 1.0), 0, 1)
    colours = cv2.applyColorMap(np.round(255 * levels).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    covered = np.round((1 - OPACITY) * image + OPACITY * colours).astype(np.uint8)
    outlined = image.copy()
    lines: Sequence[Any] = cv2.findContours(truth.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
    cv2.drawContours(outlined, lines, -1, OUTLINE, 1)
    return np.concatenate([outlined, covered], axis=1)


def _spans(predicted: Predicted) -> Iterator[tuple[str, tuple[float, float]]]:
    """The least and the greatest value of the maps of each category, so that their colours compare."""
    categories = np.asarray(predicted.categories)
    for category in dict.fromkeys(predicted.categories):
        maps = predicted.maps[categories == category] if predicted.maps is not None else np.zeros(1)
        yield category, (float(maps.min()), float(maps.max()))
