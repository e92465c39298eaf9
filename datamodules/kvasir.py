"""Kvasir-SEG: frames of endoscopies with polyps, pixel level, no normal image."""

from typing import ClassVar

from datamodules.components.pixel_level import PixelLevelDataModule


class Kvasir(PixelLevelDataModule):
    """Jha et al., MMM 2020: 1,000 images."""

    categories = ("colon",)
    source = "https://datasets.simula.no/kvasir-seg/"
    obtain = "Fetch the archive from that page; <root> holds images/ and masks/."
    licence = "research and education only, as its page states; not verified"
    citation = "Jha et al., Kvasir-SEG: A Segmented Polyp Dataset, MMM 2020, arXiv:1911.07069"
    aliases = ("Kvasir-SEG", "kvasir-seg")
    layout = "<root>/{images,masks}/*.jpg, paired by stem"
    folder_name = "kvasir"
    counts: ClassVar[dict[str, dict[str, tuple[int, int, int]]]] = {"standard": {"colon": (0, 0, 1000)}}
    folders: ClassVar[tuple[tuple[str, str], ...]] = (("images", "masks"),)
    defect = "polyp"
