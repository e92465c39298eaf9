"""Br35H: slices of the head with and without a tumour, image level."""

from pathlib import Path
from typing import ClassVar

from datamodules.components.image_level import ImageLevelDataModule, either_folder


class Br35H(ImageLevelDataModule):
    """The set of Kaggle's ahmedhamada0: 1,500 images each in `no` and `yes`. Its folder `pred` is not read."""

    categories = ("brain",)
    source = "https://www.kaggle.com/datasets/ahmedhamada0/brain-tumor-detection"
    obtain = "Fetch the archive from that page (an account is needed); <root> is the folder that holds no/ and yes/."
    licence = "not verified; see the page"
    citation = "Hamada, Br35H: Brain Tumor Detection 2020, Kaggle"
    layout = "<root>/{no,yes}/*.jpg"
    folder_name = "br35h"
    has_masks = False
    counts: ClassVar[dict[str, dict[str, tuple[int, int, int]]]] = {
        "all": {"brain": (0, 1500, 1500)},
        "quarter": {"brain": (1125, 375, 1500)},
    }

    def labelled(self) -> tuple[list[Path], dict[Path, str]]:
        return either_folder(self.root, ("no",), {"yes": "tumour"})
