"""Objects put together from repeated parts: a zip fastener, a blister pack, a keypad."""

import numpy as np

from datamodules.components.rendering.hardware import bench
from datamodules.components.rendering.noise import Grid, blurred, field, fractal, mix, rgb, shaded, smooth
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
    ribbon,
    sample_pose,
    tinted,
    turned,
)

_W, _H = 5.2, 8.0  # half width and half height of a printed figure, units
_STROKES = {
    "a": ((-_W, -_H), (_W, -_H)),
    "b": ((_W, -_H), (_W, 0)),
    "c": ((_W, 0), (_W, _H)),
    "d": ((-_W, _H), (_W, _H)),
    "e": ((-_W, 0), (-_W, _H)),
    "f": ((-_W, -_H), (-_W, 0)),
    "g": ((-_W, 0), (_W, 0)),
}
_FIGURES = ("abcdef", "bc", "abdeg", "abcdg", "bcfg", "acdfg", "acdefg", "abc", "abcdefg", "abcdfg")  # 0 to 9


def zipper(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """Two tapes and their teeth; `missing` loses a tooth, `bent` turns one out of its row."""
    pitch, reach = style.uniform(10.5, 12.5), style.uniform(17.0, 20.0)
    base = tinted(style, (0.36, 0.37, 0.40), 0.12, 0.03)
    pose = sample_pose(rng, 0.16, 10.0, 0.06)
    surface = flat(size, base * np.float32(rng.uniform(0.9, 1.12)), 0.01)
    _weave_tapes(surface, rng, pose.frame(size))
    teeth = [(side, (row + 0.25 * side) * pitch + rng.normal(0.0, 0.25)) for side in (-1, 1) for row in range(-16, 17)]
    slips, turns = rng.normal(0.0, 0.35, len(teeth)), rng.normal(0.0, 0.02, len(teeth))

    def tooth(i: int) -> list[np.ndarray]:
        return _tooth(*teeth[i], slips[i], turns[i], reach, pitch)

    shown = list(range(len(teeth)))
    if edit:
        victim = int(edit.rng.choice([i for i, (_, at) in enumerate(teeth) if abs(at) < 84.0]))
        touched = tooth(victim)
        if edit.kind == "missing":
            shown.remove(victim)
        else:
            turns[victim] = float(edit.rng.choice([-1.0, 1.0])) * edit.rng.uniform(0.28, 0.40)
            slips[victim] = edit.rng.uniform(3.0, 5.0)
            touched += tooth(victim)
        surface.changed = inside(size, touched, pose, 1.0)
    layer = cover(size, [polygon for i in shown for polygon in tooth(i)], [], pose)
    brass = shaded(tinted(rng, (0.50, 0.485, 0.45), 0.07), 1.0 + 0.05 * fractal(rng, size, 7.0, 2))
    lay(surface, layer.alpha, brass, 5.0 + 2.4 * smooth(0.0, 2.6, layer.depth), 0.30)
    return surface


def _weave_tapes(surface: Surface, rng: np.random.Generator, at: Grid) -> None:
    size = len(surface.height)
    weave = np.cos(2.0 * np.pi * (at.x + np.abs(at.y % 7.0 - 3.5)) / 4.4)
    seam = smooth(2.2, 1.0, np.abs(np.abs(at.x) - 46.0))
    thread = field(rng, size, 2.4)
    surface.albedo *= rgb(1.0 + 0.05 * weave + 0.04 * thread + 0.02 * field(rng, size, 60.0) - 0.06 * seam)
    cord = np.sqrt(np.maximum(1.0 - np.square((np.abs(at.x) - 24.0) / 9.0), 0.0))
    surface.height = 0.35 * weave + 0.25 * thread + 3.2 * cord - 1.2 * seam - 2.0 * smooth(9.0, 5.0, np.abs(at.x))


def _tooth(side: int, at: float, slip: float, turn: float, reach: float, pitch: float) -> list[np.ndarray]:
    """One tooth: a bar from its tape past the middle, with a wider tip."""
    middle = side * (reach / 2 - 3.0 + slip)
    end = side * reach / 2
    tip = disc((middle - end * np.cos(turn), at - end * np.sin(turn)), pitch * 0.27, 16)
    return [box((middle, at), reach, pitch * 0.40, turn, 1.5), tip]


def blister(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """A foil pack of tablets; `missing` empties a pocket, `misplaced` lays a tablet across its pocket."""
    columns, rows = (4, 3) if style.random() < 0.5 else (3, 3)
    long, short = style.uniform(19.0, 21.5), style.uniform(14.5, 17.0)
    pill = tinted(style, (0.70, 0.685, 0.66), 0.04)
    pose = sample_pose(rng, 0.16, 6.0, 0.05)
    pose = pose._replace(scale=pose.scale * (1.0 if columns == 4 else 1.22))
    surface = bench(rng, size, (0.42, 0.43, 0.45))
    _foil(surface, rng, pose, columns * 51.0 + 12.0, rows * 47.0 + 14.0)
    raster = [(i, j) for i in range(columns) for j in range(rows)]
    spots = (np.array(raster) - ((columns - 1) / 2, (rows - 1) / 2)) * (50.0, 46.0)
    lies, turns = spots + rng.normal(0.0, 0.8, spots.shape), rng.normal(0.0, 0.10, len(spots))
    shown = list(range(len(spots)))
    if edit:
        victim = int(edit.rng.integers(len(spots)))
        if edit.kind == "missing":
            shown.remove(victim)
        else:
            turns[victim] = float(edit.rng.choice([-1.0, 1.0])) * edit.rng.uniform(0.9, 1.3)
        touched = [oval(spots[victim], long + 1.0, short + 1.0), oval(lies[victim], long, short, turns[victim])]
        surface.changed = inside(size, touched, pose, 1.0)
    pockets = cover(size, [oval(spot, long + 4.0, short + 4.0) for spot in spots], [], pose)
    rim = smooth(0.0, 2.0, pockets.depth) * smooth(7.0, 3.5, pockets.depth)
    height = 4.0 + 2.4 * rim - 2.0 * smooth(4.0, 8.0, pockets.depth)
    lay(surface, pockets.alpha, surface.albedo * np.float32(0.93), height, 0.36)
    pills = cover(size, [oval(lies[i], long, short, turns[i]) for i in shown], [], pose)
    chalk = shaded(pill * rng.uniform(0.95, 1.03), 1.0 + 0.012 * field(rng, size, 2.5))
    dome = 3.0 + 5.5 * np.sqrt(np.clip(pills.depth / 13.0, 0.0, 1.0)) + 0.12 * field(rng, size, 2.0)
    lay(surface, pills.alpha, chalk, dome, 0.10)
    surface.height = blurred(surface.height, 0.6)
    return surface


def _foil(surface: Surface, rng: np.random.Generator, pose: Pose, wide: float, tall: float) -> None:
    size = len(surface.height)
    foil = cover(size, [box((0.0, 0.0), wide, tall, 0.0, 12.0)], [], pose)
    x, y = pose.frame(size)
    knurl = np.cos(2.0 * np.pi * (x + y) / 5.0) * np.cos(2.0 * np.pi * (x - y) / 5.0)
    sheet = shaded(tinted(rng, (0.56, 0.565, 0.575), 0.06), 1.0 + 0.03 * fractal(rng, size, 20.0, 3))
    lay(surface, foil.alpha, sheet, 4.0 + 0.30 * knurl + 0.5 * fractal(rng, size, 35.0, 2), 0.30)


def _figure(which: int, centre: np.ndarray, turn: float, unprinted: str = "") -> list[np.ndarray]:
    """The strokes of a printed figure, less those in `unprinted`."""
    strokes = [np.array(_STROKES[name]) for name in _FIGURES[which] if name not in unprinted]
    return [ribbon(turned(stroke, turn) + centre, 2.4) for stroke in strokes]


def keypad(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """Keys in a frame; `misplaced` twists a key, `missing` leaves strokes of its figure unprinted, `sunken` jams it."""
    pitch = np.array([47.0, 45.0])
    rubber, case = tinted(style, (0.50, 0.50, 0.51), 0.10), tinted(style, (0.34, 0.345, 0.36), 0.12)
    figures = style.integers(0, 10, 16)
    pose = sample_pose(rng, 0.20, 7.0, 0.05)
    surface = bench(rng, size, (0.60, 0.59, 0.57))
    frame = cover(size, [box((0.0, 0.0), 4 * pitch[0] + 20.0, 4 * pitch[1] + 20.0, 0.0, 14.0)], [], pose)
    rough = field(rng, size, 2.2)
    shell = shaded(case * rng.uniform(0.9, 1.1), 1.0 + 0.02 * rough + 0.02 * fractal(rng, size, 40.0, 2))
    lay(surface, frame.alpha, shell, 9.0 + 3.0 * smooth(0.0, 5.0, frame.depth) + 0.18 * rough, 0.10)
    spots = np.array([(i - 1.5, j - 1.5) for j in range(4) for i in range(4)]) * pitch + rng.normal(0.0, 0.35, (16, 2))
    turns, lift, unprinted = rng.normal(0.0, 0.006, 16), rng.normal(5.0, 0.25, 16), [""] * 16
    if edit:
        victim = int(edit.rng.integers(16))
        touched = [box(spots[victim], 36.0, 32.0, turns[victim], 7.0)]
        if edit.kind == "misplaced":
            turns[victim] = float(edit.rng.choice([-1.0, 1.0])) * edit.rng.uniform(0.13, 0.19)
            touched.append(box(spots[victim], 36.0, 32.0, turns[victim], 7.0))
        elif edit.kind == "sunken":
            lift[victim] = edit.rng.uniform(-3.2, -2.4)
        else:
            unprinted[victim] = "".join(edit.rng.choice(list(_FIGURES[figures[victim]]), 2, replace=False))
            kept = _figure(figures[victim], spots[victim], turns[victim], unprinted[victim])
            touched = _figure(figures[victim], spots[victim], turns[victim])
        surface.changed = inside(size, touched, pose, 1.0)
        if edit.kind == "missing":
            surface.changed &= ~inside(size, kept, pose)
    keys = cover(size, [box(s, 36.0, 32.0, t, 7.0) for s, t in zip(spots, turns, strict=True)], [], pose)
    height = 12.0 + _key_tops(pose.frame(size), pitch, lift, keys.depth) + 0.10 * rough
    lay(surface, keys.alpha, shaded(rubber * rng.uniform(0.92, 1.08), 1.0 + 0.015 * rough), height, 0.08)
    strokes = [s for i, f in enumerate(figures) for s in _figure(f, spots[i], turns[i], unprinted[i])]
    ink = shaded(tinted(rng, (0.80, 0.80, 0.79), 0.03), np.ones_like(rough))
    surface.albedo = mix(surface.albedo, ink, 0.85 * cover(size, strokes, [], pose).alpha)
    return surface


def _key_tops(at: Grid, pitch: np.ndarray, lift: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Heights (H, W) of the keys' hollow tops over the frame."""
    column, row = at.x / pitch[0] + 1.5, at.y / pitch[1] + 1.5
    index = np.clip(np.round(row), 0, 3) * 4 + np.clip(np.round(column), 0, 3)
    hollow = np.square(column - np.round(column)) + np.square(row - np.round(row))
    tops = lift.astype(np.float32)[index.astype(np.int64)]
    return np.asarray(tops * smooth(0.0, 4.0, depth) + 6.0 * np.minimum(hollow, 0.4))
