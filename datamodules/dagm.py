"""DAGM 2007: ten computer-generated textures with elliptical weak labels."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from datamodules.components.base import AnomalyDataModule
from datamodules.components.layouts import list_images
from datamodules.components.sample import DataError, Sample

LABEL = "_label"


class DAGM(AnomalyDataModule):
    """Wieler and Hahn, DAGM 2007: an image is anomalous if and only if it has a label file.

    Tested are all images of `Test`, as AnomalyCLIP's and FAPrompt's code does (6,996 normal and 1,054 anomalous, as
    remembered); for training are those of `Train` without a label. Or both halves are pooled, as AdaCLIP has them: all
    anomalous images and as many normal ones, chosen by their names, are tested. Labels are ellipses around a defect,
    not its outline; seven classes with masks drawn anew, as one paper has them, are not offered.
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

    @dataclass(kw_only=True)
    class Config:
        """Which split.

        Attributes:
            variant: "test" keeps the halves of the competition apart, "pooled" divides both together.
        """

        variant: Literal["test", "pooled"] = "test"

    config: Config

    def normals(self, category: str) -> list[Sample]:
        return [Sample(path, category) for path in self._split(category)[0]]

    def tests(self, category: str) -> list[Sample]:
        _, normal, anomalous = self._split(category)
        marked = [Sample(path, category, True, mask, "defect") for path, mask in anomalous.items()]
        return [Sample(path, category) for path in normal] + marked

    def _split(self, category: str) -> tuple[list[Path], list[Path], dict[Path, Path]]:
        """Normal images for training and for testing, and the anomalous ones with their masks."""
        train, of_train = self._half(category, "Train")
        tested, of_test = self._half(category, "Test")
        if self.config.variant == "test":
            return train, tested, of_test
        normal, anomalous = [*train, *tested], of_train | of_test
        order = sorted(normal, key=lambda path: hashlib.sha256(f"{path.parent.name}/{path.stem}".encode()).hexdigest())
        chosen = {*order[: len(anomalous)]}
        rest = [path for path in normal if path not in chosen]
        return rest, [path for path in normal if path in chosen], anomalous

    def _half(self, category: str, name: str) -> tuple[list[Path], dict[Path, Path]]:
        """The normal images of one half, and the anomalous ones with their masks."""
        folder = self.root / category / name
        images = [path for path in list_images(folder) if path.parent == folder]  # beside the folder of labels
        if not images:
            raise DataError(f"no images in {folder}: expected {self.layout}.")
        stems = {path.stem for path in images}
        labels = {path.stem.removesuffix(LABEL): path for path in list_images(folder / "Label")}
        if lost := sorted({*labels} - stems):
            raise DataError(f"label without image: {labels[lost[0]]} has no image with the stem {lost[0]!r}.")
        marked = {path: labels[path.stem] for path in images if path.stem in labels}
        return [path for path in images if path not in marked], marked
