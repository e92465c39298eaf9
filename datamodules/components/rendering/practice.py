"""Products that only the embedded CLIP is pretrained on: patterns and arrays of parts in every style.

Each image has a style of its own, so that what is learnt is an irregularity and not a product.
"""

import math

import numpy as np

from datamodules.components.rendering.hardware import bench
from datamodules.components.rendering.noise import SIDE, field, fractal, grain, grid, rgb, shaded, smooth
from datamodules.components.rendering.surface import (
    Edit,
    Pose,
    Surface,
    box,
    cover,
    disc,
    flat,
    inside,
    lay,
    oval,
    sample_pose,
)

_TURN = {"square": 0.0, "diamond": np.pi / 4}


def _colour(style: np.random.Generator, low: float = 0.25, high: float = 0.7) -> np.ndarray:
    """A muted colour (3,) float32."""
    return np.asarray(style.uniform(low, high) * (1.0 + style.normal(0.0, 0.09, 3)), np.float32)


def _region(edit: Edit, size: int, reach: float = 76.0) -> np.ndarray:
    """A roundish part of the sheet (H, W) bool, where the material is another."""
    at, (x, y) = grid(size), edit.rng.uniform(-reach, reach, 2)
    far = np.hypot(at.x - x, at.y - y) / edit.rng.uniform(16.0, 38.0)
    return np.asarray(far + 0.15 * field(edit.rng, size, 26.0) < 1.0)


def _waves(style: np.random.Generator, u: np.ndarray, v: np.ndarray, sharp: float) -> np.ndarray:
    """One to three gratings, added and sharpened, (H, W) in [-1, 1]."""
    pitch, first, count = style.uniform(7.0, 26.0), style.uniform(0.0, np.pi), int(style.integers(1, 4))
    total = np.zeros_like(u)
    for k in range(count):
        angle = first + k * np.pi / count
        total += np.cos(2.0 * np.pi * (u * math.cos(angle) + v * math.sin(angle)) / pitch + style.uniform(0.0, 6.0))
    return np.tanh(sharp * total / math.sqrt(count))


