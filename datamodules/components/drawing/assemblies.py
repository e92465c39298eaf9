"""Objects put together from repeated parts: a zip fastener, a blister pack, a keypad."""

import numpy as np

from datamodules.components.drawing.hardware import bench
from datamodules.components.drawing.noise import blurred, field, fractal, mix, smooth
from datamodules.components.drawing.surface import (
    Edit,
    Surface,
    box,
    cover,
    disc,
    drawn_pose,
    flat,
    inside,
    lay,
    ribbon,
    tinted,
)

_SEGMENTS = ("abcdef", "bc", "abdeg", "abcdg", "bcfg", "acdfg", "acdefg", "abc", "abcdefg", "abcdfg")  # 0 to 9


def zipper(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """Two tapes and their teeth; `missing` loses a tooth, `bent` turns one out of its row."""
    pitch, reach = style.uniform(10.5, 12.5), style.uniform(17.0, 20.0)
    base = tinted(style, (0.36, 0.37, 0.40), 0.12, 0.03)
    pose = drawn_pose(rng, 0.16, 10.0, 0.06)
    x, y = pose.frame(size)
    surface = flat(size, base * np.float32(rng.uniform(0.9, 1.12)), 0.01)
    weave = np.cos(2.0 * np.pi * (x + np.abs(y % 7.0 - 3.5)) / 4.4)
    seam = smooth(2.2, 1.0, np.abs(np.abs(x) - 46.0))
    thread = field(rng, size, 2.4)
    surface.albedo *= rgb(1.0 + 0.05 * weave + 0.04 * thread + 0.02 * field(rng, size, 60.0) - 0.06 * seam)
    cord = np.maximum(1.0 - np.square((np.abs(x) - 24.0) / 9.0), 0.0)
    surface.height = 0.35 * weave + 0.25 * thread + 3.2 * np.sqrt(cord) - 1.2 * seam
    surface.height = surface.height - 2.0 * smooth(9.0, 5.0, np.abs(x))
    rows = np.arange(-16, 17)
    teeth = [(side, (row + 0.25 * side) * pitch + rng.normal(0.0, 0.25)) for side in (-1.0, 1.0) for row in rows]
    slips, turns = rng.normal(0.0, 0.35, len(teeth)), rng.normal(0.0, 0.02, len(teeth))
    gone = -1
    if edit and edit.kind in ("missing", "bent"):
        near = [i for i, (_, at) in enumerate(teeth) if abs(at) < 84.0]
        victim = int(edit.rng.choice(near))
        regular = _tooth(*teeth[victim], slips[victim], turns[victim], reach, pitch)
        gone = victim if edit.kind == "missing" else -1
        if edit.kind == "bent":
            turns[victim] = float(edit.rng.choice([-1.0, 1.0])) * edit.rng.uniform(0.26, 0.36)
            slips[victim] = edit.rng.uniform(3.0, 5.0)
        moved = _tooth(*teeth[victim], slips[victim], turns[victim], reach, pitch)
        surface.changed = inside(size, [*regular, *moved], pose, 1.0)
    shapes = [_tooth(s, at, slips[i], turns[i], reach, pitch) for i, (s, at) in enumerate(teeth) if i != gone]
    layer = cover(size, [polygon for tooth in shapes for polygon in tooth], [], pose)
    brass = tinted(rng, (0.50, 0.485, 0.45), 0.07) * rgb(1.0 + 0.05 * fractal(rng, size, 7.0, 2))
    lay(surface, layer.alpha, brass, 5.0 + 2.4 * smooth(0.0, 2.6, layer.depth), 0.30)
    return surface


def _tooth(side: float, at: float, slip: float, turn: float, reach: float, pitch: float) -> list[np.ndarray]:
    """One tooth: a bar from its tape past the middle, with a wider tip."""
    middle = side * (reach / 2 - 3.0 + slip)
    bar = box(middle, at, reach, pitch * 0.40, turn, 1.5)
    tip = np.array([middle - side * reach / 2 * np.cos(turn), at - side * reach / 2 * np.sin(turn)])
    return [bar, disc(tip[0], tip[1], pitch * 0.27, 16)]


def blister(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """A foil pack of tablets; `missing` empties a pocket, `misplaced` lays a tablet on its edge of the pocket."""
    columns, rows = (4, 3) if style.random() < 0.5 else (3, 3)
    long, short = style.uniform(19.0, 21.5), style.uniform(14.5, 17.0)
    pill = tinted(style, (0.74, 0.725, 0.70), 0.04)
    pose = drawn_pose(rng, 0.20 if rng.random() < 0.5 else 0.10, 7.0, 0.05)
    surface = bench(rng, size, (0.42, 0.43, 0.45))
    wide, tall = columns * 51.0 + 12.0, rows * 47.0 + 14.0
    foil = cover(size, [box(0.0, 0.0, wide, tall, 0.0, 12.0)], [], pose)
    x, y = pose.frame(size)
    knurl = np.cos(2.0 * np.pi * (x + y) / 5.0) * np.cos(2.0 * np.pi * (x - y) / 5.0)
    sheet = tinted(rng, (0.56, 0.565, 0.575), 0.06) * rgb(1.0 + 0.03 * fractal(rng, size, 20.0, 3))
    lay(surface, foil.alpha, sheet, 4.0 + 0.30 * knurl + 0.5 * fractal(rng, size, 35.0, 2), 0.30)
    spots = np.array([((i - (columns - 1) / 2) * 50.0, (j - (rows - 1) / 2) * 46.0) for i in range(columns) for j in range(rows)])
    lies = rng.normal(0.0, 0.8, spots.shape)
    turns = rng.normal(0.0, 0.10, len(spots))
    sizes = np.ones(len(spots))
    gone = -1
    if edit and edit.kind in ("missing", "misplaced"):
        victim = int(edit.rng.integers(len(spots)))
        if edit.kind == "missing":
            gone = victim
        else:
            turns[victim] = float(edit.rng.choice([-1.0, 1.0])) * edit.rng.uniform(0.9, 1.3)
            sizes[victim] = 0.92
        surface.changed = inside(size, [_oval(spots[victim], long + 3.0, short + 3.0, 0.0)], pose)
        surface.changed |= inside(size, [_oval(spots[victim] + lies[victim], long, short, turns[victim])], pose)
    pockets = cover(size, [_oval(spot, long + 4.0, short + 4.0, 0.0) for spot in spots], [], pose)
    rim = smooth(0.0, 2.0, pockets.depth) * smooth(7.0, 3.5, pockets.depth)
    film = surface.albedo * np.float32(0.93)
    lay(surface, pockets.alpha, film, 4.0 + 2.4 * rim - 2.0 * smooth(4.0, 8.0, pockets.depth), 0.36)
    ovals = [_oval(s + d, long * k, short * k, t) for s, d, t, k in zip(spots, lies, turns, sizes, strict=True)]
    pills = cover(size, [oval for i, oval in enumerate(ovals) if i != gone], [], pose)
    chalk = pill * np.float32(rng.uniform(0.95, 1.03)) * rgb(1.0 + 0.012 * field(rng, size, 2.5))
    dome = 3.0 + 5.5 * np.sqrt(np.clip(pills.depth / 13.0, 0.0, 1.0))
    lay(surface, pills.alpha, chalk, dome + 0.12 * field(rng, size, 2.0), 0.10)
    surface.height = blurred(surface.height.astype(np.float32), 0.6)
    return surface


def _oval(centre: np.ndarray, long: float, short: float, turn: float) -> np.ndarray:
    t = np.linspace(0.0, 2.0 * np.pi, 44, endpoint=False)
    c, s = np.cos(turn), np.sin(turn)
    return np.stack([long * np.cos(t), short * np.sin(t)], axis=1) @ np.array([[c, s], [-s, c]]) + centre


def _digit(which: int, centre: np.ndarray, turn: float, skip: str = "") -> list[np.ndarray]:
    """The strokes of a printed figure, seven segments, less those in `skip`."""
    w, h = 4.2, 6.4
    ends = {
        "a": ((-w, -h), (w, -h)),
        "b": ((w, -h), (w, 0)),
        "c": ((w, 0), (w, h)),
        "d": ((-w, h), (w, h)),
        "e": ((-w, 0), (-w, h)),
        "f": ((-w, -h), (-w, 0)),
        "g": ((-w, 0), (w, 0)),
    }
    c, s = np.cos(turn), np.sin(turn)
    spin = np.array([[c, s], [-s, c]])
    return [ribbon(np.array(ends[k]) @ spin + centre, 2.0) for k in _SEGMENTS[which] if k not in skip]


def keypad(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """Keys in a frame; `misplaced` twists one key, `missing` leaves a stroke of its figure unprinted, `dent` sinks it."""
    pitch_x, pitch_y = 47.0, 45.0
    rubber, case = tinted(style, (0.50, 0.50, 0.51), 0.10), tinted(style, (0.34, 0.345, 0.36), 0.12)
    pose = drawn_pose(rng, 0.20, 7.0, 0.05)
    surface = bench(rng, size, (0.60, 0.59, 0.57))
    frame = cover(size, [box(0.0, 0.0, 4 * pitch_x + 20.0, 4 * pitch_y + 20.0, 0.0, 14.0)], [], pose)
    rough = field(rng, size, 2.2)
    shell = case * np.float32(rng.uniform(0.9, 1.1)) * rgb(1.0 + 0.02 * rough + 0.02 * fractal(rng, size, 40.0, 2))
    lay(surface, frame.alpha, shell, 9.0 + 3.0 * smooth(0.0, 5.0, frame.depth) + 0.18 * rough, 0.10)
    spots = np.array([((i - 1.5) * pitch_x, (j - 1.5) * pitch_y) for j in range(4) for i in range(4)])
    spots = spots + rng.normal(0.0, 0.35, spots.shape)
    turns, figures = rng.normal(0.0, 0.006, len(spots)), style.integers(0, 10, len(spots))
    lift, skips = rng.normal(5.0, 0.25, len(spots)), [""] * len(spots)
    if edit and edit.kind in ("missing", "misplaced", "sunken"):
        victim = int(edit.rng.integers(len(spots)))
        old, there = box(*spots[victim], 36.0, 32.0), spots[victim]
        if edit.kind == "misplaced":
            turns[victim] = float(edit.rng.choice([-1.0, 1.0])) * edit.rng.uniform(0.10, 0.15)
            spots[victim] = there + edit.rng.uniform(-1.5, 1.5, 2)
            surface.changed = inside(size, [old, box(*spots[victim], 36.0, 32.0, turns[victim])], pose, 1.0)
        elif edit.kind == "sunken":
            lift[victim] = edit.rng.uniform(-0.5, 0.6)
            surface.changed = inside(size, [old], pose, 1.0)
        else:
            skips[victim] = "".join(edit.rng.choice(list(_SEGMENTS[figures[victim]]), 2, replace=False))
            whole = inside(size, _digit(int(figures[victim]), there, turns[victim]), pose)
            surface.changed = whole & ~inside(size, _digit(int(figures[victim]), there, turns[victim], skips[victim]), pose)
    keys = [box(*spot, 36.0, 32.0, turn, 7.0) for spot, turn in zip(spots, turns, strict=True)]
    layer = cover(size, keys, [], pose)
    x, y = pose.frame(size)
    index = np.clip(np.round(y / pitch_y + 1.5), 0, 3) * 4 + np.clip(np.round(x / pitch_x + 1.5), 0, 3)
    hollow = np.square((x / pitch_x + 0.5) % 1.0 - 0.5) + np.square((y / pitch_y + 0.5) % 1.0 - 0.5)
    height = 12.0 + lift.astype(np.float32)[index.astype(np.int64)] * smooth(0.0, 4.0, layer.depth) + 6.0 * hollow
    skin = rubber * np.float32(rng.uniform(0.92, 1.08)) * rgb(1.0 + 0.015 * rough)
    lay(surface, layer.alpha, skin, height + 0.10 * rough, 0.08)
    print_ = [stroke for i, f in enumerate(figures) for stroke in _digit(int(f), spots[i], turns[i], skips[i])]
    ink = cover(size, print_, [], pose)
    surface.albedo = mix(surface.albedo, tinted(rng, (0.80, 0.80, 0.79), 0.03), 0.85 * ink.alpha)
    return surface


