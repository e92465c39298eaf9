"""TN3K: ultrasound images of the thyroid with nodules, pixel level, no normal image."""

from typing import ClassVar

from datamodules.components.pixel_level import PixelLevelDataModule


class TN3K(PixelLevelDataModule):
    """Gong et al., ISBI 2021, test part: 614 images, as remembered."""

    categories = ("thyroid",)
    source = "https://github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation"
    obtain = "Fetch the archive that the page links; <root> holds test-image/ and test-mask/."
    licence = "not verified; see the page"
    citation = "Gong et al., Multi-task learning for thyroid nodule segmentation with thyroid region prior, ISBI 2021"
    aliases = ("thyroid",)
    layout = "<root>/{test-image,test-mask}/*.jpg, paired by stem"
    folder_name = "tn3k"
    counts: ClassVar[dict[str, dict[str, tuple[int, int, int]]]] = {"standard": {"thyroid": (0, 0, 614)}}
    unconfirmed = ("standard",)
    folders: ClassVar[tuple[tuple[str, str], ...]] = (("test-image", "test-mask"),)
    defect = "nodule"
