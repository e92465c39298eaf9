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
    test_counts: ClassVar[dict[str, int]] = {
        "bottle": 83,
        "cable": 150,
        "capsule": 132,
        "carpet": 117,
        "grid": 78,
        "hazelnut": 110,
        "leather": 124,
        "metal_nut": 115,
        "pill": 167,
        "screw": 160,
        "tile": 117,
        "toothbrush": 42,
        "transistor": 100,
        "wood": 79,
        "zipper": 151,
    }
    source = "https://www.mvtec.com/company/research/datasets/mvtec-ad"
    licence = "CC BY-NC-SA 4.0"
    folder_name = "mvtec_ad"

    def normals(self, category: str) -> list[Sample]:
        return mvtec_normals(self.root, category)

    def tests(self, category: str) -> list[Sample]:
        return mvtec_tests(self.root, category)
