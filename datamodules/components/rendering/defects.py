"""Damage that can befall any surface: faint, neutral in colour, and read from its relief more than from its tone.

Every function changes the surface in place and returns the region (H, W) bool that it changed. Structural defects
(a missing tooth, a bent pin) belong to one kind of object and are rendered by its builder.
"""

import math
from collections.abc import Callable

import numpy as np

from datamodules.components.rendering.noise import SIDE, blurred, fractal, grid, mix, rgb, shaded, smooth
from datamodules.components.rendering.surface import Surface, cover, disc, grown, ribbon

Defect = Callable[[Surface, np.random.Generator], np.ndarray]
_FRAME = 14.0  # units kept free along the border of the image


def anchor(surface: Surface, rng: np.random.Generator, margin: float) -> np.ndarray:
    """A place (2,) in units that lies `margin` inside the body, or as deep inside as the body allows."""
    size = len(surface.height)
    at = grid(size)
    framed = (np.maximum(np.abs(at.x), np.abs(at.y)) < SIDE / 2 - _FRAME) & (surface.body > 0.5)
    outside = ~framed
    while margin > 0.5 and not (free := framed & ~grown(outside, margin)).any():
        margin *= 0.6
    spots = np.flatnonzero(free if margin > 0.5 else framed)
    row, column = divmod(int(spots[int(rng.random() * len(spots))]), size)
    return np.array([float(at.x[0, column]), float(at.y[row, 0])])


def on_body(surface: Surface, alpha: np.ndarray) -> np.ndarray:
    """A weight (H, W) cut to where the surface has a body."""
    return np.asarray(alpha * smooth(0.3, 0.7, surface.body))


def touched(alpha: np.ndarray, level: float = 0.3) -> np.ndarray:
    """The region (H, W) bool where a weight counts as a change; never empty for a weight above 0."""
    return alpha >= min(level, float(alpha.max()) * 0.7)


def wander(rng: np.random.Generator, length: float, bend: float, jag: float, steps: int) -> np.ndarray:
    """A path (steps, 2) in units about the origin; `bend` turns it slowly, `jag` at every step (radians)."""
    heading = rng.uniform(0.0, 2.0 * np.pi) + np.linspace(-bend, bend, steps) + rng.normal(0.0, jag, steps)
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length / steps), axis=0)
    return np.asarray(path - path.mean(axis=0))


def taper(rng: np.random.Generator, width: float, steps: int) -> np.ndarray:
    """Widths along a path: thin at both ends, uneven between."""
    ends = np.sin(np.linspace(0.12, np.pi - 0.12, steps)) ** 0.5
    return np.asarray(width * ends * rng.uniform(0.75, 1.15, steps))


