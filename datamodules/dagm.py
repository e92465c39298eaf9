"""DAGM 2007: ten computer-generated textures with elliptical weak labels."""

from pathlib import Path
from typing import ClassVar

from datamodules.components.base import AnomalyDataModule
from datamodules.components.layouts import list_images
from datamodules.components.sample import DataError, Sample

LABEL = "_label"


class DAGM(AnomalyDataModule):
    """Wieler and Hahn, DAGM 2007: an image is anomalous if and only if it has a label file.

    Tested are all images of `Test`, as AnomalyCLIP's and FAPrompt's code does (6,996 normal and 1,054 anomalous, as
    remembered); for training are those of `Train` without a label. Other papers pool both halves, or use seven classes
    with masks drawn anew: their numbers are of other test images. Labels are ellipses around a defect, not its outline.
    """

    categories = (
        "Class1", "Class2", "Class3", "Class4", "Class5", "Class6", "Class7", "Class8", "Class9", "Class10",
    )  # fmt: skip
    object_names: ClassVar[dict[str, str]] = {
        "Class1": "texture",
        "Class2": "texture",
        "Class3": "texture",
        "Class4": "texture",
        "Class5": "texture",
        "Class6": "texture",
        "Class7": "texture",
        "Class8": "texture",
        "Class9": "texture",
        "Class10": "texture",
    }
    source = "https://www.kaggle.com/datasets/mhskjelvareid/dagm-2007-competition-dataset-optical-inspection"
    obtain = "Fetch the archive from that page (an account is needed) and unpack it to <root>."
    licence = "not verified; see the page"
    citation = "Wieler and Hahn, Weakly supervised learning for industrial optical inspection, DAGM 2007"
    layout = "<root>/Class1..Class10/{Train,Test}/NNNN.PNG and …/Label/NNNN_label.PNG"
    folder_name = "dagm"
    variant = "test"

    def normals(self, category: str) -> list[Sample]:
        images, labels = self._half(category, "Train")
        return [Sample(path, category) for path in images if path.stem not in labels]

    def tests(self, category: str) -> list[Sample]:
        images, labels = self._half(category, "Test")
        known = [path for path in images if path.stem in labels]
        normal = [Sample(path, category) for path in images if path.stem not in labels]
        return normal + [Sample(path, category, True, labels[path.stem], "defect") for path in known]

    def _half(self, category: str, name: str) -> tuple[list[Path], dict[str, Path]]:
        folder = self.root / category / name
        images = [path for path in list_images(folder) if path.parent == folder]  # beside the folder of labels
        if not images:
            raise DataError(f"no images in {folder}: expected {self.layout}.")
        stems = {path.stem for path in images}
        labels = {path.stem.removesuffix(LABEL): path for path in list_images(folder / "Label")}
        if lost := sorted({*labels} - stems):
            raise DataError(f"label without image: {labels[lost[0]]} has no image with the stem {lost[0]!r}.")
        return images, labels
