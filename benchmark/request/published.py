"""Figures that papers, repositories and notes claim, as they stand in configs/published; none was measured here.

A figure has the name that its source gives to the method; the class attribute `published` of a method says under which
names it stands there. Figures that were recalled and never found are not kept. No torch, no pandas.
"""

import csv
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.request.settings import CONFIGS

FOLDER = CONFIGS / "published"
READ, SECOND_HAND = "read", "second_hand"
SHARED = ("AnomalyCLIP", "FAPrompt", "APRIL-GAN", "AnoVL", "CoOp")
#: How released code of a method measures where the suite does otherwise: by metric, in words.
MEASURED_THERE = {
    **{(name, "pixel_AUPRO"): "AUPRO by 200 score steps, with FPR rescaled" for name in SHARED},
    ("AF-CLIP", "pixel_AUPRO"): "AUPRO with FPR divided by its own maximum",
    ("WinCLIP (re-impl. zqhang)", "pixel_AUPRO"): "AUPRO by 200 score steps, with FPR rescaled",
}
#: Methods whose released code takes the epoch that is best on the test set.
CHOSEN_BY_TEST = ("PromptAD", "FineGrainedAD", "AdaCLIP", "Bayes-PFL")
#: What a note says of image scores that depend on the other test images.
SCALED = "min-max normalised"


class Figure(NamedTuple):
    """One published value."""

    method: str  # the source's name of it
    dataset: str
    protocol: str
    shots: str  # "full" for all normal images, "" where the source does not say
    backbone: str  # "" where it is not known
    image_size: int | None  # of the input, px
    metric: str
    value: float  # percent
    std: float | None
    source: str
    certainty: str  # READ where those who ran it say so, SECOND_HAND where others quote it
    note: str


@cache
def figures() -> tuple[Figure, ...]:
    """All figures, file by file."""
    return tuple(figure for path in sorted(FOLDER.glob("*.csv")) for figure in read_figures(path))


def read_figures(path: Path) -> list[Figure]:
    """The figures of one file."""
    found = []
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            texts: dict[str, Any] = dict(line)
            texts["image_size"] = int(line["image_size"]) if line["image_size"] else None
            texts["value"], texts["std"] = float(line["value"]), float(line["std"]) if line["std"] else None
            found.append(Figure(**texts))
    return found
