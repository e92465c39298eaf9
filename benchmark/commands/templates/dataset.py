"""One line that says what the images show, who took them and how."""

from datamodules.components.base import AnomalyDataModule
from datamodules.components.layouts import mvtec_normals, mvtec_tests
from datamodules.components.sample import Sample


class NewDataset(AnomalyDataModule):
    """Who published it and where, the counts of images, and what is peculiar to its files.

    This file says where images lie, the base draws shots, reads, resizes and verifies.
    """

    # All of these are literals: `bench list` and every plan read them from this text, without running it.
    categories = ("bolt", "bracket")  # keys, in the order of the publication
    source = "https://example.org/new_dataset"
    licence = "unknown"
    folder_name = "new_dataset"  # its folder below $BENCH_DATA; `dataset.new_dataset.root=PATH` says another one
    layout = "<root>/<category>/{train/good, test/{good,<defect>}, ground_truth/<defect>}"
    # More that may be said, see `AnomalyDataModule`: has_masks, object_names, kinds, counts, citation, archives.

    def normals(self, category: str) -> list[Sample]:
        """The normal images that shots are drawn from, each a Sample(path, category)."""
        return mvtec_normals(self.root, category)

    def tests(self, category: str) -> list[Sample]:
        """The test images: anomalous ones say so, with their mask where there is one and the kind of defect."""
        return mvtec_tests(self.root, category)
