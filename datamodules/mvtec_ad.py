"""MVTec AD: ten objects and five textures, normal-only training split."""

from typing import ClassVar

from datamodules.components.layouts import mvtec_normals, mvtec_tests
from datamodules.components.published_shots import ListedShots
from datamodules.components.sample import Sample


class MVTecAD(ListedShots):
    """Bergmann et al., CVPR 2019: 3,629 training images, 467 normal and 1,258 anomalous test images.

    Masks are paired with images by stem.
    """

    categories = (
        "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut",
        "pill", "screw", "tile", "toothbrush", "transistor", "wood", "zipper",
    )  # fmt: skip
    kinds: ClassVar[dict[str, str]] = {
        "bottle": "object",
        "cable": "object",
        "capsule": "object",
        "carpet": "texture",
        "grid": "texture",
        "hazelnut": "object",
        "leather": "texture",
        "metal_nut": "object",
        "pill": "object",
        "screw": "object",
        "tile": "texture",
        "toothbrush": "object",
        "transistor": "object",
        "wood": "texture",
        "zipper": "object",
    }
    counts: ClassVar[dict[str, dict[str, tuple[int, int, int]]]] = {
        "standard": {
            "bottle": (209, 20, 63),
            "cable": (224, 58, 92),
            "capsule": (219, 23, 109),
            "carpet": (280, 28, 89),
            "grid": (264, 21, 57),
            "hazelnut": (391, 40, 70),
            "leather": (245, 32, 92),
            "metal_nut": (220, 22, 93),
            "pill": (267, 26, 141),
            "screw": (320, 41, 119),
            "tile": (230, 33, 84),
            "toothbrush": (60, 12, 30),
            "transistor": (213, 60, 40),
            "wood": (247, 19, 60),
            "zipper": (240, 32, 119),
        }
    }
    source = "https://www.mvtec.com/company/research/datasets/mvtec-ad"
    licence = "CC BY-NC-SA 4.0"
    citation = "Bergmann et al., MVTec AD, CVPR 2019; IJCV 129, 2021, doi:10.1007/s11263-020-01400-4"
    aliases = ("mvtec", "mvtecad", "mvtec-ad")
    archives = (
        {
            "name": "mvtec_anomaly_detection.tar.xz",
            "urls": (
                "https://www.mydrive.ch/shares/150996/b52ecdcbf521176e9db9c731f2304b27/download/420938113-1629960298/mvtec_anomaly_detection.tar.xz",
                "https://www.mydrive.ch/shares/38536/3830184030e49fe74747669442f0f282/download/420938113-1629952094/mvtec_anomaly_detection.tar.xz",
            ),
            "sha256": "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
        },
    )
    folder_name = "mvtec_ad"

    def normals(self, category: str) -> list[Sample]:
        return mvtec_normals(self.root, category)

    def tests(self, category: str) -> list[Sample]:
        return mvtec_tests(self.root, category)
