"""What teacher and student see: crops of photographs at many scales, things cut out of them, and rendered scenes."""

from pathlib import Path

import cv2
import numpy as np

from benchmark.pretraining import photographs as listed
from benchmark.pretraining.photographs import LEAST, Photograph
from datamodules.components.rendering.noise import stream
from datamodules.components.rendering.pretraining import BANK_VERSION, PRODUCTS, SURFACE, render_pair

#: Raised with every change that alters a pixel of a view.
VIEWS_VERSION = f"1.{BANK_VERSION}"
PER_SHARD = 64
_PHOTOGRAPHS, _CROPS = 13, 4  # of a shard, and views of each; the rest are rendered pairs
_MOST_PIXELS = 8_000_000  # of a photograph; larger ones are not drawn more often
_EMPTY = 0.7  # share of smooth pixels from which a crop is drawn anew
_TRIES = 6
_GREY, _CUT_OUT = 0.3, 0.2  # share of views without colour, and of things on a plain ground


def shard_of_views(root: Path, photographs: list[Photograph], number: int, size: int, seed: int) -> np.ndarray:
    """The views of a shard, (PER_SHARD, size, size, 3) uint8, RGB; a pure function of its arguments.

    A photograph is drawn in proportion to its pixels.

    Args:
        root: below which Debian's packages lie.
        photographs: all that are there.
        number: of the shard.
        size: side of the views, pixels.
        seed: of all views.
    """
    rng = stream("views of photographs", seed, number)
    pixels = np.array([min(each.height * each.width, _MOST_PIXELS) for each in photographs], float)
    views = []
    for chosen in rng.choice(len(photographs), _PHOTOGRAPHS, p=pixels / pixels.sum()):
        image = listed.read(root, photographs[chosen])
        views += [_changed(rng, _crop(rng, image, size)) for _ in range(_CROPS)]
    while len(views) < PER_SHARD:
        views += [_changed(rng, view) for view in _rendered(rng, number, len(views), size, seed)]
    return np.stack(views[:PER_SHARD])


def _crop(rng: np.random.Generator, image: np.ndarray, size: int) -> np.ndarray:
    """A square of LEAST pixels up to the whole height, its side even on a scale of logarithms, turned and mirrored."""
    short = min(image.shape[:2])
    for _ in range(_TRIES):
        edge = int(np.exp(rng.uniform(np.log(LEAST), np.log(short + 1))))
        top, left = (int(rng.integers(side - edge + 1)) for side in image.shape[:2])
        view = cv2.resize(
            image[top : top + edge, left : left + edge],
            (size, size),
            interpolation=cv2.INTER_AREA if edge > size else cv2.INTER_CUBIC,
        )
        if listed.smooth(view) < _EMPTY:
            break
    view = np.rot90(view, int(rng.integers(4)))
    return np.ascontiguousarray(view[:, ::-1] if rng.random() < 0.5 else view)


def _rendered(rng: np.random.Generator, number: int, at: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A rendered scene without and with a defect."""
    product = tuple(PRODUCTS)[int(rng.integers(len(PRODUCTS)))]
    kinds = (*PRODUCTS[product].defects, *SURFACE)
    pair = render_pair(product, kinds[int(rng.integers(len(kinds)))], number * PER_SHARD + at, seed=seed, size=size)
    return pair.normal, pair.anomalous


def _changed(rng: np.random.Generator, view: np.ndarray) -> np.ndarray:
    """The view as it is, without colour, or what a smooth outline leaves of it on a plain ground, and its noise."""
    if rng.random() < _GREY:
        view = np.repeat(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
    if rng.random() >= _CUT_OUT:
        return view
    inside = _outline(rng, len(view))[:, :, None]
    level = 255 * rng.choice([rng.uniform(0, 0.08), rng.uniform(0.65, 1), rng.uniform(0, 1)])
    ground = level + rng.normal(0, rng.uniform(0, 3), (*view.shape[:2], 1)) + np.zeros(3)
    laid = inside * view + (1 - inside) * ground
    return np.asarray(np.clip(laid, 0, 255).astype(np.uint8))


def _outline(rng: np.random.Generator, size: int) -> np.ndarray:
    """A smooth closed shape about the middle, (size, size) float32, 1 inside."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5 - rng.uniform(-0.1, 0.1, (2, 1, 1)).astype(np.float32)
    stretch, turn = rng.uniform(0.35, 1), rng.uniform(0, np.pi)
    x, y = x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) / stretch
    angle, radius = np.arctan2(y, x), rng.uniform(0.25, 0.42)
    edge = sum(rng.normal(0, 0.06 / wave) * np.cos(wave * angle + rng.uniform(0, 6.3)) for wave in range(2, 7))
    return np.asarray(np.clip((radius * (1 + edge) - np.hypot(x, y)) * size / 2 + 0.5, 0, 1), np.float32)
