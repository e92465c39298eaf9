"""EndoTect 2020: frames of endoscopies with polyps, pixel level, no normal image."""

from typing import ClassVar

from datamodules.components.pixel_level import PixelLevelDataModule


class Endo(PixelLevelDataModule):
    """Hicks et al., ICPR 2020 challenge: 200 test images."""

    categories = ("colon",)
    source = "https://endotect.com"
    obtain = "Fetch the segmentation test images and masks from that page; <root> holds images/ and masks/."
    licence = "research only, as its page states; not verified"
    citation = "Hicks et al., The EndoTect 2020 Challenge, ICPR 2020 workshops"
    aliases = ("EndoTect",)
    layout = "<root>/{images,masks}/*, paired by stem"
    folder_name = "endo"
    counts: ClassVar[dict[str, dict[str, tuple[int, int, int]]]] = {"standard": {"colon": (0, 0, 200)}}
    folders: ClassVar[tuple[tuple[str, str], ...]] = (("images", "masks"),)
    defect = "polyp"
