"""Objects with circuits: a populated board, a plug with its pins."""

import numpy as np

from datamodules.components.rendering.hardware import bench
from datamodules.components.rendering.noise import field, fractal, rgb, shaded, smooth
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
    ribbon,
    sample_pose,
    tinted,
    turned,
)

Part = tuple[float, float, float]  # x, y (units), turn (radians)


def _traces(style: np.random.Generator) -> list[np.ndarray]:
    """Copper lines that run straight, turn by half a right angle, and run on."""
    lines = []
    for _ in range(24):
        heading = int(style.integers(8)) * np.pi / 4
        bend = heading + np.pi / 4 * (2 * int(style.integers(2)) - 1)
        legs = np.array([30.0, 16.0, 40.0]) * style.uniform(0.6, 1.3, 3)
        angles = np.array([heading, bend, bend])
        steps = np.stack([legs * np.cos(angles), legs * np.sin(angles)], axis=1)
        path = style.uniform(-110.0, 110.0, 2) + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
        lines.append(ribbon(path, style.uniform(1.8, 2.6)))
    return lines


def _layout(style: np.random.Generator) -> list[Part]:
    """Places of the small two-pole parts: a loose raster away from the chip."""
    line = np.linspace(-96.0, 96.0, 7)
    raster = [(x, y) for x in line for y in line if max(abs(x - 14.0), abs(y + 8.0)) > 46.0]
    chosen = style.permutation(len(raster))[:24]
    return [
        (float(raster[i][0] + style.uniform(-4, 4)), float(raster[i][1] + style.uniform(-4, 4)), quarter * np.pi / 2)
        for i, quarter in zip(chosen, style.integers(0, 2, len(chosen)), strict=True)
    ]


def _pair(part: Part, apart: float, width: float, height: float, corner: float) -> list[np.ndarray]:
    """Two like rectangles on the axis of a part, `apart` units from its centre."""
    x, y, turn = part
    step = turned(np.array([[apart, 0.0]]), turn)[0]
    return [box((x + k * step[0], y + k * step[1]), width, height, turn, corner) for k in (-1.0, 1.0)]


