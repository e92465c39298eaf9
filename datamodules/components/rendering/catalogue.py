"""The categories of the synthetic sets, and the one function that renders an image of any of them."""

from typing import Literal, NamedTuple

import numpy as np

from datamodules.components.rendering.assemblies import blister, keypad, zipper
from datamodules.components.rendering.defects import DAMAGE
from datamodules.components.rendering.electronics import board, connector
from datamodules.components.rendering.hardware import bracket, gear, screw
from datamodules.components.rendering.noise import stream
from datamodules.components.rendering.photography import photograph
from datamodules.components.rendering.solids import metal, terrazzo, tiles, wood
from datamodules.components.rendering.surface import Builder, Edit, Surface
from datamodules.components.rendering.textiles import corduroy, fabric, leather, mesh

#: Raised with every change that alters a pixel.
RENDERING_VERSION = 3
GOOD = "good"
#: Factor on the difference that a defect makes to the image of the same scene without it: at 1 a tower that
#: sees 128 pixels misses what a person sees at 256. As high as the trivial baselines of tests/perf/synthetic_set.py
#: allow. A part that is missing or elsewhere on an object keeps 1: there more would leave a pale ghost of it.
CONTRAST = {"texture": 1.35, "object": 2.0}


class CategorySpec(NamedTuple):
    """Kind, defect types and builder of one category."""

    kind: Literal["texture", "object"]
    defects: tuple[str, ...]
    builder: Builder


class Rendered(NamedTuple):
    """One image and where it is anomalous."""

    image: np.ndarray  # (H, W, 3) uint8, RGB
    mask: np.ndarray  # (H, W) bool, True on anomalous pixels


CATEGORIES: dict[str, CategorySpec] = {
    "brushed_metal": CategorySpec("texture", ("dent", "direction", "scratch"), metal),
    "corduroy": CategorySpec("texture", ("direction", "hole", "missing"), corduroy),
    "fabric": CategorySpec("texture", ("direction", "missing", "thread"), fabric),
    "leather": CategorySpec("texture", ("hole", "scratch", "stain"), leather),
    "terrazzo": CategorySpec("texture", ("crack", "hole", "stain"), terrazzo),
    "tiles": CategorySpec("texture", ("crack", "misplaced", "missing"), tiles),
    "wire_mesh": CategorySpec("texture", ("bent", "contamination", "missing"), mesh),
    "wood": CategorySpec("texture", ("crack", "hole", "scratch"), wood),
    "blister_pack": CategorySpec("object", ("crack", "misplaced", "missing"), blister),
    "bracket": CategorySpec("object", ("dent", "misplaced", "missing"), bracket),
    "circuit_board": CategorySpec("object", ("extra", "misplaced", "missing"), board),
    "connector": CategorySpec("object", ("bent", "extra", "missing"), connector),
    "gear": CategorySpec("object", ("misplaced", "missing", "scratch"), gear),
    "keypad": CategorySpec("object", ("misplaced", "missing", "sunken"), keypad),
    "screw": CategorySpec("object", ("bent", "missing", "scratch"), screw),
    "zipper": CategorySpec("object", ("bent", "missing", "thread"), zipper),
}


def render(category: str, split: str, defect: str, index: int, *, seed: int = 0, size: int = 256) -> Rendered:
    """Render one image; a pure function of its arguments.

    Args:
        category: a key of `CATEGORIES`.
        split: "train" or "test"; any word gives its own images.
        defect: "good", or one of the category's defects.
        index: number of the image among its like, 0 or more.
        seed: of the whole set. It also picks the style of every category (its tone, pitch, number of teeth ...),
            so each seed is another set of products.
        size: side of the image, pixels, 32 or more.

    Raises:
        ValueError: an unknown category or defect, or a size out of range.
    """
    surface, camera = _scene(category, split, defect, index, seed, size, damaged=True)
    image = photograph(surface, camera)
    if defect != GOOD:
        twin = render_twin(category, split, defect, index, seed=seed, size=size).astype(np.float32)
        stressed = twin + np.float32(contrast(category, defect)) * (image - twin)
        image = np.clip(stressed + 0.5, 0.0, 255.0).astype(np.uint8)
    return Rendered(image, surface.changed)


def contrast(category: str, defect: str) -> float:
    """Factor on the difference that this defect makes, see `CONTRAST`."""
    kind = CATEGORIES[category].kind
    return 1.0 if kind == "object" and defect not in DAMAGE else CONTRAST[kind]


def render_twin(category: str, split: str, defect: str, index: int, *, seed: int = 0, size: int = 256) -> np.ndarray:
    """The image (H, W, 3) uint8 that `render` gives for these arguments, as it would be without the defect."""
    return photograph(*_scene(category, split, defect, index, seed, size, damaged=False))


def _scene(
    category: str, split: str, defect: str, index: int, seed: int, size: int, *, damaged: bool
) -> tuple[Surface, np.random.Generator]:
    """The surface to photograph, and the stream of the camera."""
    if category not in CATEGORIES:
        raise ValueError(f"unknown category {category!r}. Allowed: {', '.join(CATEGORIES)}.")
    spec = CATEGORIES[category]
    if defect not in (GOOD, *spec.defects):
        raise ValueError(f"unknown defect {defect!r} of {category!r}. Allowed: {', '.join((GOOD, *spec.defects))}.")
    if size < 32:
        raise ValueError(f"size must be 32 pixels or more, got {size}.")
    words = (seed, category, split, defect, index)
    structural = damaged and defect != GOOD and defect not in DAMAGE
    edit = Edit(defect, stream(*words, "defect")) if structural else None
    surface = spec.builder(stream(*words, "scene"), stream(seed, category, "style"), size, edit)
    if damaged and defect in DAMAGE:
        surface.changed = DAMAGE[defect](surface, stream(*words, "defect"))
    return surface, stream(*words, "camera")
