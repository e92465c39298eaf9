"""Flaws that only the embedded CLIP is pretrained on: a spot, a line or a cluster, changed in one of many ways."""

import numpy as np

from datamodules.components.rendering.defects import Defect, anchor, on_body, taper, touched, wander
from datamodules.components.rendering.noise import blurred, field, fractal, grid, mix, rgb, smooth
from datamodules.components.rendering.surface import Surface, cover, disc, ribbon


def _spot(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """A ragged spot or a few of them, (H, W) in [0, 1]."""
    size = len(surface.height)
    at, centre = grid(size), anchor(surface, rng, 12.0)
    far = np.full((size, size), np.inf)
    for _ in range(int(rng.integers(1, 4))):
        x, y = centre + rng.normal(0.0, 7.0, 2)
        far = np.minimum(far, np.hypot((at.x - x) * rng.uniform(0.6, 1.4), at.y - y) / rng.uniform(3.5, 20.0))
    edge = rng.uniform(0.03, 0.4)
    return on_body(surface, smooth(1.0 + edge, 1.0 - edge, far + 0.2 * fractal(rng, size, 16.0, 2)))


def _line(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """A line that is straight, curved or jagged, (H, W) in [0, 1]."""
    bend, jag = rng.choice([0.0, 0.4, 1.4]), rng.choice([0.0, 0.06, 0.4])
    path = wander(rng, rng.uniform(30.0, 110.0), bend * rng.uniform(0.5, 1.5), jag, 24) + anchor(surface, rng, 12.0)
    return on_body(surface, cover(len(surface.height), [ribbon(path, taper(rng, rng.uniform(1.6, 4.5), 24))]).alpha)


def _cluster(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """Scattered dots, (H, W) in [0, 1]."""
    centre, spread = anchor(surface, rng, 12.0), rng.uniform(4.0, 14.0)
    dots = [
        disc(centre + rng.normal(0.0, spread, 2), rng.uniform(1.5, 4.0), 10) for _ in range(int(rng.integers(3, 14)))
    ]
    return on_body(surface, cover(len(surface.height), dots).alpha)


def _sample_shape(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """A spot, a line or a cluster, (H, W) in [0, 1]."""
    return (_spot, _line, _cluster)[int(rng.choice(3, p=[0.5, 0.35, 0.15]))](surface, rng)


def discolouration(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """Lighter, darker or of another tint; the relief stays."""
    alpha = _sample_shape(surface, rng)
    gain = 1.0 + rng.choice([-1.0, 1.0]) * rng.uniform(0.09, 0.4) + rng.normal(0.0, rng.choice([0.0, 0.08]), 3)
    tinted = np.clip(surface.albedo * gain.astype(np.float32), 0.0, 1.0)
    surface.albedo = mix(surface.albedo, tinted, alpha).astype(np.float32)
    return touched(alpha)


def lump(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """Raised or pressed in; the colour stays."""
    alpha = _sample_shape(surface, rng)
    soft = blurred(alpha, rng.uniform(0.0, 2.0))
    surface.height = surface.height + rng.choice([-1.0, 1.0]) * rng.uniform(1.2, 4.5) * soft
    return touched(alpha)


def wear(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """Rubbed smooth: relief and colour lose their detail."""
    alpha, reach = _sample_shape(surface, rng), rng.uniform(3.0, 8.0)
    surface.height = mix(surface.height, blurred(surface.height, reach), alpha)
    surface.albedo = mix(surface.albedo, blurred(surface.albedo, reach), alpha)
    surface.gloss = surface.gloss * (1.0 - rng.uniform(0.0, 0.8) * alpha)
    return touched(alpha)


def roughness(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """Roughened: a grain that the material does not have."""
    alpha, size = _sample_shape(surface, rng), len(surface.height)
    noise = field(rng, size, rng.uniform(1.8, 6.0))
    surface.height = surface.height + rng.uniform(0.4, 1.4) * noise * alpha
    surface.albedo = np.clip(surface.albedo * rgb(1.0 + rng.uniform(0.0, 0.14) * noise * alpha), 0.0, 1.0)
    return touched(alpha)


def chip(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """An angular piece broken out: deeper and of another tone."""
    centre, count = anchor(surface, rng, 8.0), int(rng.integers(3, 7))
    angle = np.sort(rng.uniform(0.0, 2.0 * np.pi, count))
    corners = np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.uniform(4.0, 15.0, (count, 1)) + centre
    alpha = on_body(surface, cover(len(surface.height), [corners]).alpha)
    surface.height = surface.height - rng.uniform(1.0, 4.0) * alpha
    surface.albedo = np.clip(surface.albedo * rgb(1.0 + rng.choice([-0.3, -0.15, 0.2]) * alpha), 0.0, 1.0)
    surface.gloss = surface.gloss * (1.0 - rng.uniform(0.0, 1.0) * alpha)
    return touched(alpha)


FLAWS: dict[str, Defect] = {
    "chip": chip,
    "discolouration": discolouration,
    "lump": lump,
    "roughness": roughness,
    "wear": wear,
}
