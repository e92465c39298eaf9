"""BTAD: three industrial products, one of them with bitmaps as masks."""

from typing import ClassVar

from datamodules.components.mvtec_layout import MVTecLayout


class BTAD(MVTecLayout):
    """Mishra et al., ISIE 2021: 1,799 training images, 451 normal and 290 anomalous test images.

    Normal folders are called `ok`. Images of 01 and 03 are .bmp, masks of 01 and 02 .png, those of 03 .bmp: pairs are
    found by stem, whatever the ending.
    """

    categories = ("01", "02", "03")
    object_names: ClassVar[dict[str, str]] = {"01": "metal part", "02": "wood", "03": "metal part"}
    counts: ClassVar[dict[str, dict[str, tuple[int, int, int]]]] = {
        "standard": {"01": (400, 21, 49), "02": (399, 30, 200), "03": (1000, 400, 41)}
    }
    source = "https://avires.dimi.uniud.it/papers/btad/btad.zip"
    licence = "CC BY-SA 4.0, as the authors' page says; others state CC BY-NC-SA 4.0"
    citation = "Mishra et al., VT-ADL, ISIE 2021, arXiv:2104.10036"
    aliases = ("BTech",)
    archives = (
        {
            "name": "btad.zip",
            "urls": ("https://avires.dimi.uniud.it/papers/btad/btad.zip",),
            "sha256": "461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
        },
    )
    layout = "<root>/<01|02|03>/{train/ok, test/{ok,ko}, ground_truth/ko}"
    folder_name = "btad"
    normal_name = "ok"
