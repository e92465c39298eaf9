"""From a relief to a photograph: one lamp, cast shadows, a lens and a sensor, all sampled anew for every image."""

from typing import NamedTuple

import cv2
import numpy as np

from datamodules.components.rendering.noise import SIDE, Grid, blurred, field, grid, rgb, shaded, smooth
from datamodules.components.rendering.surface import Surface

_LAMP = 420.0  # units from the object to the lamp: the highlight moves over the image
_SHADOW_STEPS = 8
_SHOULDER = 0.8  # displayed value above which highlights are compressed towards 1


class Camera(NamedTuple):
    """The conditions of one photograph."""

    light: tuple[float, float, float]  # unit vector towards the lamp; y points down the image
    ambient: float  # share of light without direction
    slope: tuple[float, float]  # change of brightness per half side, right and down
    exposure: float  # gain
    balance: np.ndarray  # (3,) gain of each channel
    vignette: float  # loss at the corners
    blur: float  # units
    noise: float  # standard deviation at mid grey, in [0, 1]


def sample_camera(rng: np.random.Generator) -> Camera:
    """A lamp from somewhere above left to above right, and a camera that is set up a little differently each time."""
    azimuth = np.radians(rng.uniform(-150.0, -30.0))
    elevation = np.radians(rng.uniform(36.0, 58.0))
    level = np.cos(elevation)
    turn, tilt = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.03, 0.20)
    warmth, green = rng.uniform(-0.035, 0.035), rng.uniform(-0.01, 0.01)
    return Camera(
        light=(float(level * np.cos(azimuth)), float(level * np.sin(azimuth)), float(np.sin(elevation))),
        ambient=float(rng.uniform(0.30, 0.48)),
        slope=(float(tilt * np.cos(turn)), float(tilt * np.sin(turn))),
        exposure=float(2.0 ** rng.uniform(-0.38, 0.32)),
        balance=np.array([1.0 + warmth, 1.0 + green, 1.0 - warmth], np.float32),
        vignette=float(rng.uniform(0.02, 0.16)),
        blur=float(rng.uniform(0.40, 0.80)),
        noise=float(rng.uniform(0.009, 0.020)),
    )


def _shadow(height: np.ndarray, light: tuple[float, float, float]) -> np.ndarray:
    """Depth of each pixel under the lamp's rays (H, W), units; above 0 it lies in shadow."""
    size = height.shape[0]
    level = float(np.hypot(light[0], light[1]))
    under = np.zeros_like(height)
    for step in range(1, _SHADOW_STEPS + 1):
        far = 0.9 * step**1.35  # units: fine steps near, coarse steps far
        shift = far * size / SIDE / level
        move = np.array([[1.0, 0.0, -shift * light[0]], [0.0, 1.0, -shift * light[1]]])
        seen = cv2.warpAffine(height, move, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        np.maximum(under, seen - np.float32(far * light[2] / level) - height, out=under)
    return under


def _shading(surface: Surface, camera: Camera, at: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse light and highlight (H, W) each; a flat matt sheet has diffuse light 1."""
    height, (lx, ly, lz) = surface.height.astype(np.float32, copy=False), camera.light
    scale = height.shape[0] / SIDE
    gx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=scale / 8, borderType=cv2.BORDER_REPLICATE)
    gy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=scale / 8, borderType=cv2.BORDER_REPLICATE)
    norm = 1.0 / np.sqrt(1.0 + gx * gx + gy * gy)
    facing = np.maximum((lz - lx * gx - ly * gy) * norm, 0.0) / lz
    shade = smooth(1.6, 0.0, _shadow(height, camera.light))
    shade = blurred(shade, 0.8)
    hollow = np.clip(1.0 - 0.055 * (blurred(height, 3.5) - height), 0.45, 1.12)
    diffuse = camera.ambient * hollow + (1.0 - camera.ambient) * facing * (0.18 + 0.82 * shade)
    hx, hy, hz = lx - at.x / _LAMP, ly - at.y / _LAMP, lz + 1.0
    toward = np.maximum((hz - hx * gx - hy * gy) * norm, 0.0) / np.sqrt(hx * hx + hy * hy + hz * hz)
    for _ in range(4):  # sixteenth power
        toward = toward * toward
    return diffuse, toward * shade


def photograph(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """The picture of `surface` (H, W, 3) uint8, RGB; takes as many samples from `rng` whatever the surface shows."""
    size = surface.height.shape[0]
    camera, at = sample_camera(rng), grid(size)
    diffuse, highlight = _shading(surface, camera, at)
    x, y = at.x / (SIDE / 2), at.y / (SIDE / 2)
    fall = (1.0 + camera.slope[0] * x + camera.slope[1] * y) * (1.0 - camera.vignette * 0.5 * (x * x + y * y))
    fall = fall * (1.0 + 0.025 * field(rng, size, 110.0)) * camera.exposure
    linear = np.square(surface.albedo.astype(np.float32, copy=False)) * shaded(camera.balance, diffuse * fall)
    linear += shaded(camera.balance, surface.gloss * highlight * fall * 0.55)
    shown = np.sqrt(np.maximum(blurred(linear, camera.blur), 0.0))
    bright = np.maximum(shown - _SHOULDER, 0.0)
    shown = shown - bright + bright / (1.0 + bright / (1.0 - _SHOULDER))
    shown += rgb(rng.standard_normal((size, size), dtype=np.float32) * np.float32(camera.noise * 0.85))
    shown += rng.standard_normal((size, size, 3), dtype=np.float32) * np.float32(camera.noise * 0.5)
    picture: np.ndarray = np.clip(shown * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)
    return picture
