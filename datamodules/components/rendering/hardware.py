"""Objects of metal: a gear, a drilled bracket, a screw."""

import numpy as np

from datamodules.components.rendering.noise import blurred, field, fractal, rgb, shaded, smooth
from datamodules.components.rendering.surface import (
    Colour,
    Edit,
    Surface,
    box,
    cover,
    disc,
    flat,
    grown,
    inside,
    lay,
    sample_pose,
    tinted,
)

_STEEL: Colour = (0.50, 0.505, 0.52)


def bench(rng: np.random.Generator, size: int, colour: Colour) -> Surface:
    """The matt ground that an object lies on; surface defects keep off it."""
    surface = flat(size, tinted(rng, colour, 0.10), 0.02, 0.0)
    surface.albedo *= rgb(1.0 + 0.03 * fractal(rng, size, 8.0, 2) + 0.02 * field(rng, size, 90.0))
    surface.height = 0.14 * field(rng, size, 2.5)
    return surface


def _gear_outline(count: int, root: float, tip: float, broken: dict[int, float]) -> np.ndarray:
    """Trapezoid teeth; `broken` maps a tooth to the share of it that is left."""
    points = []
    for tooth in range(count):
        reach = root + (tip - root) * broken.get(tooth, 1.0)
        for at, radius in ((-0.5, root), (-0.30, root), (-0.15, reach), (0.15, reach), (0.30, root)):
            angle = 2.0 * np.pi * (tooth + at) / count
            points.append((radius * np.cos(angle), radius * np.sin(angle)))
    return np.array(points)


