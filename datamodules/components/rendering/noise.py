"""Random streams named by words, smooth random fields, and the few curves that every builder uses.

Lengths are in units: one unit is 1/256 of the image side, so a scene looks alike at every size.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

SIDE = 256.0  # units along one side of the image


class Grid(NamedTuple):
    """Coordinates of the pixel centres, in units, the image centre at (0, 0)."""

    x: np.ndarray  # (H, W) float32, to the right
    y: np.ndarray  # (H, W) float32, downwards


def stream(*words: object) -> np.random.Generator:
    """A generator that is a pure function of its words, on every machine and in every process."""
    digest = hashlib.sha256("\x1f".join(str(word) for word in words).encode()).digest()
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(int.from_bytes(digest[:16], "big"))))


def grid(size: int) -> Grid:
    """The pixel grid of a square image of `size` pixels."""
    line = ((np.arange(size, dtype=np.float32) + 0.5) / size - 0.5) * SIDE
    return Grid(*(np.ascontiguousarray(a) for a in np.meshgrid(line, line)))


def field(rng: np.random.Generator, size: int, wave: float | tuple[float, float]) -> np.ndarray:
    """Smooth noise (H, W) float32 of about unit variance; `wave` is its grain in units, or (down, across)."""
    down, across = wave if isinstance(wave, tuple) else (wave, wave)
    coarse = rng.standard_normal((int(SIDE / down) + 3, int(SIDE / across) + 3), dtype=np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def fractal(rng: np.random.Generator, size: int, wave: float | tuple[float, float], octaves: int = 3) -> np.ndarray:
    """A sum of `field`s, each of half the grain and half the strength of the one before; (H, W) float32."""
    down, across = wave if isinstance(wave, tuple) else (wave, wave)
    total = field(rng, size, (down, across))
    for octave in range(1, octaves):
        total += field(rng, size, (down / 2**octave, across / 2**octave)) * 0.5**octave
    return total


def grain(rng: np.random.Generator, size: int, angle: float, wave: tuple[float, float]) -> np.ndarray:
    """Streaks (H, W) float32 of about unit variance that run along `angle` (radians); `wave` is (across, along)."""
    side = int(size * 1.5)
    streaks = cv2.resize(
        rng.standard_normal((int(SIDE * 1.5 / wave[0]) + 3, int(SIDE * 1.5 / wave[1]) + 3), dtype=np.float32),
        (side, side),
        interpolation=cv2.INTER_CUBIC,
    )
    turn: np.ndarray = cv2.getRotationMatrix2D((side / 2, side / 2), -math.degrees(angle), 1.0)
    turn[:, 2] -= (side - size) / 2
    return cv2.warpAffine(streaks, turn, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def smooth(low: float | np.ndarray, high: float | np.ndarray, value: np.ndarray) -> np.ndarray:
    """Hermite step: 0 at and before `low`, 1 at and after `high`; falls instead when high < low."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


def rgb(tone: np.ndarray) -> np.ndarray:
    """One tone (H, W) for all three colours (H, W, 3) float32; much faster than broadcasting over a last axis of 3."""
    plane = np.ascontiguousarray(tone, np.float32)
    return cv2.merge((plane, plane, plane))


def shaded(colour: Sequence[float] | np.ndarray, tone: np.ndarray) -> np.ndarray:
    """A colour (3,) times a tone (H, W): (H, W, 3) float32."""
    plane = np.ascontiguousarray(tone, np.float32)
    return cv2.merge([plane * np.float32(channel) for channel in colour])


def mix(a: np.ndarray | float, b: np.ndarray | float, t: np.ndarray) -> np.ndarray:
    """Linear blend: `a` where t = 0, `b` where t = 1; a weight (H, W) is spread over colours (H, W, 3)."""
    return a + (b - a) * (rgb(t) if max(np.ndim(a), np.ndim(b)) == 3 else t)


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur with `sigma` in units."""
    pixels = sigma * image.shape[0] / SIDE
    return image if pixels < 0.2 else cv2.GaussianBlur(image, (0, 0), pixels, borderType=cv2.BORDER_REPLICATE)


def pick(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """A random number per tile: `table` looked up at whole-number `index` (H, W), wrapping around."""
    return table[np.asarray(index, dtype=np.int64) % len(table)]
