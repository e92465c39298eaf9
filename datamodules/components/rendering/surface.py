"""Surfaces to photograph: reliefs with colours, and the outlines that objects are put together from."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from datamodules.components.rendering.noise import SIDE, Grid, grid, mix, shaded

Colour = tuple[float, float, float]
Paint = Colour | np.ndarray
Point = tuple[float, float] | np.ndarray  # (2,), units
_FINER = 2  # outlines are filled on a grid twice as fine and averaged: smooth edges
_SHIFT = 4  # bits of sub-pixel precision of OpenCV's polygon filler
_CORNERS = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
_ARC = np.pi / 2 * (np.arange(24) // 6 + np.arange(24) % 6 / 5)  # six points for each corner
_ROUND = np.stack([np.cos(_ARC), np.sin(_ARC)], axis=1)


class Edit(NamedTuple):
    """A structural defect for the builder to make: its kind, and the random stream of its place and extent."""

    kind: str
    rng: np.random.Generator


@dataclass
class Surface:
    """One scene before the photograph."""

    albedo: np.ndarray  # (H, W, 3) float32 in [0, 1], RGB as displayed
    height: np.ndarray  # (H, W) float32, units towards the viewer
    gloss: np.ndarray  # (H, W) float32 in [0, 1], strength of the highlight
    body: np.ndarray  # (H, W) float32 in [0, 1], where a surface defect may lie
    changed: np.ndarray  # (H, W) bool, pixels that an Edit altered


Builder = Callable[[np.random.Generator, np.random.Generator, int, Edit | None], Surface]


class Coverage(NamedTuple):
    """The inside of some outlines."""

    alpha: np.ndarray  # (H, W) float32 in [0, 1], coverage
    depth: np.ndarray  # (H, W) float32, units from the nearest edge, 0 outside


class Pose(NamedTuple):
    """Position of an object in the image: turned about its origin, scaled, then shifted (units)."""

    angle: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def place(self, points: np.ndarray) -> np.ndarray:
        """Object points (n, 2) in image units."""
        return turned(points, self.angle) * self.scale + self.shift

    def frame(self, size: int) -> Grid:
        """The object's own coordinates at every pixel of the image."""
        x, y = grid(size)
        x, y = (x - self.shift[0]) / self.scale, (y - self.shift[1]) / self.scale
        c, s = math.cos(self.angle), math.sin(self.angle)
        return Grid(c * x + s * y, c * y - s * x)


STILL = Pose()


def sample_pose(rng: np.random.Generator, turn: float, shift: float = 9.0, scale: float = 0.06) -> Pose:
    """A pose within +-`turn` radians, +-`shift` units and +-`scale` of the natural size."""
    angle, grow, right, down = rng.uniform(-1.0, 1.0, 4)
    return Pose(float(angle * turn), float(1.0 + grow * scale), (float(right * shift), float(down * shift)))


def disc(centre: Point, radius: float, points: int = 40) -> np.ndarray:
    """A circle as a polygon (points, 2)."""
    t = np.linspace(0.0, 2.0 * np.pi, points, endpoint=False)
    return np.asarray(radius * np.stack([np.cos(t), np.sin(t)], axis=1) + np.asarray(centre))


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    """Points (n, 2) turned about the origin by `angle` radians, from x towards y."""
    c, s = math.cos(angle), math.sin(angle)
    return np.asarray(points @ np.array([[c, s], [-s, c]]))


def box(centre: Point, width: float, height: float, angle: float = 0.0, corner: float = 0.0) -> np.ndarray:
    """A rectangle with corners rounded by `corner`, turned about its centre; (n, 2)."""
    radius = min(corner, width / 2, height / 2)
    inner = _CORNERS * (width / 2 - radius, height / 2 - radius)
    ring = np.repeat(inner, 6, axis=0) + radius * _ROUND if radius > 0 else inner
    return np.asarray(turned(ring, angle) + np.asarray(centre))