def gear(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """A spur gear; `missing` breaks a tooth off, `misplaced` drills one of the round windows off its circle."""
    count, windows = int(style.integers(18, 25)), int(style.integers(4, 7))
    root, tip, bore = 86.0, 103.0, style.uniform(17.0, 22.0)
    pose = sample_pose(rng, np.pi, 7.0, 0.05)
    surface = bench(rng, size, (0.60, 0.60, 0.585))
    angles = 2.0 * np.pi * (np.arange(windows) + 0.5) / windows
    centres = 56.0 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    broken: dict[int, float] = {}
    if edit and edit.kind == "missing":
        broken[int(edit.rng.integers(count))] = edit.rng.uniform(0.0, 0.3)
        whole = inside(size, [_gear_outline(count, root, tip, {})], pose)
        surface.changed = grown(whole & ~inside(size, [_gear_outline(count, root, tip, broken)], pose), 1.0)
    elif edit and edit.kind == "misplaced":
        window = int(edit.rng.integers(windows))
        away = edit.rng.uniform(0.0, 2.0 * np.pi)
        moved = centres[window] + edit.rng.uniform(7.5, 9.5) * np.array([np.cos(away), np.sin(away)])
        surface.changed = inside(size, [disc(centres[window], 11.0), disc(moved, 11.0)], pose, 2.0)
        centres[window] = moved
    holes = [disc((0.0, 0.0), bore), box((0.0, -bore), 9.0, 10.0), *(disc(centre, 11.0) for centre in centres)]
    layer = cover(size, [_gear_outline(count, root, tip, broken)], holes, pose)
    x, y = pose.frame(size)
    radius = np.hypot(x, y)
    lathe = np.interp(radius, np.arange(0.0, 190.0, 0.7), rng.standard_normal(272)).astype(np.float32)
    steel = shaded(tinted(rng, _STEEL, 0.08), 1.0 + 0.045 * lathe + 0.025 * fractal(rng, size, 30.0, 3))
    web = smooth(bore + 12.0, bore + 15.0, radius) * smooth(81.0, 78.0, radius)
    lay(surface, layer.alpha, steel, 11.0 + 1.6 * smooth(0.0, 2.2, layer.depth) - 2.6 * web + 0.10 * lathe, 0.26)
    surface.height = blurred(surface.height, 0.6)
    return surface


def bracket(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """A painted plate with drilled holes and two slots; `missing` and `misplaced` concern one hole."""
    wide, tall = style.uniform(176.0, 190.0), style.uniform(120.0, 138.0)
    paint = tinted(style, (0.43, 0.47, 0.50), 0.15, 0.03)
    pose = sample_pose(rng, 0.42, 9.0, 0.05)
    surface = bench(rng, size, (0.64, 0.63, 0.61))
    reach = np.array([wide / 2 - 19.0, tall / 2 - 19.0])
    spots = np.array([(i, j) for i in (-1.0, -0.36, 0.36, 1.0) for j in (-1.0, 1.0)]) * reach
    radii = np.where(np.abs(spots[:, 0]) > reach[0] * 0.9, 8.0, 5.6)
    kept = np.ones(len(spots), bool)
    if edit:
        victim = int(edit.rng.integers(len(spots)))
        touched = [disc(spots[victim], radii[victim])]
        kept[victim] = edit.kind != "missing"
        if edit.kind == "misplaced":
            spots[victim] -= np.sign(spots[victim]) * edit.rng.uniform(5.5, 8.5, 2)
            touched.append(disc(spots[victim], radii[victim]))
        surface.changed = inside(size, touched, pose, 2.0)
    holes = [disc(spot, radius) for spot, radius in zip(spots[kept], radii[kept], strict=True)]
    slots = [box((side * reach[0] * 0.68, 0.0), 13.0, 40.0, 0.0, 6.5) for side in (-1.0, 1.0)]
    layer = cover(size, [box((0.0, 0.0), wide, tall, 0.0, 17.0)], [*holes, *slots, disc((0.0, 0.0), 23.0)], pose)
    x, y = pose.frame(size)
    bead = smooth(4.0, 1.5, np.abs(np.hypot(x, y) - 33.0))
    coat = shaded(paint * rng.uniform(0.9, 1.1), 1.0 + 0.015 * fractal(rng, size, 26.0, 3))
    peel = 0.14 * field(rng, size, 3.5) + 0.4 * field(rng, size, 80.0)
    lay(surface, layer.alpha, coat, 7.0 + 1.8 * smooth(0.0, 3.0, layer.depth) + 1.6 * bead + peel, 0.16)
    return surface


def _axis_bend(edit: Edit | None, u: np.ndarray) -> np.ndarray:
    """Distance of a shaft from its axis at the place u along it, units."""
    if edit is None or edit.kind != "bent":
        return np.zeros_like(u)
    start = edit.rng.uniform(-20.0, 10.0)
    amount = float(edit.rng.choice([-1.0, 1.0])) * edit.rng.uniform(0.0014, 0.0020)
    return amount * np.square(np.maximum(u - start, 0.0))


def screw(rng: np.random.Generator, style: np.random.Generator, size: int, edit: Edit | None) -> Surface:
    """A machine screw from the side; `bent` bends its shaft, `missing` strips a stretch of thread."""
    half, pitch = style.uniform(14.5, 17.5), style.uniform(7.5, 9.0)
    pose = sample_pose(rng, np.pi, 8.0, 0.05)
    surface = bench(rng, size, (0.66, 0.655, 0.64))
    u, v = pose.frame(size)
    axis = _axis_bend(edit, u)
    off_axis = v - axis
    worn = np.zeros_like(u)
    if edit and edit.kind == "missing":
        worn = smooth(15.0, 11.0, np.abs(u - edit.rng.uniform(-14.0, 62.0)))
        surface.changed = (worn > 0.3) & (np.abs(off_axis) < half + 1.5)
    elif edit:
        near = (np.minimum(np.abs(v), np.abs(off_axis)) < half + 1.0) & (u > -60.0) & (u < 97.0)
        surface.changed = near & (np.abs(axis) > 1.2)
    thread = 0.5 + 0.5 * np.cos(2.0 * np.pi * (u / pitch + off_axis / (9.0 * half)) + rng.uniform(0.0, 6.28))
    cut = smooth(-42.0, -36.0, u) * smooth(93.0, 88.0, u) * thread * (1.0 - 0.85 * worn)
    radius = (half - 2.9 * cut) * (0.62 + 0.38 * smooth(97.0, 84.0, u))
    shaft = smooth(0.7, -0.7, np.abs(off_axis) - radius) * smooth(-78.0, -77.0, u) * smooth(96.5, 95.0, u)
    arch = np.sqrt(np.maximum(radius**2 - off_axis**2, 0.0))
    wear, zinc = 1.0 + 0.04 * fractal(rng, size, 12.0, 3), tinted(rng, (0.50, 0.495, 0.48), 0.08)
    lay(surface, shaft, shaded(zinc, wear * (1.0 - 0.18 * cut)), 0.75 * arch + 2.0, 0.22)
    head = cover(size, [box((-86.0, 0.0), 25.0, 62.0, 0.0, 5.0)], [], pose)
    facet = 0.5 * np.maximum(np.abs(v) - 15.0, 0.0)
    height = 17.0 - facet + 1.5 * smooth(0.0, 2.5, head.depth) + 0.10 * field(rng, size, 4.0)
    lay(surface, head.alpha, shaded(zinc, wear), height, 0.22)
    return surface
