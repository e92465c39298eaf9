"""Textures that are spun, woven, grown or tanned: fabric, corduroy, wire mesh, leather."""

import math

import cv2
import numpy as np

from datamodules.components.rendering.noise import SIDE, blurred, field, fractal, grain, grid, pick, rgb, shaded, smooth
from datamodules.components.rendering.surface import Edit, Pose, Surface, flat, lay, tinted


def _cloth_frame(rng: np.random.Generator, size: int, turn: float, sway: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (u, v) in units of a sheet that lies a little turned and not quite straight."""
    pose = Pose(float(rng.uniform(-turn, turn)), float(rng.uniform(0.95, 1.06)))
    u, v = pose.frame(size)
    start = rng.uniform(0.0, 60.0, 2).astype(np.float32)
    return u + sway * field(rng, size, 95.0) + start[0], v + sway * field(rng, size, 95.0) + start[1]


def _spot(edit: Edit, reach: float) -> tuple[float, float]:
    """Place of a change: (x, y) within +-`reach` units of the centre."""
    x, y = edit.rng.uniform(-reach, reach, 2)
    return float(x), float(y)


def _pixel(x: float, y: float, size: int) -> tuple[int, int]:
    """Row and column of a place in units."""
    return int((y / SIDE + 0.5) * size), int((x / SIDE + 0.5) * size)


def _patch(edit: Edit, size: int, radius: tuple[float, float]) -> np.ndarray:
    """A roundish region as soft weights (H, W) in [0, 1]."""
    at, (x, y) = grid(size), _spot(edit, 72.0)
    far = np.hypot(at.x - x, at.y - y) / edit.rng.uniform(*radius)
    return smooth(1.06, 0.94, far + 0.12 * field(edit.rng, size, 30.0))


def fabric(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """A twill of coarse yarn; `missing` leaves out a stretch of one yarn, `direction` turns the twill in a patch."""
    pitch, slant = style.uniform(8.6, 10.4), int(style.choice([-1, 1]))
    base = tinted(rng, (0.46, 0.45, 0.43) if style.random() < 0.5 else (0.40, 0.44, 0.50), 0.08)
    u, v = _cloth_frame(rng, size, 0.09, 2.2)
    u, v = u / pitch + 0.07 * field(rng, size, (14.0, 8.0)), v / pitch + 0.07 * field(rng, size, (8.0, 14.0))
    warp, weft = np.floor(u), np.floor(v)
    lean = np.full_like(u, slant)
    surface = flat(size, base, 0.02)
    if edit and edit.kind == "direction":
        turned = _patch(edit, size, (26.0, 36.0))
        lean = np.where(turned > 0.5, -lean, lean)
        surface.changed = turned > 0.5
    across_u, across_v = 1.0 - np.square(2 * (u - warp) - 1), 1.0 - np.square(2 * (v - weft) - 1)
    loose = rng.normal(0.0, 0.15, (2, 61)).astype(np.float32)
    over_u = across_u * 1.5 + 1.25 * np.cos(np.pi / 2 * (v - 1.0 - lean * warp)) + pick(loose[0], warp)
    over_v = across_v * 1.5 - 1.25 * np.cos(np.pi / 2 * (weft - lean * (u - 0.5) - 0.5)) + pick(loose[1], weft)
    if edit and edit.kind == "missing":
        x, y = _spot(edit, 80.0)
        gone = (weft == weft[_pixel(x, y, size)]) & (np.abs(grid(size).x - x) < edit.rng.uniform(24.0, 40.0))
        over_v = np.where(gone, -3.0, over_v)
        over_u = np.where(gone, 0.8 * over_u - 1.7, over_u)
        surface.changed = gone
    height = np.maximum(over_u, over_v)
    tone = np.where(over_u > over_v, pick(rng.normal(1.05, 0.035, 61), warp), pick(rng.normal(0.87, 0.035, 67), weft))
    fibre = np.where(over_u > over_v, field(rng, size, (9.0, 1.6)), field(rng, size, (1.6, 9.0)))
    tone = tone * (1.0 + 0.035 * fibre + 0.02 * field(rng, size, 60.0)) * (0.80 + 0.09 * np.clip(height, -1.5, 2.6))
    surface.albedo *= rgb(tone)
    surface.height = (0.9 * height + 0.12 * fibre).astype(np.float32)
    return surface


def corduroy(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """Ribs of pile; `missing` wears one rib down, `direction` sews in a patch whose ribs run askew."""
    pitch, turn = style.uniform(11.5, 14.0), style.uniform(-0.5, 0.5)
    base = tinted(rng, (0.45, 0.37, 0.30) if style.random() < 0.5 else (0.35, 0.38, 0.33), 0.08)
    pose = Pose(float(turn + rng.uniform(-0.08, 0.08)), float(rng.uniform(0.94, 1.06)))
    u, v = pose.frame(size)
    surface = flat(size, base, 0.015)
    if edit and edit.kind == "direction":
        patch = _patch(edit, size, (22.0, 32.0)) > 0.5
        askew = float(edit.rng.choice([-1.0, 1.0])) * edit.rng.uniform(0.5, 0.9)
        u = np.where(patch, math.cos(askew) * u + math.sin(askew) * v, u)
        surface.changed = patch
    u = u + 1.6 * field(rng, size, 90.0) + 0.28 * field(rng, size, 14.0) + rng.uniform(0.0, pitch)
    rib = np.floor(u / pitch)
    crown = np.sqrt(np.maximum(1.0 - np.square(2.0 * (u / pitch - rib) - 1.0), 0.0))
    crown = crown * (1.0 + pick(rng.normal(0.0, 0.05, 53).astype(np.float32), rib))
    pile = field(rng, size, 2.0) + 0.6 * field(rng, size, 4.5) + 0.6 * grain(rng, size, pose.angle, (1.5, 5.0))
    if edit and edit.kind == "missing":
        here = _pixel(*_spot(edit, 80.0), size)
        worn = (rib == rib[here]) * smooth(1.1, 0.8, np.abs(v - v[here]) / edit.rng.uniform(24.0, 36.0))
        crown = crown * (1.0 - 0.75 * worn)
        surface.changed = worn > 0.3
    shade = 0.70 + 0.33 * crown + 0.045 * pile + 0.035 * fractal(rng, size, 70.0, 2)
    surface.albedo *= rgb(np.clip(shade, 0.3, 1.3))
    surface.height = (4.2 * crown + 0.28 * pile).astype(np.float32)
    return surface


def mesh(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """A woven wire screen over a dull floor; `missing` breaks a wire, `bent` pushes one aside."""
    pitch, bar = style.uniform(15.0, 19.0), style.uniform(0.15, 0.19)
    pose = Pose(float(style.uniform(-0.4, 0.4) + rng.uniform(-0.12, 0.12)), float(rng.uniform(0.93, 1.07)))
    u, v = pose.frame(size)
    u = (u + 1.3 * field(rng, size, 80.0)) / pitch + rng.uniform(0.0, 1.0)
    v = (v + 1.3 * field(rng, size, 80.0)) / pitch + rng.uniform(0.0, 1.0)
    surface = flat(size, tinted(rng, (0.33, 0.33, 0.34), 0.12), 0.0)
    surface.albedo *= rgb(1.0 + 0.05 * fractal(rng, size, 20.0, 3))
    row = np.floor(v)
    sway = rng.normal(0.0, 0.035, (2, 41)).astype(np.float32)
    push, gone = np.zeros_like(u), np.zeros_like(u)
    if edit:
        here = _pixel(*_spot(edit, 74.0), size)
        on_wire = row == row[here]
        if edit.kind == "bent":
            amount = float(edit.rng.choice([-1.0, 1.0])) * edit.rng.uniform(0.38, 0.46)
            push = amount * np.exp(-np.square((u - u[here]) / 0.75)) * on_wire
            surface.changed = np.abs(push) > 0.06
        else:
            gone = smooth(0.72, 0.62, np.abs(u - np.floor(u[here]) - 0.5)) * on_wire
            surface.changed = (gone > 0.4) & (np.abs(v - row - 0.5) < bar * 1.25)
    _lay_wires(surface, rng, u, v, np.abs(u - np.floor(u) - 0.5 - pick(sway[0], np.floor(u))) / bar, 0.0)
    far = np.abs(v - row - 0.5 - pick(sway[1], row) - push) / bar
    _lay_wires(surface, rng, v, u, far + 4.0 * gone, 1.0)
    surface.body = np.ones_like(surface.body)
    return surface


def _lay_wires(
    surface: Surface, rng: np.random.Generator, place: np.ndarray, other: np.ndarray, far: np.ndarray, phase: float
) -> None:
    """The wires of one direction, over and under those of the other; `far` is the distance in half widths."""
    wave = np.cos(np.pi * (np.floor(other) + np.floor(place) + phase)) * np.abs(np.sin(np.pi * other))
    level = 5.0 + 2.6 * np.sqrt(np.maximum(1.0 - far * far, 0.0)) + 1.1 * wave
    alpha = smooth(1.12, 0.9, far) * (level > surface.height)
    steel = shaded(tinted(rng, (0.56, 0.56, 0.57), 0.04), 1.0 + 0.05 * field(rng, len(place), 5.0))
    lay(surface, alpha, steel, level, 0.35)


def leather(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """Pebbled hide: domes around scattered points with creases between them."""
    wave, base = style.uniform(7.5, 9.5), tinted(style, (0.41, 0.30, 0.23), 0.15, 0.03)
    dome = 1.0 - np.square(_to_nearest(rng, size, wave) / (0.62 * wave))
    swell, pores = fractal(rng, size, 60.0, 2), field(rng, size, 2.0)
    surface = flat(size, tinted(rng, (base[0], base[1], base[2]), 0.08), 0.10 * rng.uniform(0.7, 1.5))
    surface.albedo *= rgb(0.93 + 0.10 * np.clip(dome, -0.8, 1.0) + 0.025 * swell + 0.012 * pores)
    surface.height = blurred((1.5 * np.clip(dome, -0.9, 1.0) + 1.1 * swell + 0.09 * pores).astype(np.float32), 0.5)
    return surface


def _to_nearest(rng: np.random.Generator, size: int, wave: float) -> np.ndarray:
    """Distance (H, W) in units to the nearest of points scattered about `wave` units apart, bent a little."""
    count = int(SIDE / wave)
    spots = np.array([(i, j) for j in range(count) for i in range(count)]) + 0.5
    spots = (spots + rng.uniform(-0.48, 0.48, spots.shape)) * (size / count)
    column, row = np.clip(spots.astype(np.int64), 0, size - 1).T
    points = np.full((size, size), 255, np.uint8)
    points[row, column] = 0
    far = cv2.distanceTransform(points, cv2.DIST_L2, 5) * np.float32(SIDE / size)
    line = np.arange(size, dtype=np.float32)
    bend = np.float32(2.2 * size / SIDE)
    across = line[None, :] + bend * field(rng, size, 13.0)
    down = line[:, None] + bend * field(rng, size, 13.0)
    return cv2.remap(far, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
