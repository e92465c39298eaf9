"""Textures that are painted into masks: images of a folder, or shuffled patches of a normal image; and their changes.

Pictures here are (H, W, 3), 8 bits, RGB.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from datamodules.components.decoding import open_image
from datamodules.components.layouts import IMAGE_ENDINGS
from datamodules.components.sample import DataError

#: Patches along a side of a shuffled image.
PATCHES = 8
#: Changes of one texture, as many as in DRAEM.
CHANGES = 3
#: Largest change of brightness, contrast and saturation, and of hue in full turns, of a patch that CutPaste moves.
JITTER = 0.1

_LEVELS = np.arange(256)


def find_textures(folder: Path) -> tuple[Path, ...]:
    """All images in a folder, at any depth, sorted by path.

    Raises:
        DataError: not a folder, or no image in it.
    """
    if not folder.expanduser().is_dir():
        raise DataError(f"textures must be a folder of images; {folder} is not a folder.")
    files = sorted(path for path in folder.expanduser().rglob("*") if path.suffix.lower() in IMAGE_ENDINGS)
    if not files:
        raise DataError(f"textures must be a folder of images ({' '.join(IMAGE_ENDINGS)}); {folder} holds no image.")
    return tuple(files)


def read_texture(path: Path, side: int) -> np.ndarray:
    """One image as a square of `side` pixels; DataError if it cannot be read."""
    with open_image(path) as image:
        return np.array(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))


def shuffle(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image as 8 x 8 patches in random order; a remainder of up to 7 pixels is made up for by resizing."""
    side = pixels.shape[0]
    patch = side // PATCHES
    cut = pixels[: patch * PATCHES, : patch * PATCHES].reshape(PATCHES, patch, PATCHES, patch, 3)
    order = rng.permutation(PATCHES**2)
    mixed = cut.swapaxes(1, 2).reshape(-1, patch, patch, 3)[order].reshape(PATCHES, PATCHES, patch, patch, 3)
    whole = np.ascontiguousarray(mixed.swapaxes(1, 2)).reshape(patch * PATCHES, patch * PATCHES, 3)
    return whole if patch * PATCHES == side else cv2.resize(whole, (side, side))


def augment(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Three different changes in random order, of tone, colour, and a turn.

    Their kinds are DRAEM's, their ranges wider: a patch of the image itself is as bright and as coloured as its new
    place, and with DRAEM's ranges many an anomaly on wood or leather is marked that nobody can see.
    """
    for index in rng.choice(len(_KINDS), CHANGES, replace=False):
        pixels = _KINDS[index](pixels, rng)
    return pixels


def jitter(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, saturation and hue, each changed by up to a tenth."""
    brightness, contrast, saturation = 1 + rng.uniform(-JITTER, JITTER, 3)
    middle = pixels.mean()
    levels = ((_LEVELS * brightness - middle) * contrast + middle).clip(0, 255)
    return _recolour(cv2.LUT(pixels, levels.astype(np.uint8)), rng.uniform(-JITTER, JITTER), saturation)


def _recolour(pixels: np.ndarray, turn: float, saturation: float) -> np.ndarray:
    """Hue turned by a share of the circle, saturation multiplied."""
    hue, colour, value = cv2.split(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV_FULL))
    hue += np.uint8(round(turn * 256) % 256)  # wraps around, as hue does
    colour = cv2.LUT(colour, (_LEVELS * saturation).clip(0, 255).astype(np.uint8))
    return cv2.cvtColor(cv2.merge((hue, colour, value)), cv2.COLOR_HSV2RGB_FULL)


def _gamma(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    exponents = 3 ** rng.uniform(-1, 1, 3)  # one for each channel
    levels = 255 * (_LEVELS[:, None] / 255) ** exponents
    return cv2.LUT(pixels, levels.astype(np.uint8)[None])


def _brighten(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    levels = _LEVELS * rng.uniform(0.6, 1.4) + rng.uniform(-60, 60)
    return cv2.LUT(pixels, levels.clip(0, 255).astype(np.uint8))


def _colour(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _recolour(pixels, rng.uniform(-0.5, 0.5), rng.uniform(0.5, 3.0))


def _solarise(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    threshold = rng.integers(32, 129)
    return cv2.LUT(pixels, np.where(threshold > _LEVELS, _LEVELS, 255 - _LEVELS).astype(np.uint8))


def _posterise(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    step = 2 ** rng.integers(6, 8)
    return cv2.LUT(pixels, (_LEVELS // step * step).astype(np.uint8))


def _invert(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 255 - pixels


def _turn(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = pixels.shape[0]
    turn = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), rng.uniform(-45, 45), 1.0)
    return cv2.warpAffine(pixels, turn, (side, side), borderMode=cv2.BORDER_REFLECT_101)


_KINDS: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (
    _gamma,
    _brighten,
    _colour,
    _solarise,
    _posterise,
    _invert,
    _turn,
)
