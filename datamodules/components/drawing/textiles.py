"""Textures that are spun, woven, grown or tanned: fabric, corduroy, wire mesh, leather."""

import cv2
import numpy as np

from datamodules.components.drawing.noise import SIDE, blurred, field, fractal, grain, grid, pick, smooth
from datamodules.components.drawing.surface import Edit, Pose, Surface, flat, lay, tinted


def _cloth_frame(rng: np.random.Generator, size: int, turn: float, sway: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (u, v) in units of a sheet that lies a little turned and not quite straight."""
    pose = Pose(float(rng.uniform(-turn, turn)), float(rng.uniform(0.95, 1.06)))
    u, v = pose.frame(size)
    return u + sway * field(rng, size, 95.0) + rng.uniform(0, 60), v + sway * field(rng, size, 95.0) + rng.uniform(0, 60)


def _spot(edit: Edit, reach: float) -> tuple[float, float]:
    """Where a change is made: (x, y) within +-`reach` units of the centre."""
    x, y = edit.rng.uniform(-reach, reach, 2)
    return float(x), float(y)


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
    u, v = u / pitch + 0.10 * field(rng, size, (14.0, 8.0)), v / pitch + 0.10 * field(rng, size, (8.0, 14.0))
    warp, weft = np.floor(u), np.floor(v)
    lean = np.full_like(u, slant)
    surface = flat(size, base, 0.02)
    if edit and edit.kind == "direction":
        turned = _patch(edit, size, (22.0, 30.0))
        lean = np.where(turned > 0.5, -lean, lean)
        surface.changed = turned > 0.5
    across_u, across_v = 1.0 - np.square(2 * (u - warp) - 1), 1.0 - np.square(2 * (v - weft) - 1)
    loose = rng.normal(0.0, 0.22, (2, 61)).astype(np.float32)
    over_u = across_u * 1.5 + 1.25 * np.cos(np.pi / 2 * (v - 1.0 - lean * warp)) + pick(loose[0], warp)
    over_v = across_v * 1.5 - 1.25 * np.cos(np.pi / 2 * (weft - lean * (u - 0.5) - 0.5)) + pick(loose[1], weft)
    if edit and edit.kind == "missing":
        x, y = _spot(edit, 80.0)
        at = grid(size)
        row = weft[int((y / SIDE + 0.5) * size), int((x / SIDE + 0.5) * size)]
        gone = (weft == row) & (np.abs(at.x - x) < edit.rng.uniform(24.0, 40.0))
        over_v = np.where(gone, -3.0, over_v)
        over_u = np.where(gone, 0.75 * over_u - 0.9, over_u)
        surface.changed = gone
    height = np.maximum(over_u, over_v)
    tone = np.where(over_u > over_v, pick(rng.normal(1.0, 0.045, 61), warp), pick(rng.normal(0.97, 0.045, 67), weft))
    fibre = np.where(over_u > over_v, field(rng, size, (9.0, 1.6)), field(rng, size, (1.6, 9.0)))
    tone = tone * (1.0 + 0.035 * fibre + 0.02 * field(rng, size, 60.0)) * (0.80 + 0.09 * np.clip(height, -1.5, 2.6))
    surface.albedo *= tone.astypergb(np.float32)
    surface.height = (0.9 * height + 0.12 * fibre).astype(np.float32)
    return surface


def corduroy(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """Ribs of pile; `missing` wears one rib down, `direction` brushes the ribs askew in a patch."""
    pitch, turn = style.uniform(11.0, 14.0), style.uniform(-0.5, 0.5)
    base = tinted(rng, (0.45, 0.37, 0.30) if style.random() < 0.5 else (0.35, 0.38, 0.33), 0.08)
    pose = Pose(float(turn + rng.uniform(-0.08, 0.08)), float(rng.uniform(0.94, 1.06)))
    u, v = pose.frame(size)
    u = u + 1.6 * field(rng, size, 90.0) + 0.45 * field(rng, size, 14.0) + rng.uniform(0.0, pitch)
    surface = flat(size, base, 0.015)
    if edit and edit.kind == "direction":
        turned = _patch(edit, size, (20.0, 28.0))
        u = u + turned * 0.36 * pitch
        surface.changed = turned > 0.15
    rib = np.floor(u / pitch)
    crown = 1.0 - np.square(2.0 * (u / pitch - rib) - 1.0)
    crown = np.sqrt(np.maximum(crown, 0.0)) * (1.0 + pick(rng.normal(0.0, 0.05, 53), rib))
    pile = field(rng, size, 2.0) + 0.8 * field(rng, size, 4.5) + 0.6 * grain(rng, size, pose.angle, (1.5, 5.0))
    if edit and edit.kind == "missing":
        x, y = _spot(edit, 80.0)
        at = grid(size)
        row, column = int((y / SIDE + 0.5) * size), int((x / SIDE + 0.5) * size)
        along = np.abs(v - v[row, column]) / edit.rng.uniform(22.0, 34.0)
        worn = (rib == rib[row, column]) * smooth(1.1, 0.8, along + 0.0 * at.x)
        crown = crown * (1.0 - 0.62 * worn)
        surface.changed = worn > 0.3
    shade = 0.70 + 0.33 * crown + 0.05 * pile + 0.035 * fractal(rng, size, 70.0, 2)
    surface.albedo *= np.cliprgb(shade, 0.3, 1.3)
    surface.height = (4.2 * crown + 0.34 * pile).astype(np.float32)
    return surface


def mesh(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """A woven wire screen over a dull floor; `missing` breaks a wire, `bent` pushes one aside."""
    pitch, bar = style.uniform(15.0, 19.0), style.uniform(0.15, 0.19)
    pose = Pose(float(style.uniform(-0.4, 0.4) + rng.uniform(-0.12, 0.12)), float(rng.uniform(0.93, 1.07)))
    u, v = pose.frame(size)
    u = (u + 1.3 * field(rng, size, 80.0)) / pitch + rng.uniform(0.0, 1.0)
    v = (v + 1.3 * field(rng, size, 80.0)) / pitch + rng.uniform(0.0, 1.0)
    at, off = grid(size), (np.float32(0.0), np.float32(0.0))
    surface = flat(size, tinted(rng, (0.33, 0.33, 0.34), 0.12), 0.0)
    surface.albedo *= rgb(1.0 + 0.05 * fractal(rng, size, 20.0, 3))
    jitter = rng.normal(0.0, 0.035, (2, 41)).astype(np.float32)
    column, row = np.floor(u), np.floor(v)
    gone = np.zeros_like(u)
    if edit:
        x, y = _spot(edit, 74.0)
        where = int((y / SIDE + 0.5) * size), int((x / SIDE + 0.5) * size)
        near = np.abs(u - np.floor(u[where]) - 0.5)
        if edit.kind == "bent":
            push = edit.rng.choice([-1.0, 1.0]) * edit.rng.uniform(0.30, 0.36)
            bump = np.exp(-(((u - u[where]) / 0.75) ** 2)) * (row == row[where])
            off = (np.float32(0.0), (push * bump).astype(np.float32))
            surface.changed = (np.abs(off[1]) > 0.06) & (np.abs(v - row[where] - 0.5) < 0.62)
        elif edit.kind == "missing":
            gone = smooth(0.62, 0.52, near) * (row == row[where])
            surface.changed = (gone > 0.4) & (np.abs(v - row - 0.5) < bar * 1.25)
    for line, place, other, sway, phase, shift in (
        (column, u, v, jitter[0], 0.0, off[0]),
        (row, v, u, jitter[1], 1.0, off[1]),
    ):
        far = np.abs(place - line - 0.5 - pick(sway, line) - shift) / bar
        wave = np.cos(np.pi * (np.floor(other) + line + phase)) * np.abs(np.sin(np.pi * other))
        round_top = np.sqrt(np.maximum(1.0 - far * far, 0.0))
        level = 5.0 + 2.6 * round_top + 1.1 * wave
        alpha = smooth(1.12, 0.9, far) * (level > surface.height)
        alpha = alpha * (1.0 - gone) if phase == 1.0 else alpha
        steel = tinted(rng, (0.56, 0.56, 0.57), 0.04) * (1.0 + 0.05 * fieldrgb(rng, size, 5.0))
        lay(surface, alpha.astype(np.float32), steel, level, 0.35)
    surface.body = np.ones_like(surface.body)
    return surface


def leather(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """Pebbled hide: domes around scattered points with creases between them."""
    wave, base = style.uniform(7.5, 9.5), tinted(style, (0.41, 0.30, 0.23), 0.15, 0.03)
    fine = max(size, 64)
    count = int(SIDE / wave)
    spots = (np.stack(np.meshgrid(np.arange(count), np.arange(count)), -1).reshape(-1, 2) + 0.5) * (fine / count)
    spots = spots + rng.uniform(-0.48, 0.48, spots.shape) * (fine / count)
    seeds = np.full((fine, fine), 255, np.uint8)
    column, row = np.clip(spots.astype(np.int64), 0, fine - 1).T
    seeds[row, column] = 0
    near = cv2.distanceTransform(seeds, cv2.DIST_L2, 5) * (SIDE / fine)
    at = grid(fine)
    bend = 2.2 * field(rng, fine, 13.0), 2.2 * field(rng, fine, 13.0)
    to_pixel = np.float32(fine / SIDE)
    near = cv2.remap(
        near,
        (at.x + bend[0] + SIDE / 2) * to_pixel,
        (at.y + bend[1] + SIDE / 2) * to_pixel,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    near = cv2.resize(near, (size, size), interpolation=cv2.INTER_AREA) if fine != size else near
    dome = 1.0 - np.square(near / (0.62 * wave))
    swell = fractal(rng, size, 60.0, 2)
    pores = field(rng, size, 2.0)
    surface = flat(size, tinted(rng, (float(base[0]), float(base[1]), float(base[2])), 0.08), 0.10)
    tone = 0.93 + 0.10 * np.clip(dome, -0.8, 1.0) + 0.025 * swell + 0.012 * pores
    surface.albedo *= tone[..., None]
    surface.height = blurred((1.5 * np.clip(dome, -0.9, 1.0) + 1.1 * swell + 0.09 * pores).astype(np.float32), 0.5)
    surface.gloss = surface.gloss * np.float32(rng.uniform(0.7, 1.5))
    return surface


