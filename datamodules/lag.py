"""LAG: photographs of the retina with and without glaucoma, image level."""

from pathlib import Path

from datamodules.components.image_level import ImageLevelDataModule, either_folder


class LAG(ImageLevelDataModule):
    """Li et al., CVPR 2019; the public part holds 3,432 images without and 2,392 with a suspicion of glaucoma.

    No released code of this field says which of them it tests, so no count is known. Read are the authors' folders
    `non_glaucoma/image` and `suspicious_glaucoma/image`; glaucoma is the anomaly.
    """

    categories = ("retina",)
    source = "https://github.com/smilell/AG-CNN"
    obtain = "The authors give a password on request, for academic use; unpack the archive to <root>."
    licence = "academic use only, no distribution"
    citation = "Li et al., Attention Based Glaucoma Detection, CVPR 2019, arXiv:1903.10831"
    layout = "<root>/{non_glaucoma,suspicious_glaucoma}/image/*.jpg"
    folder_name = "lag"
    has_masks = False

    def labelled(self) -> tuple[list[Path], dict[Path, str]]:
        return either_folder(self.root, ("non_glaucoma/image",), {"suspicious_glaucoma/image": "glaucoma"})
