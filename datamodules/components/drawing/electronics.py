"""Objects with circuits: a populated board, a plug with its pins."""

import numpy as np

from datamodules.components.drawing.hardware import bench
from datamodules.components.drawing.noise import field, fractal, smooth
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


def _traces(style: np.random.Generator) -> list[np.ndarray]:
    """Copper lines that run straight, turn by half a right angle, and run on."""
    lines = []
    for _ in range(26):
        start = style.uniform(-110.0, 110.0, 2)
        heading = int(style.integers(8)) * np.pi / 4
        path = [start]
        for leg, turn in ((30.0, 0.0), (16.0, np.pi / 4), (40.0, 0.0)):
            heading += turn * float(style.choice([-1, 1]))
            step = leg * style.uniform(0.6, 1.3)
            path.append(path[-1] + step * np.array([np.cos(heading), np.sin(heading)]))
        lines.append(ribbon(np.array(path), style.uniform(1.8, 2.6)))
    return lines


def _parts(style: np.random.Generator) -> list[tuple[np.ndarray, float]]:
    """Where the small two-pole parts sit: (x, y) and quarter turns, on a loose raster away from the chip."""
    raster = [(x, y) for x in np.linspace(-96, 96, 7) for y in np.linspace(-96, 96, 7) if max(abs(x - 14), abs(y + 8)) > 46]
    chosen = style.permutation(len(raster))[:24]
    return [(np.array(raster[i]) + style.uniform(-4.0, 4.0, 2), float(style.integers(2)) * np.pi / 2) for i in chosen]


