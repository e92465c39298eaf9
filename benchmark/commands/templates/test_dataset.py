"""new_dataset finds its images, labels and masks on a tiny set of the same folders and file names."""

from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.request import registry
from datamodules.components.base import AnomalyDataModule

NAME = "new_dataset"


def write_twin(root: Path, category: str) -> None:
    """Three normal images, and in the test one normal and two scratched ones with their masks."""
    mask = np.zeros((32, 32), np.uint8)
    mask[8:16, 8:16] = 255
    places = {"train/good": 3, "test/good": 1, "test/scratch": 2}
    for place, count in places.items():
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
            save(pixels, root / category / place / f"{number:03}.png")
            if place == "test/scratch":
                save(mask, root / category / "ground_truth" / "scratch" / f"{number:03}_mask.png")


def save(pixels: np.ndarray, path: Path) -> None:
    """Write an image and the folders around it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_its_images_labels_and_masks_are_found(tmp_path: Path) -> None:
    """Everything that the base verifies, and the counts of this twin."""
    cls = registry.load(registry.dataset(NAME), AnomalyDataModule)
    for category in cls.categories:
        write_twin(tmp_path, category)
    data = cls(tmp_path, cls.categories, image_size=16, shots=2)
    data.verify()
    for category in cls.categories:
        tests = data.tests(category)
        assert len(data.normals(category)) == 3
        assert [sample.anomalous for sample in tests].count(True) == 2
        assert all((sample.mask is not None) == sample.anomalous for sample in tests)
        assert len(data.shot_images(category, 16)) == 2
    batch = next(iter(data.test_dataloader()))
    assert batch.image.shape[1:] == (3, 16, 16)