def board(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """A circuit board; `missing`, `misplaced` concern one small part, `extra` is a blob of solder."""
    lacquer, copper, layout = tinted(style, (0.25, 0.36, 0.31), 0.10, 0.03), _traces(style), _layout(style)
    pose = sample_pose(rng, 0.12, 8.0, 0.05)
    surface = flat(size, lacquer * np.float32(rng.uniform(0.88, 1.14)), 0.12)
    surface.albedo *= rgb(1.0 + 0.03 * fractal(rng, size, 5.0, 2))
    lay(surface, cover(size, copper, [], pose).alpha, surface.albedo * np.float32(1.16), 0.7, 0.16)
    vias = [(x + 9.0, y + 12.0) for x, y, _ in layout[::2]]
    rings = cover(size, [disc(via, 3.4, 16) for via in vias], [disc(via, 1.4, 12) for via in vias], pose)
    lay(surface, rings.alpha, (0.58, 0.56, 0.50), 0.8, 0.3)
    jitter = rng.normal(0.0, 1.0, (len(layout), 3)) * (0.45, 0.45, 0.02)
    parts: list[Part] = [(x + a, y + b, t + c) for (x, y, t), (a, b, c) in zip(layout, jitter, strict=True)]
    tin = tinted(rng, (0.56, 0.56, 0.55), 0.06)
    blob: list[np.ndarray] = []
    if edit and edit.kind == "extra":
        x, y = edit.rng.uniform(-84.0, 84.0, 2)
        blob = [disc((x + a, y + b), edit.rng.uniform(3.4, 5.2), 20) for a, b in edit.rng.normal(0.0, 1.8, (3, 2))]
        surface.changed = inside(size, blob, pose, 1.0)
    elif edit:
        surface.changed = inside(size, _move_part(edit, parts, pose), pose, 1.0)
    pads = [pad for part in layout for pad in _pair(part, 6.6, 5.0, 9.0, 1.0)]
    lay(surface, cover(size, pads, [], pose).alpha, tin, 1.0, 0.32)
    _solder(surface, rng, pose, parts)
    _chip(surface, rng, pose)
    if blob:
        drop = cover(size, blob, [], pose)
        lay(surface, drop.alpha, tin, surface.height + 1.6 * np.sqrt(drop.depth), 0.34)
    return surface


def _move_part(edit: Edit, parts: list[Part], pose: Pose) -> list[np.ndarray]:
    """Take one part off or set it askew, in place; returns the outlines of what changed."""
    near = [i for i, part in enumerate(parts) if np.abs(pose.place(np.array([part[:2]]))).max() < 100.0]
    x, y, turn = parts.pop(int(edit.rng.choice(near)))
    touched = [box((x, y), 17.0, 9.5, turn)]
    if edit.kind == "misplaced":
        lean = float(edit.rng.choice([-1.0, 1.0])) * edit.rng.uniform(0.35, 0.6)
        x, y, turn = x + edit.rng.uniform(-3.0, 3.0), y + edit.rng.uniform(-3.0, 3.0), turn + lean
        parts.append((x, y, turn))
        touched.append(box((x, y), 17.0, 9.5, turn))
    return touched


def _solder(surface: Surface, rng: np.random.Generator, pose: Pose, parts: list[Part]) -> None:
    size = len(surface.height)
    bodies = cover(size, [box((x, y), 13.0, 7.0, turn, 0.8) for x, y, turn in parts], [], pose)
    ceramic = shaded(tinted(rng, (0.40, 0.375, 0.35), 0.08), 1.0 + 0.03 * field(rng, size, 3.0))
    lay(surface, bodies.alpha, ceramic, 4.0 + 0.8 * smooth(0.0, 1.5, bodies.depth), 0.1)
    caps = cover(size, [cap for part in parts for cap in _pair(part, 5.6, 3.4, 7.4, 0.6)], [], pose)
    lay(surface, caps.alpha, tinted(rng, (0.58, 0.58, 0.575), 0.05), 4.4 + 0.8 * smooth(0.0, 1.5, caps.depth), 0.34)


def _chip(surface: Surface, rng: np.random.Generator, pose: Pose) -> None:
    size = len(surface.height)
    legs = [box((14.0 + side * 33.0, -8.0 + row * 7.4), 12.0, 3.4) for side in (-1.0, 1.0) for row in range(-4, 5)]
    feet = cover(size, legs, [], pose)
    lay(surface, feet.alpha, tinted(rng, (0.57, 0.57, 0.565), 0.05), 2.2 + smooth(0.0, 1.5, feet.depth), 0.34)
    case = cover(size, [box((14.0, -8.0), 56.0, 72.0, 0.0, 2.0)], [], pose)
    mark = cover(size, [disc((-6.0, 20.0), 3.2, 20)], [], pose).alpha
    mould = shaded(tinted(rng, (0.26, 0.26, 0.27), 0.10), 1.0 + 0.04 * field(rng, size, 2.0))
    lay(surface, case.alpha, mould, 7.0 + 1.4 * smooth(0.0, 2.5, case.depth) - 1.2 * mark, 0.07)


def connector(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """A moulded plug with a row of pins; `bent`, `missing` concern one pin, `extra` bridges two with solder."""
    count, tail = int(style.integers(9, 12)), style.uniform(92.0, 102.0)
    pitch = 176.0 / count
    plastic = tinted(style, (0.36, 0.36, 0.37), 0.15, 0.02)
    pose = sample_pose(rng, 0.26, 7.0, 0.05)
    surface = bench(rng, size, (0.62, 0.62, 0.60))
    roots = (np.arange(count) - (count - 1) / 2) * pitch
    tips, lengths = roots + rng.normal(0.0, 0.5, count), tail + rng.normal(0.0, 0.6, count)
    bridge: list[np.ndarray] = []
    lost: list[np.ndarray] = []
    if edit:
        victim = int(edit.rng.integers(1, count - 1))
        touched = [_pin(roots[victim], tips[victim], lengths[victim])]
        if edit.kind == "missing":
            left = -4.0 if edit.rng.random() < 0.5 else tail - edit.rng.uniform(24.0, 42.0)
            lost = [box((tips[victim], 8.0 + (left + tail) / 2), 8.0, tail - left + 6.0)]
            touched = lost
        elif edit.kind == "bent":
            tips[victim] += float(edit.rng.choice([-1.0, 1.0])) * pitch * edit.rng.uniform(0.36, 0.5)
            touched.append(_pin(roots[victim], tips[victim], lengths[victim]))
        else:
            at, tall = 8.0 + edit.rng.uniform(12.0, tail - 16.0), edit.rng.uniform(5.5, 8.0)
            touched = bridge = [box(((roots[victim] + roots[victim + 1]) / 2, at), pitch, tall, 0.0, 2.5)]
        surface.changed = inside(size, touched, pose, 1.0)
    layer = cover(size, [_pin(*pin) for pin in zip(roots, tips, lengths, strict=True)], lost, pose)
    tin = shaded(tinted(rng, (0.53, 0.52, 0.49), 0.07), 1.0 + 0.04 * fractal(rng, size, 8.0, 2))
    lay(surface, layer.alpha, tin, 6.0 + 2.2 * smooth(0.0, 2.8, layer.depth), 0.32)
    if bridge:
        drop = cover(size, bridge, [], pose)
        lay(surface, drop.alpha, tin, 6.0 + 1.8 * smooth(0.0, 3.0, drop.depth), 0.3)
    _housing(surface, rng, pose, plastic)
    return surface


def _housing(surface: Surface, rng: np.random.Generator, pose: Pose, plastic: np.ndarray) -> None:
    size = len(surface.height)
    shell = cover(size, [box((0.0, -38.0), 202.0, 96.0, 0.0, 6.0)], [], pose)
    sunk = cover(size, [box(((i - 1.5) * 46.0, -44.0), 26.0, 16.0, 0.0, 2.0) for i in range(4)], [], pose)
    y = pose.frame(size).y
    rib = smooth(2.2, 1.2, np.abs(y + 16.0)) + smooth(2.2, 1.2, np.abs(y + 68.0))
    rough = field(rng, size, 2.2)
    mould = shaded(plastic * rng.uniform(0.88, 1.12), 1.0 + 0.02 * rough + 0.02 * fractal(rng, size, 30.0, 2))
    height = 16.0 + 2.6 * smooth(0.0, 4.0, shell.depth) - 3.4 * smooth(0.0, 2.0, sunk.depth) + 1.3 * rib
    lay(surface, shell.alpha, mould, height + 0.16 * rough, 0.09)


def _pin(root: float, tip: float, length: float) -> np.ndarray:
    """A pin from inside the housing down to its pointed tip; it leaves its line half way."""
    path = np.array([(root, -10.0), (root, 8.0 + 0.4 * length), (tip, 8.0 + 0.92 * length), (tip, 8.0 + length)])
    return ribbon(path, np.array([6.2, 6.2, 6.2, 3.0]))
