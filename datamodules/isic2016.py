"""ISIC 2016: photographs of skin lesions, pixel level, no normal image."""

from typing import ClassVar

from datamodules.components.pixel_level import PixelLevelDataModule


class ISIC2016(PixelLevelDataModule):
    """Gutman et al., 2016, part 1, test images: 379 of 379 with a mask `ISIC_NNN_Segmentation.png`."""

    categories = ("skin",)
    source = "https://challenge.isic-archive.com/data/#2016"
    obtain = "Fetch the test data and the test ground truth of task 1 from that page and unpack both to <root>."
    licence = "CC0, as its page states; not verified"
    citation = "Gutman et al., Skin Lesion Analysis toward Melanoma Detection, 2016, arXiv:1605.01397"
    aliases = ("ISIC", "ISBI", "isbi2016")
    layout = "<root>/{ISBI2016_ISIC_Part1_Test_Data/*.jpg, ISBI2016_ISIC_Part1_Test_GroundTruth/*_Segmentation.png}"
    folder_name = "isic2016"
    counts: ClassVar[dict[str, dict[str, tuple[int, int, int]]]] = {"standard": {"skin": (0, 0, 379)}}
    folders: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth"),
        ("images", "masks"),
    )
    mask_suffix = "_Segmentation"
    defect = "lesion"
