"""Synthetic anomalies of normal images: textures in Perlin masks, CutPaste, and noise on tokens inside CLIP.

AnoPLe (https://arxiv.org/abs/2408.13516) fits on them and says only that there are some in pixels and some in latent
space. The recipes here are those that it can have meant: DRAEM (https://arxiv.org/abs/2108.07610) and GLASS
(https://arxiv.org/abs/2407.09359) for textures, CutPaste (https://arxiv.org/abs/2104.04015) for pasted patches.

Everything is a function of the generator that is handed in. With one seeded by (seed, step, image), neither the number
of workers nor the order of their work changes a pixel.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from methods.components.synthesis import perlin
from methods.components.synthesis.textures import augment, find_textures, jitter, read_texture, shuffle

#: A texture in a Perlin mask, a pasted patch, a pasted sliver.
Kind = Literal["perlin", "cutpaste", "scar"]
KINDS: tuple[Kind, ...] = ("perlin", "cutpaste", "scar")
#: The share of the image that stays below a texture: mean, standard deviation, lowest, highest (GLASS).
BLEND = (0.5, 0.1, 0.2, 0.8)
#: Mean change of a masked pixel, of 255, below which another edit is sampled: on wood and leather small textures are
#: not seen below 20, while CutPaste's jitter seldom reaches that. At most so many attempts: a black image has black
#: patches alone.
FAINTEST, ATTEMPTS = {"perlin": 20, "cutpaste": 10, "scar": 10}, 10
#: CutPaste: the patch's share of the image, and its longer side by its shorter.
PATCH_AREA, PATCH_ASPECT = (0.02, 0.15), (1.0, 3.3)
#: Its scar: thickness and length as shares of the image's side, and degrees to either side.
SCAR_THICKNESS, SCAR_LENGTH, SCAR_ANGLE = (2 / 256, 16 / 256), (10 / 256, 25 / 256), 45.0
#: Range from which the strength of the noise on tokens is sampled; 1 is noise as long as the token.
LATENT_RATIO = (0.25, 1.0)

#: What `numpy.random.default_rng` takes: a generator is used as it is, numbers seed a new one.
Seed = np.random.Generator | int | tuple[int, ...]


class Synthetic(NamedTuple):
    """An edited image."""

    image: Tensor  # (3, H, H) in [0, 1], untouched where the mask is False
    mask: Tensor  # (H, H) bool, more than 0.1 % of it True


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """Synthesises anomalies.

    Raises:
        ValueError: a setting out of range.
        DataError: no image in the folder of textures.
    """

    kinds: tuple[str, ...] = KINDS  # one is sampled for each image
    exponents: tuple[int, int] = (0, 5)  # lowest and highest power of two of the cells of the Perlin noise
    textures: str | None = None  # a folder of images, such as DTD, at any depth; None: the normal images themselves

    _files: tuple[Path, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.kinds or not {*self.kinds} <= {*KINDS}:
            raise ValueError(f"kinds must name one or more of {', '.join(KINDS)}; got {self.kinds}.")
        if not 0 <= self.exponents[0] <= self.exponents[1]:
            raise ValueError(f"exponents must be two whole numbers from 0 on, the lower first; got {self.exponents}.")
        object.__setattr__(self, "_files", find_textures(Path(self.textures)) if self.textures else ())

    def edit(self, image: Tensor, seed: Seed, other: Tensor | None = None) -> Synthetic:
        """Put an anomaly of one kind into a normal image.

        Args:
            image: (3, H, H) in [0, 1], a side of 8 pixels or more, on any device.
            seed: of all that is sampled.
            other: (3, H, H), another normal image whose patches are the texture where there is no folder of them.

        Returns:
            The edited image on the device and of the type of `image`, and its mask there.

        Raises:
            ValueError: the image is no square.
        """
        side = image.shape[-1]
        if image.shape != (3, side, side):
            raise ValueError(f"an image must be (3, H, H); got {tuple(image.shape)}.")
        rng = np.random.default_rng(seed)
        pixels = _to_pixels(image)
        texture = pixels if other is None else _to_pixels(other)
        kind = self.kinds[rng.integers(len(self.kinds))]
        for _ in range(ATTEMPTS):
            painted, mask, kept = self._paint(kind, pixels, texture, rng)
            box = _box(mask)  # few pixels are masked: the others are not looked through
            below = pixels[box][mask[box]].astype(np.float32)  # (masked pixels, 3)
            above = kept * below + (1 - kept) * painted[box][mask[box]]
            if np.abs(above - below).mean() >= FAINTEST[kind]:
                break
        where = torch.from_numpy(mask).to(image.device)
        edited = image.clone()
        edited[:, *box][:, where[box]] = torch.from_numpy(above.T / 255).to(image)
        return Synthetic(edited, where)

    def latent_mask(self, seed: Seed, grid: tuple[int, int]) -> Tensor:
        """Mask of the tokens to noise: (rows, columns) bool on the CPU, True for one or more."""
        return torch.from_numpy(perlin.latent_mask(np.random.default_rng(seed), grid, self.exponents))

    def _paint(
        self, kind: str, pixels: np.ndarray, texture: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """The paint (H, W, 3), its mask (H, W) bool, and the share of the image that shows through."""
        if kind != "perlin":
            return *_paste(pixels, rng, scar=kind == "scar"), 0.0
        side = pixels.shape[0]
        mask = perlin.anomaly_mask(rng, side, self.exponents)
        if self._files:
            texture = read_texture(self._files[rng.integers(len(self._files))], side)
        else:
            texture = shuffle(texture, rng)
        mean, deviation, low, high = BLEND
        return augment(texture, rng), mask, float(np.clip(rng.normal(mean, deviation), low, high))


def add_noise(tokens: Tensor, mask: Tensor, ratio: Tensor, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise to masked tokens: z' = z + ratio · |z| / sqrt(width) · e.

    The noise is about `ratio` times as long as its token, whatever the scale of the block. It is sampled on the CPU,
    for masked tokens alone, so that every device gets the same.

    Args:
        tokens: (B, N, width).
        mask: (B, N) bool.
        ratio: (B,); `LATENT_RATIO` is the range.
        generator: of the CPU.

    Returns:
        (B, N, width) of the type of `tokens`, the same tokens where the mask is False.
    """
    mask = mask.to(tokens.device)
    masked = tokens[mask]  # (M, width)
    noise = torch.randn(masked.shape, generator=generator).to(masked)
    length = masked.norm(dim=-1, keepdim=True) / math.sqrt(tokens.shape[-1])
    strength = ratio.to(masked).unsqueeze(1).expand(mask.shape)[mask].unsqueeze(1)  # (M, 1)
    return tokens.index_put((mask,), (masked + strength * length * noise).to(tokens.dtype))


