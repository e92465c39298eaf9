"""Folder layouts that several data sets share: MVTec's, and how to recognise the ones people mix up.

MVTec layout, images in any common format:

    <root>/<category>/train/good/*.png
    <root>/<category>/test/<good | defect>/*.png
    <root>/<category>/ground_truth/<defect>/<stem of the image>[_mask].png
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from datamodules.components.sample import DataError, Sample

#: Endings of files taken for images, lower case.
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def list_images(folder: Path) -> list[Path]:
    """The images directly in a folder, sorted by name; hidden files are none. A missing folder holds none."""
    if not folder.is_dir():
        return []
    files = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in files if path.suffix.lower() in IMAGE_ENDINGS)


def list_folders(folder: Path) -> list[Path]:
    """The folders directly in a folder, sorted by name; hidden ones and a missing folder's are none."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def is_mvtec_category(folder: Path) -> bool:
    """Whether the folder looks like one category in MVTec layout."""
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def recognise(folder: Path) -> str | None:
    """The known layout whose root the folder is, in words; None if it is none."""
    if is_mvtec_category(folder):
        return f"a single category in MVTec layout: its parent {folder.parent} may be the root"
    if categories := [path.name for path in list_folders(folder) if is_mvtec_category(path)]:
        return f"categories in MVTec layout: {', '.join(categories)}"
    if (folder / "split_csv").is_dir():
        return "the raw layout of VisA (split_csv/)"
    if (folder / "meta.json").is_file():
        return "a meta.json as AnomalyCLIP writes it"
    return None


def describe(root: Path) -> str:
    """What lies at a root that was not understood, one or two sentences for an error message."""
    if found := recognise(root):
        return f"{root} holds {found}."
    for folder in list_folders(root):
        if found := recognise(folder):
            return f"One level deeper, {folder} holds {found}; it may be the root."
    names = [path.name for path in sorted(root.iterdir())] if root.is_dir() else []
    return f"{root} holds {', '.join(names[:12]) or 'nothing'}{', …' if len(names) > 12 else ''}."


def mvtec_normals(root: Path, category: str, normal: Sequence[str] = ("good",)) -> list[Sample]:
    """Normal training images of one category in MVTec layout.

    Args:
        root: folder of the category folders.
        category: name of one of them.
        normal: names a folder of normal images may have.

    Raises:
        DataError: the category's folder is missing, or it holds no normal training image.
    """
    train = _category_folder(root, category) / "train"
    samples = [Sample(path, category) for name in normal for path in list_images(train / name)]
    if not samples:
        raise DataError(f"no normal training images of {category!r}: looked for images in {_either(train, normal)}.")
    return samples


def mvtec_tests(root: Path, category: str, normal: Sequence[str] = ("good",), *, masks: bool = True) -> list[Sample]:
    """Test images of one category in MVTec layout, masks paired by stem.

    Args:
        root: folder of the category folders.
        category: name of one of them.
        normal: names a folder of normal images may have; every other folder is a defect type.
        masks: whether anomalous images have masks; if not, `ground_truth` is not looked at.

    Raises:
        DataError: the category's folder is missing, there are no test images, or masks and images do not pair.
    """
    folder = _category_folder(root, category)
    samples = [Sample(path, category) for name in normal for path in list_images(folder / "test" / name)]
    truth = list_folders(folder / "ground_truth") if masks else []
    for defect in sorted({path.name for path in (*list_folders(folder / "test"), *truth)} - {*normal}):
        images = list_images(folder / "test" / defect)
        if masks:
            pairs = pair_masks(images, list_images(folder / "ground_truth" / defect), folder / "ground_truth" / defect)
        else:
            pairs = dict.fromkeys(images)
        samples += [Sample(image, category, True, mask, defect) for image, mask in pairs.items()]
    if not samples:
        raise DataError(f"no test images of {category!r}: looked for images in {folder / 'test'}/<good | defect>/.")
    return samples


def pair_masks(images: Iterable[Path], masks: Iterable[Path], mask_folder: Path) -> dict[Path, Path | None]:
    """Pair every image with the mask of its stem, or its stem and `_mask`; order and number play no part.

    Args:
        images: anomalous images of one folder.
        masks: the masks of the same defect type.
        mask_folder: where masks were looked for, for the message.

    Raises:
        DataError: two images or two masks share a stem, a mask has no image, or an image no mask.
    """
    by_stem: dict[str, Path] = {}
    for image in images:
        if (other := by_stem.setdefault(image.stem, image)) != image:
            raise DataError(f"{other} and {image.name} share a stem, so their masks cannot be told apart. Rename one.")
    pairs: dict[Path, Path | None] = {}
    for mask in masks:
        stem = mask.stem if mask.stem in by_stem else mask.stem.removesuffix("_mask")
        if stem not in by_stem:
            raise DataError(f"mask without image: {mask} has no test image with the stem {stem!r}.")
        if (other_mask := pairs.setdefault(by_stem[stem], mask)) != mask:
            raise DataError(f"two masks for one image: {other_mask} and {mask.name} both belong to {by_stem[stem]}.")
    for stem, image in by_stem.items():
        if image not in pairs:
            raise DataError(
                f"anomalous image without mask: {image} needs {stem}_mask.png or {stem}.png in {mask_folder}."
            )
    return pairs


def _category_folder(root: Path, category: str) -> Path:
    folder = root / category
    if not folder.is_dir():
        raise DataError(f"no folder of category {category!r}: looked for {folder}. {describe(root)}")
    return folder


def _either(folder: Path, names: Sequence[str]) -> str:
    return " or ".join(str(folder / name) for name in names)
