"""Crops of the pairs of the bank, under lights of their own, and their captions."""

from typing import Literal, NamedTuple

import cv2
import numpy as np

from benchmark.pretraining import wording
from benchmark.pretraining.bank import SIDE, Bank
from benchmark.pretraining.wording import DEFECTS, PRODUCTS
from datamodules.components.rendering.noise import stream

PATCH = 8  # pixels

Scope = Literal["part", "coarse", "whole"]
#: Shortest and longest side of what a crop shows in the bank, pixels.
_SHOWN: dict[Scope, tuple[int, int]] = {"part": (78, 124), "coarse": (150, SIDE), "whole": (150, SIDE)}


class Crops(NamedTuple):
    """n pairs: rows 0 to n - 1 are normal, rows n to 2 n - 1 the same scenes with a defect."""

    images: np.ndarray  # (2n, 3, side, side) float32 in [0, 1]
    cover: np.ndarray  # (2n, N) float32 in [0, 1], share of each patch that is anomalous
    corner: tuple[int, int]  # row and column of the crop's first patch in the whole grid
    step: int  # patches of the whole grid per patch of the crop
    product: np.ndarray  # (n,) index
    defect: np.ndarray  # (n,) index
    place: np.ndarray  # (n,) index of PLACES, -1 where the crop shows a part only
    texts: list[str]  # 2n captions
    vague: np.ndarray  # (2n,) bool, the caption does not name the product


def sample_crops(bank: Bank, grid: int, pairs: int, scope: Scope, seed: int, step: int, stress: float = 1.0) -> Crops:
    """The crops of one step, a pure function of its arguments.

    Args:
        bank: the rendered pairs.
        grid: patches along a whole crop; the others have half as many.
        pairs: number of pairs.
        scope: part of a scene that a crop shows.
        seed: of all that is sampled.
        step: number of the step.
        stress: largest factor on the difference that the defect makes, 1 or more; each pair samples its own from 1 on.
    """
    rng = stream("views", seed, scope, step)
    low, high = _SHOWN[scope]
    side = PATCH * (grid if scope == "whole" else grid // 2)
    corner = tuple(int(c) for c in rng.integers(0, grid - grid // 2 + 1, 2)) if scope == "part" else (0, 0)
    images = np.empty((2 * pairs, side, side, 3), np.float32)
    cover = np.zeros((2 * pairs, (side // PATCH) ** 2), np.float32)
    place, chosen = np.full(pairs, -1), rng.integers(0, len(bank.scenes), pairs)
    for row, index in enumerate(chosen):
        mask = bank.masks[index]
        top, left, edge = _window(rng, mask, int(rng.integers(low, high + 1)))
        laid = np.float32(rng.uniform(1.0, stress))
        turn, mirror = int(rng.integers(4)), bool(rng.random() < 0.5)
        normal, anomalous = bank.pixels[index, :, top : top + edge, left : left + edge].astype(np.float32)
        for state, cut in enumerate((normal, normal + laid * (anomalous - normal))):
            images[row + state * pairs] = _lit(rng, _turned(cut, turn, mirror), side)
        part = _turned(mask[top : top + edge, left : left + edge], turn, mirror).astype(np.float32)
        share = cv2.resize(part, (side // PATCH,) * 2, interpolation=cv2.INTER_AREA)
        cover[row + pairs] = share.ravel()
        if scope != "part":
            place[row] = _place(share)
    shown = [bank.scenes[index] for index in chosen]
    said = [_say(rng, scene.product, scene.defect, int(at)) for scene, at in zip(shown, place, strict=True)]
    return Crops(
        images.transpose(0, 3, 1, 2),
        cover,
        (corner[0], corner[1]),
        2 if scope == "coarse" else 1,
        np.array([PRODUCTS.index(scene.product) for scene in shown]),
        np.array([DEFECTS.index(scene.defect) for scene in shown]),
        place,
        [texts[0] for texts, _ in said] + [texts[1] for texts, _ in said],
        np.array([vague for _, vague in said] * 2),
    )


def _window(rng: np.random.Generator, mask: np.ndarray, edge: int) -> tuple[int, int, int]:
    """Top, left and side of a crop that holds the middle of the defect."""
    rows, columns = np.nonzero(mask)
    pick = int(rng.integers(len(rows)))
    at = []
    for centre in (int(rows[pick]), int(columns[pick])):
        start = centre - int(rng.uniform(0.15, 0.85) * edge)
        at.append(min(max(start, 0), SIDE - edge))
    return at[0], at[1], edge


def _turned(image: np.ndarray, turn: int, mirror: bool) -> np.ndarray:
    image = np.rot90(image, turn)
    return np.ascontiguousarray(image[:, ::-1] if mirror else image)


def _lit(rng: np.random.Generator, image: np.ndarray, side: int) -> np.ndarray:
    """The crop as another camera would take it, (side, side, 3) float32 in [0, 1]."""
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) / 255.0
    gain = np.float32(rng.uniform(0.8, 1.2)) * rng.uniform(0.94, 1.06, 3).astype(np.float32)
    mean = small.mean()
    small = (small - mean) * np.float32(rng.uniform(0.8, 1.3)) + mean
    small = small * gain + np.float32(rng.uniform(-0.06, 0.06))
    noise = np.float32(rng.uniform(0.0, 0.018)) * rng.standard_normal((side, side, 1), dtype=np.float32)
    return np.asarray(np.clip(small + noise, 0.0, 1.0))


def _place(share: np.ndarray) -> int:
    """The index of PLACES where the middle of the mask lies, thirds of the crop."""
    rows, columns = np.indices(share.shape)
    total = max(float(share.sum()), 1e-6)
    row, column = (float((axis * share).sum()) / total / share.shape[0] * 3 for axis in (rows + 0.5, columns + 0.5))
    return min(int(row), 2) * 3 + min(int(column), 2)


def _say(rng: np.random.Generator, product: str, defect: str, place: int) -> tuple[tuple[str, str], bool]:
    """Captions of the normal and the anomalous image, and whether they leave the product open."""
    vague = bool(rng.random() < 0.2)
    words = wording.any_product(rng) if vague else wording.product_words(rng, product)
    where = place if place >= 0 and rng.random() < 0.5 else None
    text = wording.anomalous_text(rng, words) if rng.random() < 0.3 else wording.defect_text(rng, words, defect, where)
    return (wording.normal_text(rng, words), text), vague
