"""CVC-ClinicDB: frames of colonoscopies with polyps, pixel level, no normal image."""

from typing import ClassVar

from datamodules.components.pixel_level import PixelLevelDataModule


class CVCClinicDB(PixelLevelDataModule):
    """Bernal et al., CMIG 2015: 612 images of 384 x 288, .tif as published, .png in collections of others."""

    categories = ("colon",)
    source = "https://figshare.com/articles/figure/Polyp_DataSet_zip/21221579"
    obtain = "Fetch the archive of polyp sets from that page; <root> is its folder of this set."
    licence = "research only, as its authors state; not verified"
    citation = "Bernal et al., WM-DOVA maps, Computerized Medical Imaging and Graphics 43, 2015"
    aliases = ("ClinicDB", "cvc-clinicdb")
    layout = "<root>/{images,masks}/* or <root>/{Original,Ground Truth}/*.tif, paired by stem"
    folder_name = "cvc_clinicdb"
    counts: ClassVar[dict[str, dict[str, tuple[int, int, int]]]] = {"standard": {"colon": (0, 0, 612)}}
    folders: ClassVar[tuple[tuple[str, str], ...]] = (("images", "masks"), ("Original", "Ground Truth"))
    defect = "polyp"