def scratch(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """One or two thin grooves with a raised lip."""
    size = len(surface.height)
    centre = anchor(surface, rng, 16.0)
    path = wander(rng, rng.uniform(46.0, 84.0), rng.uniform(-0.5, 0.5), 0.03, 18) + centre
    outlines = [ribbon(path, taper(rng, rng.uniform(2.3, 3.0), 18))]
    if rng.random() < 0.4:
        outlines.append(ribbon(path[4:14] + rng.uniform(3.0, 6.0, 2), taper(rng, 1.4, 10)))
    alpha = on_body(surface, cover(size, outlines).alpha)
    lip = np.clip(blurred(alpha, 1.3) - 0.6 * alpha, 0.0, 1.0)
    surface.height = surface.height - 1.8 * alpha + 1.0 * lip
    surface.albedo = surface.albedo * rgb(1.0 + float(rng.choice([-0.13, 0.13])) * alpha)
    surface.gloss = np.clip(surface.gloss + 0.05 * alpha, 0.0, 1.0)
    return touched(alpha)


def dent(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """A shallow dimple or bump that only the shading shows."""
    at = grid(len(surface.height))
    radius = rng.uniform(13.0, 19.0)
    x, y = anchor(surface, rng, radius)
    stretch, turn = rng.uniform(0.75, 1.3), rng.uniform(0.0, np.pi)
    u = (at.x - x) * math.cos(turn) + (at.y - y) * math.sin(turn)
    v = (at.y - y) * math.cos(turn) - (at.x - x) * math.sin(turn)
    far = np.sqrt((u * stretch) ** 2 + (v / stretch) ** 2) / radius
    alpha = on_body(surface, smooth(1.0, 0.1, far))
    sign = -1.0 if rng.random() < 0.7 else 0.8
    pressed = mix(surface.height, blurred(surface.height, 3.0), 0.5 * alpha)
    surface.height = pressed + sign * radius * rng.uniform(0.22, 0.29) * alpha
    return touched(alpha, 0.1)


def stain(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """A dried patch, a little darker than the material, its rim a little stronger."""
    size = len(surface.height)
    at, radius = grid(size), rng.uniform(13.0, 21.0)
    x, y = anchor(surface, rng, radius)
    far = np.hypot(at.x - x, at.y - y) / radius + 0.16 * fractal(rng, size, 22.0, 2)
    alpha = on_body(surface, smooth(1.05, 0.9, far))
    rim = alpha * smooth(0.62, 0.98, far)
    surface.albedo = surface.albedo * rgb(1.0 - rng.uniform(0.085, 0.115) * (alpha + 1.1 * rim))
    surface.height = mix(surface.height, blurred(surface.height, 3.0), 0.4 * alpha)
    surface.gloss = surface.gloss * (1.0 - 0.35 * alpha)
    return touched(alpha)


def crack(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """A jagged fissure with one or two branches."""
    size = len(surface.height)
    centre = anchor(surface, rng, 14.0)
    path = wander(rng, rng.uniform(58.0, 92.0), rng.uniform(-0.4, 0.4), 0.55, 26) + centre
    outlines = [ribbon(path, taper(rng, rng.uniform(1.5, 2.1), 26))]
    for _ in range(int(rng.integers(1, 3))):
        start = path[int(rng.integers(6, 20))]
        branch = wander(rng, rng.uniform(14.0, 26.0), 0.2, 0.5, 10)
        outlines.append(ribbon(branch - branch[0] + start, np.linspace(1.5, 0.6, 10)))
    alpha = on_body(surface, cover(size, outlines).alpha)
    surface.height = surface.height - 1.6 * alpha
    surface.albedo = surface.albedo * rgb(1.0 - 0.26 * alpha)
    surface.gloss = surface.gloss * (1.0 - 0.8 * alpha)
    return touched(alpha, 0.25)


def hole(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """A small pit or puncture."""
    size = len(surface.height)
    at, radius = grid(size), rng.uniform(3.4, 5.0)
    x, y = anchor(surface, rng, 10.0)
    far = np.hypot(at.x - x, at.y - y) + 0.7 * fractal(rng, size, 9.0, 1)
    alpha = on_body(surface, smooth(radius + 0.8, radius - 0.8, far))
    lip = on_body(surface, smooth(radius + 3.5, radius, far)) * (1.0 - alpha)
    surface.height = surface.height - 3.0 * alpha + 0.8 * lip
    surface.albedo = surface.albedo * rgb(1.0 - 0.34 * alpha)
    surface.gloss = surface.gloss * (1.0 - 0.8 * alpha)
    return touched(alpha + lip)


def thread(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """A loose fibre that lies on top in the tone of what it lies on."""
    size = len(surface.height)
    centre = anchor(surface, rng, 16.0)
    path = wander(rng, rng.uniform(62.0, 105.0), rng.uniform(0.9, 2.0) * rng.choice([-1.0, 1.0]), 0.05, 30) + centre
    strand = cover(size, [ribbon(path, rng.uniform(2.2, 2.8))])
    alpha = on_body(surface, strand.alpha)
    around = surface.albedo[alpha > 0.3].mean(axis=0) if (alpha > 0.3).any() else np.full(3, 0.5, np.float32)
    surface.albedo = mix(surface.albedo, shaded(around * rng.choice([0.82, 1.2]), np.ones_like(alpha)), 0.75 * alpha)
    surface.height = mix(surface.height, blurred(surface.height, 4.0) + 1.8 + strand.depth, alpha)
    surface.gloss = surface.gloss * (1.0 - 0.6 * alpha)
    return touched(alpha)


def contamination(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """A cluster of crumbs in the tone of the surface."""
    size = len(surface.height)
    centre = anchor(surface, rng, 15.0)
    crumbs = []
    for _ in range(int(rng.integers(9, 14))):
        away = rng.normal(0.0, 6.5, 2)
        shape = disc((0.0, 0.0), 1.0, 8) * rng.uniform(1.7, 3.9) * rng.uniform(0.6, 1.3, (8, 1))
        crumbs.append(shape + centre + away)
    heap = cover(size, crumbs)
    alpha = on_body(surface, heap.alpha)
    under = np.clip(blurred(surface.albedo, 5.0) * np.float32(rng.choice([0.88, 1.1])), 0.0, 1.0)
    surface.albedo = mix(surface.albedo, under, 0.8 * alpha)
    surface.height = mix(surface.height, blurred(surface.height, 3.0) + 0.8 + 1.3 * heap.depth, alpha)
    surface.gloss = surface.gloss * (1.0 - 0.7 * alpha)
    return touched(alpha)


DAMAGE: dict[str, Defect] = {
    "contamination": contamination,
    "crack": crack,
    "dent": dent,
    "hole": hole,
    "scratch": scratch,
    "stain": stain,
    "thread": thread,
}
