"""CVC-ColonDB: frames of colonoscopies with polyps, pixel level, no normal image."""

from typing import ClassVar

from datamodules.components.pixel_level import PixelLevelDataModule


class CVCColonDB(PixelLevelDataModule):
    """Tajbakhsh et al., TMI 2016: 380 images."""

    categories = ("colon",)
    source = "https://figshare.com/articles/figure/Polyp_DataSet_zip/21221579"
    obtain = "Fetch the archive of polyp sets from that page; <root> is its folder of this set."
    licence = "research only, as its authors state; not verified"
    citation = "Tajbakhsh et al., Automated polyp detection in colonoscopy videos, TMI 35, 2016"
    aliases = ("ColonDB", "cvc-colondb")
    layout = "<root>/{images,masks}/*.png, paired by stem"
    folder_name = "cvc_colondb"
    counts: ClassVar[dict[str, dict[str, tuple[int, int, int]]]] = {"standard": {"colon": (0, 0, 380)}}
    folders: ClassVar[tuple[tuple[str, str], ...]] = (("images", "masks"),)
    defect = "polyp"
