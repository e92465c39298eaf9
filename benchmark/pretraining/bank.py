"""The rendered pairs of images that a pretraining samples its crops from, kept in one file of pixels."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np

from datamodules.components.rendering.noise import stream
from datamodules.components.rendering.pretraining import BANK_VERSION, PRODUCTS, SURFACE, render_pair

SIDE = 192  # pixels; crops of 64 or 128 are cut out of it and made smaller
_CHUNK = 60  # pairs one process renders before it reports


class Scene(NamedTuple):
    """The product and the defect of a pair."""

    product: str
    defect: str


class Bank(NamedTuple):
    """Pairs of images of one scene, without and with a defect."""

    pixels: np.ndarray  # (n, 2, SIDE, SIDE, 3) uint8, memory-mapped: normal, anomalous
    masks: np.ndarray  # (n, SIDE, SIDE) uint8, 0 or 1, memory-mapped
    scenes: list[Scene]


def plan_bank(pairs: int, seed: int) -> list[Scene]:
    """Products in turn; half of the defects are the product's own, where it has any, the others on its surface."""
    names, scenes = tuple(PRODUCTS), []
    for index in range(pairs):
        product = names[index % len(names)]
        rng = stream("bank", seed, index)
        own = PRODUCTS[product].defects
        kinds: Sequence[str] = own if own and rng.random() < 0.5 else tuple(SURFACE)
        scenes.append(Scene(product, kinds[int(rng.integers(len(kinds)))]))
    return scenes


def _render(folder: Path, scenes: list[Scene], seed: int, chunk: range) -> int:
    cv2.setNumThreads(1)
    pixels, masks = _mapped(folder, len(scenes), "r+")
    for index in chunk:
        pair = render_pair(*scenes[index], index, seed=seed, size=SIDE)
        pixels[index, 0], pixels[index, 1], masks[index] = pair.normal, pair.anomalous, pair.mask
    return chunk.start


def _mapped(folder: Path, pairs: int, mode: Literal["r", "r+", "w+"]) -> tuple[np.ndarray, np.ndarray]:
    shapes = {"pixels.u8": (pairs, 2, SIDE, SIDE, 3), "masks.u8": (pairs, SIDE, SIDE)}
    pixels, masks = (np.memmap(folder / name, np.uint8, mode, shape=shape) for name, shape in shapes.items())
    return pixels, masks


def open_bank(cache: Path, pairs: int, seed: int = 0) -> Bank:
    """The bank below `cache`, rendered by all processors if it is not there; goes on where it stopped.

    Args:
        cache: folder for the file, about 260 KB per pair.
        pairs: number of scenes.
        seed: of all images.
    """
    scenes = plan_bank(pairs, seed)
    folder = cache / f"bank-v{BANK_VERSION}-seed{seed}-{SIDE}px-{pairs}"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "drawn.json"
    rendered = set(json.loads(log.read_text())) if log.exists() else set()
    if not rendered:
        _mapped(folder, pairs, "w+")
    chunks = [range(at, min(at + _CHUNK, pairs)) for at in range(0, pairs, _CHUNK) if at not in rendered]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        for done in pool.map(partial(_render, folder, scenes, seed), chunks):
            rendered.add(done)
            log.write_text(json.dumps(sorted(rendered)))
    return Bank(*_mapped(folder, pairs, "r"), scenes)
