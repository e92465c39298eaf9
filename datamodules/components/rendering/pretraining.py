"""Scenes to pretrain the embedded CLIP on: none of the products of `procedural`, and half of the defect types."""

from typing import NamedTuple

import numpy as np

from datamodules.components.rendering.assemblies import keypad
from datamodules.components.rendering.catalogue import CategorySpec
from datamodules.components.rendering.defects import DAMAGE, Defect
from datamodules.components.rendering.electronics import connector
from datamodules.components.rendering.flaws import FLAWS
from datamodules.components.rendering.hardware import bracket, screw
from datamodules.components.rendering.noise import stream
from datamodules.components.rendering.photography import photograph
from datamodules.components.rendering.practice import panel, pattern, paving, rack, rosette, speckle, tray
from datamodules.components.rendering.solids import metal, terrazzo
from datamodules.components.rendering.surface import Edit
from datamodules.components.rendering.textiles import fabric, mesh

#: Raised with every change that alters a pixel of the bank.
BANK_VERSION = 2
#: Defect types of the synthetic sets that pretraining never sees.
HELD_OUT_DEFECTS = ("bent", "crack", "hole", "stain", "thread")
#: Damage that befalls any product.
SURFACE: dict[str, Defect] = {name: DAMAGE[name] for name in ("contamination", "dent", "scratch")} | FLAWS
#: Products with the defects that are theirs alone.
PRODUCTS: dict[str, CategorySpec] = {
    "brushed_metal": CategorySpec("texture", ("direction",), metal),
    "fabric": CategorySpec("texture", ("direction", "missing"), fabric),
    "terrazzo": CategorySpec("texture", (), terrazzo),
    "wire_mesh": CategorySpec("texture", ("missing",), mesh),
    "pattern": CategorySpec("texture", ("direction", "misplaced", "missing"), pattern),
    "speckle": CategorySpec("texture", ("direction", "missing"), speckle),
    "paving": CategorySpec("texture", ("misplaced", "missing"), paving),
    "bracket": CategorySpec("object", ("misplaced", "missing"), bracket),
    "connector": CategorySpec("object", ("extra", "missing"), connector),
    "keypad": CategorySpec("object", ("misplaced", "missing", "sunken"), keypad),
    "screw": CategorySpec("object", ("missing",), screw),
    "tray": CategorySpec("object", ("extra", "misplaced", "missing"), tray),
    "panel": CategorySpec("object", ("extra", "misplaced", "missing"), panel),
    "rosette": CategorySpec("object", ("extra", "misplaced", "missing"), rosette),
    "rack": CategorySpec("object", ("extra", "misplaced", "missing"), rack),
}


class Pair(NamedTuple):
    """One scene twice, under the same lamp."""

    normal: np.ndarray  # (H, W, 3) uint8, RGB
    anomalous: np.ndarray  # (H, W, 3) uint8, RGB
    mask: np.ndarray  # (H, W) bool


def render_pair(product: str, defect: str, index: int, *, seed: int, size: int) -> Pair:
    """Render one scene without and with a defect; a pure function of its arguments.

    Args:
        product: a key of `PRODUCTS`; every index has a style of its own.
        defect: one of the product's, or a key of `SURFACE`.
        index: number of the scene.
        seed: of the whole bank.
        size: side of the images, pixels.
    """
    words = ("pretraining", seed, product, defect, index)
    builder = PRODUCTS[product].builder
    structural = defect in PRODUCTS[product].defects
    surface = builder(stream(*words, "scene"), stream(*words, "style"), size, None)
    normal = photograph(surface, stream(*words, "camera"))
    rng = stream(*words, "defect")
    if structural:
        surface = builder(stream(*words, "scene"), stream(*words, "style"), size, Edit(defect, rng))
    else:
        surface.changed = SURFACE[defect](surface, rng)
    return Pair(normal, photograph(surface, stream(*words, "camera")), surface.changed)
