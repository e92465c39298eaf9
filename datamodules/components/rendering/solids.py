"""Textures that are sawn, rolled, cast or fired: wood, brushed metal, terrazzo, tiles."""

import numpy as np

from datamodules.components.rendering.noise import SIDE, field, fractal, grain, grid, mix, pick, rgb, shaded, smooth
from datamodules.components.rendering.surface import (
    Coverage,
    Edit,
    Pose,
    Surface,
    box,
    cover,
    disc,
    flat,
    inside,
    lay,
    tinted,
)


def wood(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """A planed board with year rings, pores and now and then a knot."""
    dark, light = tinted(style, (0.46, 0.34, 0.24), 0.1), tinted(style, (0.66, 0.53, 0.39), 0.06)
    pose = Pose(float(rng.uniform(-0.12, 0.12)), float(rng.uniform(0.85, 1.2)))
    u, v = pose.frame(size)
    ring = u / rng.uniform(13.0, 19.0) + 1.1 * field(rng, size, (190.0, 60.0)) + 0.10 * field(rng, size, (40.0, 9.0))
    knots = np.zeros_like(u)
    for _ in range(int(rng.random() < 0.45)):
        x, y = rng.uniform(-105.0, 105.0, 2)
        far = np.hypot((u - x) * 1.2, (v - y) * 0.55) / rng.uniform(5.0, 9.0)
        ring = ring + 1.6 * np.exp(-0.12 * far * far) * np.sign(u - x + 0.01)
        knots = smooth(1.3, 0.6, far + 0.1 * field(rng, size, 10.0))
    phase = ring - np.floor(ring)
    late = smooth(0.25, 0.93, phase) * smooth(1.0, 0.93, phase)
    late = late * (0.75 + pick(rng.normal(0.0, 0.18, 41), np.floor(ring)))
    fibre = grain(rng, size, pose.angle + np.pi / 2, (1.6, 46.0))
    pores = smooth(1.25, 2.1, grain(rng, size, pose.angle + np.pi / 2, (1.9, 13.0)))
    shade = np.clip(0.62 * late + 0.10 * fibre + 0.7 * knots + 0.10 * fractal(rng, size, 80.0, 2), 0.0, 1.1)
    surface = flat(size, light, 0.05)
    tone = np.float32(rng.uniform(0.9, 1.06))
    surface.albedo = (shaded(light, 1.0 - shade) + shaded(dark, shade)) * rgb((1.0 - 0.16 * pores) * tone)
    surface.height = (0.22 * fibre - 0.9 * pores + 0.25 * late - 0.5 * knots).astype(np.float32)
    return surface


def metal(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """Rolled and brushed sheet; `direction` brushes a patch the wrong way."""
    lay_angle = style.uniform(-0.6, 0.6) + rng.uniform(-0.10, 0.10)

    def brushed(angle: float, source: np.random.Generator) -> np.ndarray:
        return grain(source, size, angle, (1.3, 60.0)) + 0.8 * grain(source, size, angle, (2.6, 120.0))

    streak = brushed(lay_angle, rng)
    band = grain(rng, size, lay_angle, (34.0, 240.0))
    surface = flat(size, tinted(rng, (0.50, 0.505, 0.515), 0.07), 0.34)
    if edit and edit.kind == "direction":
        at = grid(size)
        x, y = edit.rng.uniform(-70.0, 70.0, 2)
        far = np.hypot((at.x - x) * edit.rng.uniform(0.8, 1.2), at.y - y) / edit.rng.uniform(19.0, 26.0)
        turned = smooth(1.12, 0.85, far + 0.06 * field(edit.rng, size, 20.0))
        angle = lay_angle + edit.rng.choice([-1.0, 1.0]) * edit.rng.uniform(0.7, 1.2)
        streak = mix(streak, brushed(angle, edit.rng), turned)
        surface.changed = turned > 0.3
    surface.albedo *= rgb(1.0 + 0.055 * streak + 0.035 * band)
    surface.height = (0.16 * streak + 0.12 * fractal(rng, size, 60.0, 2)).astype(np.float32)
    surface.gloss = np.clip(surface.gloss * (1.0 + 0.12 * streak), 0.0, 1.0)
    return surface


def _stone(rng: np.random.Generator, radius: float) -> np.ndarray:
    """A broken piece: a polygon (n, 2) about the origin with uneven sides."""
    shape = rng.uniform(0.0, 1.0, (2, int(rng.integers(5, 9))))
    turn, reach = np.sort(shape[0]) * 2.0 * np.pi, radius * (0.65 + 0.45 * shape[1])
    return np.stack([reach * np.cos(turn), reach * np.sin(turn)], axis=1)


def terrazzo(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """Stone chips of several tones cast in cement and ground flat."""
    cement = tinted(style, (0.62, 0.61, 0.585), 0.06)
    tones = [tinted(style, colour, 0.08) for colour in ((0.42, 0.41, 0.40), (0.74, 0.71, 0.67), (0.52, 0.44, 0.39))]
    surface = flat(size, cement * np.float32(rng.uniform(0.93, 1.05)), 0.09)
    surface.albedo *= rgb(1.0 + 0.022 * fractal(rng, size, 6.0, 2) + 0.02 * field(rng, size, 70.0))
    vein = 1.0 + 0.05 * fractal(rng, size, 9.0, 3)
    for tone in tones:
        radii = np.minimum(2.2 + rng.gamma(2.0, 2.0, int(rng.integers(75, 95))), 15.0)
        places = rng.uniform(-SIDE / 2, SIDE / 2, (len(radii), 2))
        layer = cover(size, [_stone(rng, radius) + place for radius, place in zip(radii, places, strict=True)])
        lay(surface, layer.alpha, shaded(tone, vein * (1.0 + 0.10 * field(rng, size, 16.0))), 0.0, 0.13)
    surface.height = 0.10 * field(rng, size, 3.0) + 0.25 * field(rng, size, 90.0)
    return surface


def tiles(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """Glazed tiles in grout; `misplaced` lays one crooked, `missing` breaks off a corner."""
    pitch, gap, count = style.uniform(46.0, 56.0), style.uniform(3.6, 4.8), 8
    colour, width = tinted(style, (0.60, 0.63, 0.64), 0.08, 0.02), pitch - gap
    pose = Pose(float(rng.uniform(-0.10, 0.10)), float(rng.uniform(0.94, 1.06)))
    surface = flat(size, tinted(rng, (0.47, 0.46, 0.45), 0.07), 0.0)
    surface.albedo *= rgb(1.0 + 0.05 * field(rng, size, 2.0) + 0.04 * field(rng, size, 12.0))
    surface.height = 0.25 * field(rng, size, 2.0)
    first = rng.uniform(0.0, pitch, 2)
    raster = np.array([(i, j) for j in range(count) for i in range(count)]) - count / 2
    centres = raster * pitch + first + rng.normal(0.0, 0.5, raster.shape)
    lean, turns = rng.normal(0.0, 0.006, raster.shape), rng.normal(0.0, 0.008, len(raster))
    tone = rng.normal(1.0, 0.035, len(raster)).astype(np.float32)
    lost: list[np.ndarray] = []
    if edit:
        near = np.flatnonzero(np.abs(pose.place(centres)).max(axis=1) < 86.0)
        victim = int(edit.rng.choice(near))
        old = box(centres[victim], width, width, turns[victim])
        if edit.kind == "missing":
            corner = old[int(edit.rng.integers(4))]
            lost = [_stone(edit.rng, edit.rng.uniform(13.0, 17.0)) + corner, disc(corner, 9.0)]
            surface.changed = inside(size, [old], pose) & inside(size, lost, pose, 1.0)
        else:
            turns[victim] = float(edit.rng.choice([-1.0, 1.0])) * edit.rng.uniform(0.075, 0.10)
            surface.changed = inside(size, [old, box(centres[victim], width, width, turns[victim])], pose, 1.0)
    shapes = [box(centre, width, width, turn) for centre, turn in zip(centres, turns, strict=True)]
    layer = cover(size, shapes, [], pose)
    if lost:  # the neighbours keep their corners
        broken, others = cover(size, [old], lost, pose), cover(size, shapes, [old], pose)
        layer = Coverage(*(np.maximum(a, b) for a, b in zip(broken, others, strict=True)))
    u, v = pose.frame(size)
    column, row = np.floor((u - first[0]) / pitch + 0.5), np.floor((v - first[1]) / pitch + 0.5)
    index = np.clip((row + count / 2) * count + column + count / 2, 0, len(raster) - 1).astype(np.int64)
    glaze = shaded(colour, tone[index] * (1.0 + 0.018 * fractal(rng, size, 24.0, 3)))
    height = 2.6 * smooth(0.0, 2.6, layer.depth) + lean[index, 0] * u + lean[index, 1] * v
    lay(surface, layer.alpha, glaze, height + 0.12 * field(rng, size, 18.0), 0.20)
    return surface
