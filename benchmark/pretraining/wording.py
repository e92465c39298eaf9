"""Captions of rendered images: product, state, defect and the place of the defect."""

from collections.abc import Sequence

import numpy as np

PRODUCT_WORDS: dict[str, tuple[str, ...]] = {
    "brushed_metal": ("brushed metal", "metal sheet", "metal"),
    "fabric": ("fabric", "woven cloth", "textile"),
    "terrazzo": ("terrazzo", "stone floor"),
    "wire_mesh": ("wire mesh", "metal grid"),
    "pattern": ("patterned sheet", "pattern", "striped material"),
    "speckle": ("speckled sheet", "grained material", "texture"),
    "paving": ("paving", "brick wall"),
    "bracket": ("bracket", "drilled plate"),
    "connector": ("connector", "plug with pins"),
    "keypad": ("keypad", "keys"),
    "screw": ("screw", "bolt"),
    "tray": ("tray with caps", "tray"),
    "panel": ("panel with holes", "panel"),
    "rosette": ("disc with studs", "ring of studs"),
    "rack": ("row of bars", "rack"),
}
ANY_PRODUCT = ("object", "surface", "part", "product", "item", "material")
DEFECT_WORDS: dict[str, tuple[str, ...]] = {
    "chip": ("chip", "broken edge"),
    "contamination": ("contamination", "dirt"),
    "dent": ("dent", "dimple"),
    "direction": ("wrong direction", "turned area"),
    "discolouration": ("discoloration", "colour spot"),
    "extra": ("extra part", "additional part"),
    "lump": ("lump", "bump"),
    "misplaced": ("misplaced part", "shifted part"),
    "missing": ("missing part", "missing piece"),
    "roughness": ("rough spot", "rough area"),
    "scratch": ("scratch", "scrape"),
    "sunken": ("sunken key", "sunken part"),
    "wear": ("worn spot", "wear"),
}
#: In the order of their indices.
PRODUCTS, DEFECTS = tuple(PRODUCT_WORDS), tuple(DEFECT_WORDS)
NORMAL_STATES = (
    "{}", "flawless {}", "perfect {}", "unblemished {}", "{} without flaw", "{} without defect", "{} without damage",
    "normal {}", "good {}", "intact {}", "undamaged {}", "clean {}",
)  # fmt: skip
ANOMALOUS_STATES = (
    "damaged {}", "{} with flaw", "{} with defect", "{} with damage", "broken {}", "defective {}", "abnormal {}",
    "anomalous {}", "bad {}", "faulty {}",
)  # fmt: skip
TEMPLATES = (
    "{}", "a {}.", "the {}.", "a photo of a {}.", "a photo of the {}.", "a close-up photo of a {}.",
    "a cropped photo of the {}.", "a bright photo of a {}.", "a dark photo of the {}.", "a blurry photo of a {}.",
    "a jpeg corrupted photo of the {}.", "a photo of a small {}.", "a photo of the large {}.",
    "a photo of a {} for visual inspection.", "a photo of the {} for anomaly detection.", "this is a photo of a {}.",
)  # fmt: skip
PLACES = (
    "at the top left", "at the top", "at the top right",
    "at the left", "in the center", "at the right",
    "at the bottom left", "at the bottom", "at the bottom right",
)  # fmt: skip


def _one(rng: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(rng.integers(len(words)))]


def in_template(rng: np.random.Generator, words: str) -> str:
    """The words in one of the templates."""
    return _one(rng, TEMPLATES).format(words)


def normal_text(rng: np.random.Generator, product: str) -> str:
    """A caption of a normal image of `product`, the words that name it."""
    return in_template(rng, _one(rng, NORMAL_STATES).format(product))


def anomalous_text(rng: np.random.Generator, product: str) -> str:
    """A caption that says no more than that `product` is anomalous."""
    return in_template(rng, _one(rng, ANOMALOUS_STATES).format(product))


def defect_text(rng: np.random.Generator, product: str, defect: str, place: int | None = None) -> str:
    """A caption that names the defect of `product` and, for an index of PLACES, where it is."""
    where = "" if place is None else f" {PLACES[place]}"
    return in_template(rng, f"{product} with {_one(rng, DEFECT_WORDS[defect])}{where}")


def product_words(rng: np.random.Generator, product: str) -> str:
    """One of the names of a product."""
    return _one(rng, PRODUCT_WORDS[product])


def any_product(rng: np.random.Generator) -> str:
    """A word for any product."""
    return _one(rng, ANY_PRODUCT)


def vocabulary() -> list[str]:
    """Every text part that training can ever say; the tokens of no other word are trained."""
    parts = [*ANY_PRODUCT, *NORMAL_STATES, *ANOMALOUS_STATES, *TEMPLATES, *PLACES, "with"]
    return parts + [word for table in (PRODUCT_WORDS, DEFECT_WORDS) for words in table.values() for word in words]
