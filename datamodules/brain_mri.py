"""Brain MRI: slices of the head with and without a tumour, image level."""

from pathlib import Path
from typing import ClassVar

from datamodules.components.image_level import ImageLevelDataModule, either_folder


class BrainMRI(ImageLevelDataModule):
    """The set of Kaggle's navoneel: folders `no` and `yes`; papers test 98 and 155 images, or 25 and 155."""

    categories = ("brain",)
    source = "https://www.kaggle.com/datasets/navoneel/brain-mri-images-for-brain-tumor-detection"
    obtain = "Fetch the archive from that page (an account is needed); <root> is the folder that holds no/ and yes/."
    licence = "not verified; see the page"
    citation = "Chakrabarty, Brain MRI Images for Brain Tumor Detection, Kaggle 2019"
    aliases = ("brainmri", "brain-mri")
    layout = "<root>/{no,yes}/*.jpg"
    folder_name = "brain_mri"
    has_masks = False
    counts: ClassVar[dict[str, dict[str, tuple[int, int, int]]]] = {
        "all": {"brain": (0, 98, 155)},
        "quarter": {"brain": (74, 24, 155)},
    }
    unconfirmed = ("all", "quarter")

    def labelled(self) -> tuple[list[Path], dict[Path, str]]:
        return either_folder(self.root, ("no",), {"yes": "tumour"})
