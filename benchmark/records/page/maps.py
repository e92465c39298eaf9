"""From the map a method made to a picture of it: enlarged and smoothed as in the test, then as small as a thumbnail."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Colours of a map from its low end to its high end, RGB; between them they are mixed.
COLOURS = np.array([(20, 11, 53), (106, 23, 110), (188, 55, 84), (243, 120, 25), (252, 255, 164)], np.float64)
LEAST, MOST = 0.10, 0.85  # how much a map covers its image at the two ends
OUTLINE = (0, 229, 255)  # RGB of the border of the truth


@lru_cache(maxsize=64)
def finishing(shown: int, own: int, size: int | None, sigma: float, align_corners: bool) -> NDArray[np.float64]:
    """What one axis of a map goes through, as a matrix: with one for each axis, `a @ map @ b.T` is the thumbnail's map.

    Args:
        shown: pixels of the thumbnail along the axis.
        own: numbers of the map along it.
        size: pixels to which the map is enlarged bilinearly before it is smoothed; None leaves it as it is.
        sigma: of the Gaussian, pixels of that size; edges are mirrored.
        align_corners: whether the outer numbers lie at the middle of the outer pixels, else the outer borders meet.

    Returns:
        (shown, own), rows sum to 1.
    """
    found: NDArray[np.float64] = np.eye(own) if size is None else _enlarge(size, own, align_corners)
    if sigma > 0:
        from scipy.ndimage import gaussian_filter1d  # noqa: PLC0415  (scipy, which a page without maps spares)

        found = gaussian_filter1d(found, sigma, axis=0, mode="reflect")
    shrunk: NDArray[np.float64] = _shrink(shown, len(found)) @ found
    return shrunk


def _enlarge(to: int, own: int, align_corners: bool) -> NDArray[np.float64]:
    """Bilinear interpolation along an axis, (to, own)."""
    steps = np.arange(to)
    places = steps * (own - 1) / max(1, to - 1) if align_corners else (steps + 0.5) * own / to - 0.5
    places = places.clip(0, own - 1)[:, None]
    return np.asarray(np.maximum(0, 1 - np.abs(places - np.arange(own))))


def _shrink(to: int, own: int) -> NDArray[np.float64]:
    """Bilinear interpolation along an axis, antialiased where it gets smaller, (to, own)."""
    if to >= own:
        return _enlarge(to, own, align_corners=False)
    middles = (np.arange(to) + 0.5)[:, None] * own / to
    weights = np.maximum(0, 1 - np.abs(np.arange(own) + 0.5 - middles) * to / own)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def overlay(pixels: NDArray[np.uint8], shares: NDArray[np.float64]) -> Image.Image:
    """A map over its image, which it hides the more the higher it is.

    Args:
        pixels: (h, w, 3) RGB.
        shares: (h, w) in [0, 1].
    """
    ends = np.linspace(0, 1, len(COLOURS))
    heat = np.stack([np.interp(shares, ends, channel) for channel in COLOURS.T], axis=-1)
    grey = np.repeat(pixels.mean(axis=-1, keepdims=True), 3, axis=-1)
    cover = (LEAST + (MOST - LEAST) * shares)[..., None]
    return Image.fromarray(np.rint((1 - cover) * grey + cover * heat).astype(np.uint8))


def outlined(pixels: NDArray[np.uint8], marked: NDArray[np.bool_]) -> Image.Image:
    """An image with a border around each region that the truth marks.

    Args:
        pixels: (h, w, 3) RGB.
        marked: (H, W), of any size; a pixel of the image is marked where any that it covers is.
    """
    height, width = pixels.shape[:2]
    inside = np.zeros((height, width), bool)
    rows, columns = np.nonzero(marked)
    inside[rows * height // marked.shape[0], columns * width // marked.shape[1]] = True
    wider = np.pad(inside, 1)
    near = [wider[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    drawn = pixels.copy()
    drawn[np.any(near, axis=0) & ~inside] = OUTLINE
    return Image.fromarray(drawn)
