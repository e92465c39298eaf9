"""Perlin masks: blobs at random places, a few percent of the area, where synthetic anomalies are put.

Perlin noise as a mask of synthetic anomalies, its threshold, its grain and its rotation are those of DRAEM
(https://arxiv.org/abs/2108.07610); the union and the intersection of two masks are those of GLASS
(https://arxiv.org/abs/2407.09359). AnoPLe does not say how it makes its masks.
"""

import math

import cv2
import numpy as np

from methods.components.synthesis.views import ANOMALOUS_AREA

#: Noise above it is masked; noise lies between -1 and 1.
THRESHOLD = 0.5
#: Combinations of one or two masks, equally likely.
MODES = ("single", "union", "intersection")
#: Fewest pixels of a cell of the lattice, whatever the exponent.
FINEST_CELL = 4
#: Pixels of the noise along one side of a token, and the share of them from which the token is anomalous.
TOKEN_SIDE, TOKEN_AREA = 16, 0.25

_ROTATION = 90.0  # degrees to either side


def anomaly_mask(rng: np.random.Generator, side: int, exponents: tuple[int, int]) -> np.ndarray:
    """One mask, two united, or what two have in common; resampled until it covers enough to be called anomalous.

    Args:
        rng: the mask depends on its state alone.
        side: pixels, at least 8; any number, it need not be a multiple of anything.
        exponents: lowest and highest power of two of the cells along an axis.

    Returns:
        (side, side) bool, more than `ANOMALOUS_AREA` of it True.
    """
    mode = MODES[rng.integers(len(MODES))]
    while True:
        mask = perlin_mask(rng, (side, side), exponents)
        if mode == "union":
            mask |= perlin_mask(rng, (side, side), exponents)
        if mode == "intersection":
            mask &= perlin_mask(rng, (side, side), exponents)
        if mask.mean() > ANOMALOUS_AREA:
            return mask


def latent_mask(rng: np.random.Generator, grid: tuple[int, int], exponents: tuple[int, int]) -> np.ndarray:
    """The tokens of which a single Perlin mask covers a quarter or more; resampled until there is one.

    Args:
        rng: the mask depends on its state alone.
        grid: rows and columns of tokens.
        exponents: as in `anomaly_mask`.

    Returns:
        (rows, columns) bool.
    """
    rows, columns = grid
    while True:
        mask = perlin_mask(rng, (rows * TOKEN_SIDE, columns * TOKEN_SIDE), exponents)
        tokens: np.ndarray = mask.reshape(rows, TOKEN_SIDE, columns, TOKEN_SIDE).mean(axis=(1, 3)) >= TOKEN_AREA
        if tokens.any():
            return tokens


def perlin_mask(rng: np.random.Generator, shape: tuple[int, int], exponents: tuple[int, int]) -> np.ndarray:
    """One sample, turned by up to 90 degrees to either side; (H, W) bool, possibly all False.

    Raises:
        ValueError: a side is below 8 pixels.
    """
    height, width = shape
    if min(shape) < 2 * FINEST_CELL:
        raise ValueError(f"a Perlin mask needs sides of {2 * FINEST_CELL} pixels or more; got {height} x {width}.")
    finest = int(math.log2(min(shape) / FINEST_CELL))
    low, high = (min(exponent, finest) for exponent in exponents)
    down, across = 2 ** rng.integers(low, high + 1, 2)
    noise = perlin_noise(rng, shape, (down, across))
    centre = ((width - 1) / 2, (height - 1) / 2)
    turn = cv2.getRotationMatrix2D(centre, rng.uniform(-_ROTATION, _ROTATION), 1.0)
    return np.asarray(cv2.warpAffine(noise, turn, (width, height)) > THRESHOLD)


def perlin_noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Noise of a lattice of random unit gradients, at the centres of pixels.

    The weight of a lattice point is a product of one factor per axis, so the sum over the four nearest points is two
    products of matrices, at any side: it need not be a multiple of the cells.

    Args:
        rng: the directions of the gradients are sampled from it.
        shape: height and width, pixels.
        cells: of the lattice, down and across.

    Returns:
        (H, W) float32 in [-1, 1], 0 on the lattice points.
    """
    angles = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1)).astype(np.float32)
    down, down_ramp = _lattice(shape[0], cells[0])
    across, across_ramp = _lattice(shape[1], cells[1])
    noise: np.ndarray = down_ramp @ np.sin(angles) @ across.T + down @ np.cos(angles) @ across_ramp.T
    return noise * np.float32(math.sqrt(2))


def _lattice(pixels: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight of each lattice line at each pixel, and weight times distance; (pixels, cells + 1) each."""
    places = (np.arange(pixels) + 0.5) * cells / pixels  # of the centres of pixels, in cells
    distance = (places[:, None] - np.arange(cells + 1)).astype(np.float32)
    near = 1 - np.abs(distance).clip(max=1)  # 1 on the line, 0 from one cell away
    weight = near**3 * (near * (6 * near - 15) + 10)
    return weight, weight * distance