def oval(centre: Point, long: float, short: float, angle: float = 0.0) -> np.ndarray:
    """An ellipse (40, 2) with half axes `long` and `short`, turned about its centre."""
    return np.asarray(turned(disc((0.0, 0.0), 1.0) * (long, short), angle) + np.asarray(centre))


def ribbon(points: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """The outline (2n, 2) of a line through `points` (n, 2) that is `width` units wide, one number or n."""
    along = np.gradient(points, axis=0)
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1])[:, None], 1e-6)
    side = np.stack([-along[:, 1], along[:, 0]], axis=1) * (np.asarray(width) / 2).reshape(-1, 1)
    return np.concatenate([points + side, (points - side)[::-1]])


def _fill(canvas: np.ndarray, polygons: Sequence[np.ndarray], pose: Pose, value: int) -> None:
    for polygon in polygons:
        pixels = (pose.place(polygon) / SIDE + 0.5) * canvas.shape[0] - 0.5
        cv2.fillPoly(canvas, [np.round(pixels * 2**_SHIFT).astype(np.int32)], value, shift=_SHIFT)


def cover(size: int, solid: Sequence[np.ndarray], holes: Sequence[np.ndarray] = (), pose: Pose = STILL) -> Coverage:
    """The union of the `solid` polygons less the `holes`."""
    canvas = np.zeros((size * _FINER, size * _FINER), np.uint8)
    _fill(canvas, solid, pose, 255)
    _fill(canvas, holes, pose, 0)
    alpha = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
    depth = cv2.distanceTransform(canvas, cv2.DIST_L2, 5)
    depth = cv2.resize(depth, (size, size), interpolation=cv2.INTER_AREA) * (SIDE / (size * _FINER))
    return Coverage(alpha, depth)


def inside(size: int, polygons: Sequence[np.ndarray], pose: Pose = STILL, margin: float = 0.0) -> np.ndarray:
    """The pixels (H, W) bool in the union of the polygons, grown by `margin` units."""
    canvas = np.zeros((size, size), np.uint8)
    _fill(canvas, polygons, pose, 255)
    return grown(canvas > 0, margin)


def grown(region: np.ndarray, margin: float) -> np.ndarray:
    """A region (H, W) bool dilated by `margin` units."""
    reach = round(margin * region.shape[0] / SIDE)
    if reach < 1:
        return region
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate(region.astype(np.uint8), disk) > 0


def flat(size: int, colour: Colour | np.ndarray, gloss: float = 0.0, body: float = 1.0) -> Surface:
    """A flat sheet of one colour."""
    one = np.ones((size, size), np.float32)
    return Surface(shaded(colour, one), one * 0.0, one * gloss, one * body, np.zeros((size, size), bool))


def lay(surface: Surface, alpha: np.ndarray, colour: Paint, height: np.ndarray | float, gloss: float) -> None:
    """Put a material on `surface` where `alpha` is 1: its colour (3,) or (H, W, 3), height, gloss; it is body."""
    alpha = alpha.astype(np.float32, copy=False)
    paint = shaded(colour, np.ones_like(alpha)) if np.ndim(colour) == 1 else np.asarray(colour)
    surface.albedo = mix(surface.albedo, paint, alpha)
    surface.height = mix(surface.height, height, alpha).astype(np.float32, copy=False)
    surface.gloss = mix(surface.gloss, gloss, alpha)
    surface.body = mix(surface.body, 1.0, alpha)


def tinted(rng: np.random.Generator, colour: Colour, value: float = 0.05, hue: float = 0.012) -> np.ndarray:
    """A colour (3,) float32 near `colour`: its brightness differs by +-`value`, each channel by +-`hue`."""
    shade = 1.0 + rng.uniform(-value, value)
    return np.clip(np.asarray(colour) * shade + rng.uniform(-hue, hue, 3), 0.0, 1.0).astype(np.float32)
