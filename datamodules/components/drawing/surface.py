"""What is photographed: a relief with colours, and the shapes that objects are put together from."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from datamodules.components.drawing.noise import SIDE, Grid, grid, mix

Colour = tuple[float, float, float]
_FINER = 2  # outlines are filled on a grid twice as fine and averaged: smooth edges
_SHIFT = 4  # bits of sub-pixel precision of OpenCV's polygon filler


class Edit(NamedTuple):
    """A structural defect asked of the builder: what to change, and the stream that says where and how much."""

    kind: str
    rng: np.random.Generator


@dataclass
class Surface:
    """One scene before the photograph."""

    albedo: np.ndarray  # (H, W, 3) float32 in [0, 1], RGB as displayed
    height: np.ndarray  # (H, W) float32, units towards the viewer
    gloss: np.ndarray  # (H, W) float32 in [0, 1], strength of the highlight
    body: np.ndarray  # (H, W) float32 in [0, 1], where a surface defect may lie
    changed: np.ndarray  # (H, W) bool, what an Edit has altered


Builder = Callable[[np.random.Generator, np.random.Generator, int, Edit | None], Surface]


class Layer(NamedTuple):
    """The inside of some outlines."""

    alpha: np.ndarray  # (H, W) float32 in [0, 1], coverage
    depth: np.ndarray  # (H, W) float32, units from the nearest edge, 0 outside


class Pose(NamedTuple):
    """Where an object lies in the image: turned about its origin, scaled, then shifted (units)."""

    angle: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def place(self, points: np.ndarray) -> np.ndarray:
        """Object points (n, 2) in image units."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        turned = np.asarray(points, dtype=np.float64) @ np.array([[c, s], [-s, c]])
        return turned * self.scale + np.array(self.shift)

    def frame(self, size: int) -> Grid:
        """The object's own coordinates at every pixel of the image."""
        x, y = grid(size)
        x, y = (x - self.shift[0]) / self.scale, (y - self.shift[1]) / self.scale
        c, s = math.cos(self.angle), math.sin(self.angle)
        return Grid(c * x + s * y, c * y - s * x)


def drawn_pose(rng: np.random.Generator, turn: float, shift: float = 9.0, scale: float = 0.06) -> Pose:
    """A pose within +-`turn` radians, +-`shift` units and +-`scale` of the natural size."""
    angle, grow, right, down = rng.uniform(-1.0, 1.0, 4)
    return Pose(float(angle * turn), float(1.0 + grow * scale), (float(right * shift), float(down * shift)))


def disc(x: float, y: float, radius: float, points: int = 40) -> np.ndarray:
    """A circle as a polygon (points, 2)."""
    t = np.linspace(0.0, 2.0 * np.pi, points, endpoint=False)
    return np.stack([x + radius * np.cos(t), y + radius * np.sin(t)], axis=1)


def box(x: float, y: float, width: float, height: float, angle: float = 0.0, corner: float = 0.0) -> np.ndarray:
    """A rectangle centred at (x, y), with corners rounded by `corner`, turned about its centre; (n, 2)."""
    radius = min(corner, width / 2, height / 2)
    inner = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * (width / 2 - radius, height / 2 - radius)
    arc = np.linspace(0.0, np.pi / 2, 6 if radius > 0 else 1)
    ring = [inner[i] + radius * np.stack([np.cos(arc + a), np.sin(arc + a)], 1) for i, a in enumerate(_QUARTERS)]
    c, s = np.cos(angle), np.sin(angle)
    return np.concatenate(ring) @ np.array([[c, s], [-s, c]]) + (x, y)


_QUARTERS = (0.0, np.pi / 2, np.pi, 3 * np.pi / 2)


def ribbon(points: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """The outline (2n, 2) of a line through `points` (n, 2) that is `width` units wide, one number or n."""
    along = np.gradient(points, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    side = np.stack([-along[:, 1], along[:, 0]], axis=1) * (np.asarray(width) / 2).reshape(-1, 1)
    return np.concatenate([points + side, (points - side)[::-1]])


def _fill(canvas: np.ndarray, polygons: Sequence[np.ndarray], pose: Pose, value: int) -> None:
    for polygon in polygons:
        pixels = (pose.place(polygon) / SIDE + 0.5) * canvas.shape[0] - 0.5
        cv2.fillPoly(canvas, [np.round(pixels * 2**_SHIFT).astype(np.int32)], value, shift=_SHIFT)


def cover(size: int, solid: Sequence[np.ndarray], holes: Sequence[np.ndarray] = (), pose: Pose = Pose()) -> Layer:
    """The union of the `solid` polygons less the `holes`."""
    canvas = np.zeros((size * _FINER, size * _FINER), np.uint8)
    _fill(canvas, solid, pose, 255)
    _fill(canvas, holes, pose, 0)
    alpha = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
    depth = cv2.distanceTransform(canvas, cv2.DIST_L2, 5)
    depth = cv2.resize(depth, (size, size), interpolation=cv2.INTER_AREA) * (SIDE / (size * _FINER))
    return Layer(alpha, depth)


def inside(size: int, polygons: Sequence[np.ndarray], pose: Pose = Pose(), margin: float = 0.0) -> np.ndarray:
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
    albedo = np.empty((size, size, 3), np.float32)
    albedo[:] = np.asarray(colour, np.float32)
    blank = np.zeros((size, size), np.float32)
    return Surface(albedo, blank, blank + np.float32(gloss), blank + np.float32(body), np.zeros((size, size), bool))


def lay(surface: Surface, alpha: np.ndarray, colour: object, height: object, gloss: float, body: float = 1.0) -> None:
    """Puts a material on `surface` where `alpha` is 1: the colour (3,) or (H, W, 3), the height over the sheet."""
    alpha = alpha.astype(np.float32, copy=False)
    paint = np.broadcast_to(np.asarray(colour, np.float32), surface.albedo.shape)
    surface.albedo = mix(surface.albedo, paint, alpha)
    surface.height = mix(surface.height, np.asarray(height, np.float32), alpha)
    surface.gloss = mix(surface.gloss, gloss, alpha)
    surface.body = mix(surface.body, body, alpha)


def tinted(rng: np.random.Generator, colour: Colour, value: float = 0.05, hue: float = 0.012) -> np.ndarray:
    """A colour (3,) float32 near `colour`: its brightness differs by +-`value`, each channel by +-`hue`."""
    shade = 1.0 + rng.uniform(-value, value)
    return np.clip(np.asarray(colour) * shade + rng.uniform(-hue, hue, 3), 0.0, 1.0).astype(np.float32)