def board(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """A circuit board; `missing`, `misplaced` concern one small part, `extra` is a blob of solder."""
    mask_colour = tinted(style, (0.25, 0.36, 0.31), 0.10, 0.03)
    copper, layout = _traces(style), _parts(style)
    pose = drawn_pose(rng, 0.12, 8.0, 0.05)
    surface = flat(size, mask_colour * np.float32(rng.uniform(0.88, 1.14)), 0.12)
    surface.albedo *= rgb(1.0 + 0.03 * fractal(rng, size, 5.0, 2))
    tracks = cover(size, copper, [], pose)
    lay(surface, tracks.alpha, surface.albedo * np.float32(1.16), 0.7, 0.16)
    vias = [spot + (9.0, 12.0) for spot, _ in layout[::2]]
    rings = cover(size, [disc(*via, 3.4, 16) for via in vias], [disc(*via, 1.4, 12) for via in vias], pose)
    lay(surface, rings.alpha, (0.58, 0.56, 0.50), 0.8, 0.3)
    places = [(spot + rng.normal(0.0, 0.45, 2), turn + rng.normal(0.0, 0.02)) for spot, turn in layout]
    gone, blob = -1, []
    if edit and edit.kind in ("missing", "misplaced", "extra"):
        near = [i for i, (spot, _) in enumerate(places) if np.abs(pose.place(spot[None])).max() < 100.0]
        victim = int(edit.rng.choice(near))
        spot, turn = places[victim]
        old = box(*spot, 17.0, 9.5, turn)
        surface.changed = inside(size, [old], pose, 1.0)
        if edit.kind == "missing":
            gone = victim
        elif edit.kind == "misplaced":
            lean = float(edit.rng.choice([-1.0, 1.0])) * edit.rng.uniform(0.35, 0.6)
            places[victim] = (spot + edit.rng.uniform(-3.0, 3.0, 2), turn + lean)
            surface.changed |= inside(size, [box(*places[victim][0], 17.0, 9.5, places[victim][1])], pose, 1.0)
        else:
            free = edit.rng.uniform(-84.0, 84.0, 2)
            blob = [disc(*(free + edit.rng.normal(0.0, 1.6, 2)), edit.rng.uniform(2.8, 4.6), 20) for _ in range(3)]
            surface.changed = inside(size, blob, pose, 1.0)
    pads = [box(*(s + side * 6.6 * _along(t)), 5.0, 9.0, t, 1.0) for s, t in layout for side in (-1.0, 1.0)]
    tin = tinted(rng, (0.56, 0.56, 0.55), 0.06)
    lay(surface, cover(size, pads, [], pose).alpha, tin, 1.0, 0.32)
    _solder_parts(surface, rng, size, pose, [p for i, p in enumerate(places) if i != gone])
    _chip(surface, rng, size, pose)
    if blob:
        drop = cover(size, blob, [], pose)
        lay(surface, drop.alpha, tin, 1.0 + 1.6 * np.sqrt(drop.depth), 0.34)
    return surface


def _along(turn: float) -> np.ndarray:
    return np.array([np.cos(turn), np.sin(turn)])


def _solder_parts(surface: Surface, rng: np.random.Generator, size: int, pose, places) -> None:
    ends = [box(*(s + side * 5.6 * _along(t)), 3.4, 7.4, t, 0.6) for s, t in places for side in (-1.0, 1.0)]
    bodies = cover(size, [box(*s, 13.0, 7.0, t, 0.8) for s, t in places], [], pose)
    tone = rgb(1.0 + 0.03 * field(rng, size, 3.0))
    lay(surface, bodies.alpha, tinted(rng, (0.40, 0.375, 0.35), 0.08) * tone, 4.0 + 0.8 * smooth(0, 1.5, bodies.depth), 0.1)
    caps = cover(size, ends, [], pose)
    lay(surface, caps.alpha, tinted(rng, (0.58, 0.58, 0.575), 0.05), 4.4 + 0.8 * smooth(0.0, 1.5, caps.depth), 0.34)


def _chip(surface: Surface, rng: np.random.Generator, size: int, pose) -> None:
    legs = [box(14.0 + side * 33.0, -8.0 + row * 7.4, 12.0, 3.4, 0.0, 0.8) for side in (-1.0, 1.0) for row in range(-4, 5)]
    feet = cover(size, legs, [], pose)
    lay(surface, feet.alpha, tinted(rng, (0.57, 0.57, 0.565), 0.05), 2.2 + smooth(0.0, 1.5, feet.depth), 0.34)
    case = cover(size, [box(14.0, -8.0, 56.0, 72.0, 0.0, 2.0)], [], pose)
    mark = cover(size, [disc(-6.0, 20.0, 3.2, 20)], [], pose).alpha
    mould = tinted(rng, (0.26, 0.26, 0.27), 0.10) * rgb(1.0 + 0.04 * field(rng, size, 2.0))
    lay(surface, case.alpha, mould, 7.0 + 1.4 * smooth(0.0, 2.5, case.depth) - 1.2 * mark, 0.07)


def connector(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """A moulded plug with a row of pins; `bent`, `missing` concern one pin, `extra` bridges two with solder."""
    count, tail = int(style.integers(9, 12)), style.uniform(92.0, 102.0)
    pitch = 176.0 / count
    plastic = tinted(style, (0.36, 0.36, 0.37), 0.15, 0.02)
    pose = drawn_pose(rng, 0.26, 7.0, 0.05)
    surface = bench(rng, size, (0.62, 0.62, 0.60))
    roots = (np.arange(count) - (count - 1) / 2) * pitch
    tips = roots + rng.normal(0.0, 0.5, count)
    lengths = tail + rng.normal(0.0, 0.6, count)
    gone, bridge = -1, []
    if edit and edit.kind in ("bent", "missing", "extra"):
        victim = int(edit.rng.integers(1, count - 1))
        old = _pin(roots[victim], tips[victim], lengths[victim])
        touched = [old]
        if edit.kind == "missing":
            if edit.rng.random() < 0.5:
                gone = victim
            else:
                lengths[victim] -= edit.rng.uniform(24.0, 42.0)
                touched = [box(tips[victim], 8.0 + (lengths[victim] + tail) / 2, 7.0, tail - lengths[victim] + 3.0)]
        elif edit.kind == "bent":
            tips[victim] += float(edit.rng.choice([-1.0, 1.0])) * pitch * edit.rng.uniform(0.36, 0.5)
            touched = [old, _pin(roots[victim], tips[victim], lengths[victim])]
        else:
            at = 8.0 + edit.rng.uniform(12.0, tail - 16.0)
            bridge = [box((roots[victim] + roots[victim + 1]) / 2, at, pitch, edit.rng.uniform(5.0, 7.5), 0.0, 2.5)]
            touched = bridge
        surface.changed = inside(size, touched, pose, 1.0)
    pins = [_pin(roots[i], tips[i], lengths[i]) for i in range(count) if i != gone]
    layer = cover(size, pins, [], pose)
    worn = rgb(1.0 + 0.04 * fractal(rng, size, 8.0, 2))
    tin = tinted(rng, (0.53, 0.52, 0.49), 0.07) * worn
    lay(surface, layer.alpha, tin, 6.0 + 2.2 * smooth(0.0, 2.8, layer.depth), 0.32)
    if bridge:
        drop = cover(size, bridge, [], pose)
        lay(surface, drop.alpha, tin, 6.0 + 1.8 * smooth(0.0, 3.0, drop.depth), 0.3)
    keys = [box((i - 1.5) * 46.0, -44.0, 26.0, 16.0, 0.0, 2.0) for i in range(4)]
    housing = cover(size, [box(0.0, -38.0, 202.0, 96.0, 0.0, 6.0)], [], pose)
    sunk = cover(size, keys, [], pose)
    x, y = pose.frame(size)
    rib = smooth(2.2, 1.2, np.abs(y + 16.0)) + smooth(2.2, 1.2, np.abs(y + 68.0))
    rough = field(rng, size, 2.2)
    mould = plastic * np.float32(rng.uniform(0.88, 1.12)) * rgb(1.0 + 0.02 * rough + 0.02 * fractal(rng, size, 30.0, 2))
    height = 16.0 + 2.6 * smooth(0.0, 4.0, housing.depth) - 3.4 * smooth(0.0, 2.0, sunk.depth) + 1.3 * rib + 0.16 * rough
    lay(surface, housing.alpha, mould, height, 0.09)
    return surface


def _pin(root: float, tip: float, length: float) -> np.ndarray:
    """A pin from inside the housing down to its pointed tip; it leaves its line half way."""
    path = np.array([(root, -10.0), (root, 8.0 + 0.4 * length), (tip, 8.0 + 0.92 * length), (tip, 8.0 + length)])
    return ribbon(path, np.array([6.2, 6.2, 6.2, 3.0]))