def _paste(pixels: np.ndarray, rng: np.random.Generator, *, scar: bool) -> tuple[np.ndarray, np.ndarray]:
    """A jittered patch of the image at another place: the image as painted there, (H, W, 3), and the mask (H, W)."""
    side = pixels.shape[0]
    if scar:
        size = side * np.array([rng.uniform(*SCAR_LENGTH), rng.uniform(*SCAR_THICKNESS)])
        angle = rng.uniform(-SCAR_ANGLE, SCAR_ANGLE)
    else:
        area, aspect = rng.uniform(*PATCH_AREA), rng.uniform(*PATCH_ASPECT)
        size = side * np.array([math.sqrt(area * aspect), math.sqrt(area / aspect)])
        angle = 0.0
    across, down = rng.permutation(size.clip(min=2)).tolist()
    turned = cv2.boxPoints(((0.0, 0.0), (across, down), angle))  # corners around the centre, (4, 2)
    reach = np.abs(turned).max(axis=0)
    source, target = (rng.uniform(reach, side - 1 - reach) for _ in range(2))
    mask = cv2.fillConvexPoly(np.zeros((side, side), np.uint8), np.round(turned + target).astype(np.int32), 1)
    back = cv2.getRotationMatrix2D(target, angle, 1.0)  # from the target to the upright patch in the source
    back[:, 2] += source - target
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(jitter(pixels, rng), back, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return moved, mask.astype(bool)


def _box(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns from the first to the last masked pixel, of which there are some."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _to_pixels(image: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] to (H, W, 3) of 8 bits."""
    planes = (image.detach().float().cpu().numpy() * 255 + 0.5).astype(np.uint8)
    return np.asarray(cv2.merge(list(planes)))
