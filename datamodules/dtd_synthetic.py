"""DTD-Synthetic: twelve textures of DTD with synthetic defects."""

from typing import ClassVar

from datamodules.components.mvtec_layout import MVTecLayout


class DTDSynthetic(MVTecLayout):
    """Aota et al., WACV 2023: 1,200 training images, 357 normal and 947 anomalous test images."""

    categories = (
        "Blotchy_099", "Fibrous_183", "Marbled_078", "Matted_069", "Mesh_114", "Perforated_037",
        "Stratified_154", "Woven_001", "Woven_068", "Woven_104", "Woven_125", "Woven_127",
    )  # fmt: skip
    object_names: ClassVar[dict[str, str]] = {
        "Blotchy_099": "blotchy texture",
        "Fibrous_183": "fibrous texture",
        "Marbled_078": "marbled texture",
        "Matted_069": "matted texture",
        "Mesh_114": "mesh texture",
        "Perforated_037": "perforated texture",
        "Stratified_154": "stratified texture",
        "Woven_001": "woven texture",
        "Woven_068": "woven texture",
        "Woven_104": "woven texture",
        "Woven_125": "woven texture",
        "Woven_127": "woven texture",
    }
    source = "https://github.com/zqhang/AnomalyCLIP (its page links a Google Drive folder)"
    obtain = "Fetch DTD-Synthetic from the link of that page and unpack it to <root>."
    licence = "not stated by its authors"
    citation = "Aota et al., Zero-shot versus many-shot: unsupervised texture anomaly detection, WACV 2023"
    aliases = ("DTD", "dtd-synthetic")
    folder_name = "dtd_synthetic"