def pattern(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """A sheet with gratings; a part of it is turned, shifted by half a pitch or left plain."""
    u, v = sample_pose(rng, np.pi, 20.0, 0.1).frame(size)
    sway = style.uniform(0.0, 2.5)
    u, v = u + sway * field(rng, size, 60.0), v + sway * field(rng, size, 60.0)
    sharp, relief, tone = style.uniform(0.7, 3.0), style.uniform(0.0, 2.0), style.uniform(0.03, 0.22)
    gratings = int(style.integers(2**32))
    wave = _waves(np.random.default_rng(gratings), u, v, sharp)
    surface = flat(size, _colour(style), style.uniform(0.0, 0.2))
    if edit:
        surface.changed = _region(edit, size)
        angle = edit.rng.uniform(0.5, 2.6) if edit.kind == "direction" else 0.0
        shift = edit.rng.uniform(4.0, 9.0, 2) if edit.kind == "misplaced" else (0.0, 0.0)
        c, s = math.cos(angle), math.sin(angle)
        other = _waves(np.random.default_rng(gratings), c * u + s * v + shift[0], c * v - s * u + shift[1], sharp)
        wave = np.where(surface.changed, 0.0 if edit.kind == "missing" else other, wave)
    rough = fractal(rng, size, style.uniform(3.0, 12.0), 3)
    surface.albedo = surface.albedo * rgb(1.0 + tone * wave + 0.03 * rough)
    surface.height = (relief * wave + style.uniform(0.0, 0.3) * rough).astype(np.float32)
    return surface


def speckle(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """A sheet with streaks or grains; a part of it is turned or left plain."""
    across = style.uniform(2.0, 9.0)
    angle, wave = rng.uniform(0.0, np.pi), (across, across * style.uniform(1.8, 9.0))
    noise = grain(rng, size, angle, wave)
    surface = flat(size, _colour(style), style.uniform(0.0, 0.3))
    if edit:
        surface.changed = _region(edit, size)
        other = grain(edit.rng, size, angle + edit.rng.uniform(0.7, 2.4), wave)
        noise = np.where(surface.changed, other if edit.kind == "direction" else 0.0, noise)
    if style.random() < 0.5:
        noise = smooth(0.4, 1.0, noise) * 1.6
    surface.albedo = surface.albedo * rgb(1.0 + style.uniform(0.03, 0.12) * noise + 0.02 * fractal(rng, size, 30.0, 2))
    surface.height = (style.uniform(0.0, 0.5) * noise).astype(np.float32)
    return surface


def _places(style: np.random.Generator, layout: str) -> np.ndarray:
    """Places of the parts of an array (n, 3): x, y in units and the turn of each."""
    if layout == "ring":
        count, radius = int(style.integers(6, 15)), style.uniform(55.0, 88.0)
        angle = 2.0 * np.pi * np.arange(count) / count
        return np.stack([radius * np.cos(angle), radius * np.sin(angle), angle], axis=1)
    if layout == "row":
        count = int(style.integers(6, 13))
        x = (np.arange(count) - (count - 1) / 2) * (190.0 / count)
        return np.stack([x, np.zeros(count), np.zeros(count)], axis=1)
    columns, rows = style.integers(3, 7, 2)
    x, y = np.meshgrid(np.arange(columns) - (columns - 1) / 2, np.arange(rows) - (rows - 1) / 2)
    if style.random() < 0.4:
        x = x + 0.25 * (np.arange(rows) % 2 * 2 - 1)[:, None]
    raster = np.stack([x.ravel() * 186.0 / columns, y.ravel() * 186.0 / rows, np.zeros(columns * rows)], axis=1)
    return np.asarray(raster)


def _part(kind: str, long: float, short: float, place: np.ndarray) -> np.ndarray:
    """The outline (n, 2) of one part."""
    centre, turn = place[:2], float(place[2])
    if kind == "round":
        return disc(centre, short)
    if kind == "oval":
        return oval(centre, long, short, turn)
    return box(centre, 2.0 * long, 2.0 * short, turn + _TURN.get(kind, 0.0), 0.3 * short)


def _array(
    rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None, layout: str, sunk: bool
) -> Surface:
    """Equal parts in a regular order on a plate; one is missing, misplaced or too many."""
    places = _places(style, layout)
    gap = float(np.sort(np.hypot(*(places[:, None, :2] - places[None, :, :2]).transpose(2, 0, 1)), axis=1)[:, 1].min())
    kind = "bar" if layout == "row" else str(style.choice(["round", "oval", "square", "diamond", "bar"]))
    short = gap * style.uniform(0.22, 0.36)
    long = style.uniform(40.0, 80.0) if layout == "row" else short * style.uniform(1.05, 1.35)
    if layout == "row":
        places, kind = np.add(places, (0.0, 0.0, np.pi / 2)), "bar"
    pose = sample_pose(rng, np.pi, 8.0, 0.08)
    surface = bench(rng, size, tuple(_colour(style, 0.35, 0.7)))
    outline = disc((0.0, 0.0), 112.0) if layout == "ring" else box((0.0, 0.0), 216.0, 212.0, 0.0, style.uniform(2, 30))
    plate = cover(size, [outline], [], pose)
    sheet = shaded(_colour(style), 1.0 + 0.03 * fractal(rng, size, style.uniform(3.0, 20.0), 2))
    lay(surface, plate.alpha, sheet, 5.0 + 2.0 * smooth(0.0, 4.0, plate.depth), style.uniform(0.0, 0.3))
    jitter = rng.normal(0.0, 1.0, places.shape) * (0.012 * gap, 0.012 * gap, 0.02)
    shapes = [_part(kind, long, short, place) for place in places + jitter]
    if edit:
        touched = _edited(edit, shapes, places, (kind, long, short, gap), pose)
        surface.changed = inside(size, touched, pose, 1.0)
    parts = cover(size, shapes, [], pose)
    rough = field(rng, size, 3.0)
    depth = np.clip(parts.depth / max(short, 1.0), 0.0, 1.0)
    tone = _colour(style) * (0.6 if sunk else 1.0)
    height = 2.0 - 3.0 * depth if sunk else 7.0 + style.uniform(1.0, 6.0) * np.sqrt(depth)
    paint = shaded(tone * rng.uniform(0.92, 1.08), 1.0 + 0.02 * rough)
    lay(surface, parts.alpha, paint, height + 0.1 * rough, 0.0 if sunk else style.uniform(0.0, 0.35))
    return surface


def _edited(
    edit: Edit, shapes: list[np.ndarray], places: np.ndarray, form: tuple[str, float, float, float], pose: Pose
) -> list[np.ndarray]:
    """Change one part in place; returns the outlines of what changed."""
    kind, long, short, gap = form
    near = [i for i, place in enumerate(places) if np.abs(pose.place(place[None, :2])).max() < SIDE / 2 - 22.0]
    victim = int(edit.rng.choice(near or list(range(len(places)))))
    if edit.kind == "missing":
        return [shapes.pop(victim)]
    away = edit.rng.uniform(0.0, 2.0 * np.pi)
    far = gap * (0.5 if edit.kind == "extra" else edit.rng.uniform(0.16, 0.3))
    lean = edit.rng.choice([-1.0, 1.0]) * edit.rng.uniform(0.0, 0.7)
    moved = _part(kind, long, short, places[victim] + (far * np.cos(away), far * np.sin(away), lean))
    if edit.kind == "extra":
        shapes.append(moved)
        return [moved]
    old, shapes[victim] = shapes[victim], moved
    return [old, moved]


def tray(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """Caps in rows on a tray."""
    return _array(rng, style, size, edit, "raster", sunk=False)


def panel(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """A panel with holes in rows."""
    return _array(rng, style, size, edit, "raster", sunk=True)


def rosette(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """Studs in a ring on a disc."""
    return _array(rng, style, size, edit, "ring", sunk=bool(style.random() < 0.4))


def rack(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """Bars side by side on a board."""
    return _array(rng, style, size, edit, "row", sunk=False)


def paving(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """Stones in rows with joints; one is missing or misplaced."""
    wide, tall = style.uniform(28.0, 64.0), style.uniform(22.0, 40.0)
    joint, slip = style.uniform(2.0, 5.0), style.choice([0.0, 0.33, 0.5])
    pose = sample_pose(rng, np.pi, 12.0, 0.08)
    surface = flat(size, _colour(style, 0.2, 0.5), 0.0)
    surface.albedo *= rgb(1.0 + 0.06 * fractal(rng, size, 5.0, 2))
    columns, rows = (
        range(-int(190 // wide) - 1, int(190 // wide) + 2),
        range(-int(190 // tall) - 1, int(190 // tall) + 2),
    )
    places = np.array([((i + slip * (j % 2)) * wide, j * tall, 0.0) for j in rows for i in columns])
    shapes = [box(p[:2], wide - joint, tall - joint, rng.normal(0.0, 0.012), style.uniform(0.0, 4.0)) for p in places]
    if edit:
        spots = np.abs(pose.place(places[:, :2])).max(axis=1) < SIDE / 2 - 26.0
        victim = int(edit.rng.choice(np.flatnonzero(spots)))
        old = shapes.pop(victim)
        touched = [old]
        if edit.kind == "misplaced":
            lean = edit.rng.choice([-1.0, 1.0]) * edit.rng.uniform(0.12, 0.3)
            at = places[victim, :2] + edit.rng.uniform(-4.0, 4.0, 2)
            shapes.append(box(at, wide - joint, tall - joint, lean, 1.0))
            touched.append(shapes[-1])
        surface.changed = inside(size, touched, pose, 1.0)
    stones = cover(size, shapes, [], pose)
    u, v = pose.frame(size)
    row = np.floor(v / tall + 0.5)
    column = np.floor(u / wide - slip * (row % 2) + 0.5)
    tones = style.normal(1.0, style.uniform(0.0, 0.06), 997)[(row * 31 + column).astype(np.int64) % 997]
    rough = fractal(rng, size, style.uniform(3.0, 20.0), 3)
    paint = shaded(_colour(style), tones * (1.0 + 0.04 * rough))
    height = style.uniform(1.5, 4.0) * smooth(0.0, 3.0, stones.depth) + style.uniform(0.0, 0.3) * rough
    lay(surface, stones.alpha, paint, height, style.uniform(0.0, 0.3))
    return surface
