"""MVTec AD 2: eight products under changing light; the public part of its test images."""

from typing import ClassVar

from datamodules.components.base import AnomalyDataModule
from datamodules.components.layouts import list_images, pair_masks
from datamodules.components.sample import DataError, Sample


class MVTecAD2(AnomalyDataModule):
    """Heckler-Kram et al., 2025 (arXiv:2503.21622).

    Only `test_public` has masks; the private test images are measured by the authors' server and are not read here, and
    neither are the validation images.
    """

    categories = ("can", "fabric", "fruit_jelly", "rice", "sheet_metal", "vial", "wallplugs", "walnuts")
    source = "https://www.mvtec.com/company/research/datasets/mvtec-ad-2"
    obtain = "Fetch the archive from that page after accepting its terms, and unpack it to <root>."
    licence = "CC BY-NC-SA 4.0"
    citation = "Heckler-Kram et al., The MVTec AD 2 Dataset, 2025, arXiv:2503.21622"
    aliases = ("mvtec_ad2", "mvtecad2")
    layout = "<root>/<category>/{train/good, test_public/{good, bad, ground_truth/bad}}"
    folder_name = "mvtec_ad_2"
    variant = "test_public"
    object_names: ClassVar[dict[str, str]] = {"wallplugs": "wall plugs"}

    def normals(self, category: str) -> list[Sample]:
        samples = [Sample(path, category) for path in list_images(self.root / category / "train" / "good")]
        if not samples:
            raise DataError(f"no normal training images of {category!r} below {self.root}: expected {self.layout}.")
        return samples

    def tests(self, category: str) -> list[Sample]:
        folder = self.root / category / "test_public"
        pairs = pair_masks(folder / "bad", folder / "ground_truth" / "bad")
        normal = [Sample(path, category) for path in list_images(folder / "good")]
        return normal + [Sample(image, category, True, mask, "bad") for image, mask in pairs.items()]
