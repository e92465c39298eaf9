"""MPDD: painted metal parts, six objects, photographed at several angles."""

from typing import ClassVar

from datamodules.components.mvtec_layout import MVTecLayout


class MPDD(MVTecLayout):
    """Jezek et al., ICUMT 2021: 888 training images, 176 normal and 282 anomalous test images (as remembered)."""

    categories = ("bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes")
    object_names: ClassVar[dict[str, str]] = {
        "bracket_black": "bracket",
        "bracket_brown": "bracket",
        "bracket_white": "bracket",
    }
    source = "https://github.com/stepanje/MPDD"
    obtain = "The archive lies behind a link of the repository's page; unpack it to <root>."
    licence = "CC BY-NC-SA 4.0"
    citation = "Jezek et al., Deep learning-based defect detection of metal parts, ICUMT 2021"
    folder_name = "mpdd"
