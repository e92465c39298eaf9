"""Folder layouts that several data sets share: MVTec's, and how to recognise the ones people mix up.

MVTec layout, images in any common format, also in folders further down:

    <root>/<category>/train/good/*.png
    <root>/<category>/test/<good | defect>/*.png
    <root>/<category>/ground_truth/<defect>/<stem of the image>[_mask].png
"""

from pathlib import Path

from datamodules.components.sample import DataError, Sample

#: Endings of files taken for images, lower case.
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif")


def is_image(path: Path) -> bool:
    """Whether a file is taken for an image by its name: an ending of `IMAGE_ENDINGS`, and not hidden."""
    return path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")


def walk(folder: Path, within: frozenset[Path] = frozenset()) -> list[Path]:
    """All files below a folder, sorted; links are followed, never in a circle. A missing folder holds none."""
    real = folder.resolve()
    if real in within or not folder.is_dir():
        return []
    found: list[Path] = []
    for path in folder.iterdir():
        found += walk(path, within | {real}) if path.is_dir() else [path]
    return sorted(found)


def list_images(folder: Path) -> list[Path]:
    """The images below a folder, at any depth, sorted; what is hidden or in a hidden folder is none."""
    return [path for path in walk(folder) if is_image(path) and not is_hidden(path, folder)]


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether a file below a folder, or one of the folders between, has a name that starts with a dot."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


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


def mvtec_normals(root: Path, category: str, normal: str = "good") -> list[Sample]:
    """Normal training images of one category in MVTec layout.

    Args:
        root: folder of the category folders.
        category: name of one of them.
        normal: name of a folder of normal images.

    Raises:
        DataError: the category's folder is missing, or it holds no normal training image.
    """
    train = category_folder(root, category) / "train"
    samples = [Sample(path, category) for path in list_images(train / normal)]
    if not samples:
        raise DataError(f"no normal training images of {category!r}: looked for images in {train / normal}.")
    return samples


def mvtec_tests(root: Path, category: str, normal: str = "good") -> list[Sample]:
    """Test images of one category in MVTec layout, masks paired by stem.

    Args:
        root: folder of the category folders.
        category: name of one of them.
        normal: name of a folder of normal images; every other folder is a defect type.

    Raises:
        DataError: the category's folder is missing, there are no test images, or masks and images do not pair.
    """
    folder = category_folder(root, category)
    samples = [Sample(path, category) for path in list_images(folder / "test" / normal)]
    truth = folder / "ground_truth"
    for defect in sorted({path.name for path in (*list_folders(folder / "test"), *list_folders(truth))} - {normal}):
        pairs = pair_masks(folder / "test" / defect, truth / defect)
        samples += [Sample(image, category, True, mask, defect) for image, mask in pairs.items()]
    if not samples:
        raise DataError(f"no test images of {category!r}: looked for images in {folder / 'test'}/<{normal} | defect>/.")
    return samples


def pair_masks(images: Path, masks: Path) -> dict[Path, Path]:
    """Pair the images of one folder with the masks of another by `pair_by_name`."""
    return pair_by_name(names_below(images), names_below(masks), masks)


def names_below(folder: Path) -> dict[Path, str]:
    """The images below a folder, each with its name relative to it and without ending, posix."""
    return {path: path.relative_to(folder).with_suffix("").as_posix() for path in list_images(folder)}


def pair_by_name(images: dict[Path, str], masks: dict[Path, str], mask_folder: Path) -> dict[Path, Path]:
    """Pair every image with the mask of its name, or its name and `_mask`; order and number play no part.

    Args:
        images: anomalous images and their names: with folders in between, without ending.
        masks: the masks of the same defect type, likewise.
        mask_folder: where masks were looked for, for the message.

    Raises:
        DataError: two images or two masks share a stem, a mask has no image, or an image no mask.
    """
    by_name: dict[str, Path] = {}
    for image, name in images.items():
        if (other := by_name.setdefault(name, image)) != image:
            raise DataError(f"{other} and {image.name} share a stem, so their masks cannot be told apart. Rename one.")
    pairs: dict[Path, Path] = {}
    for mask, full in masks.items():
        name = full if full in by_name else full.removesuffix("_mask")
        if name not in by_name:
            raise DataError(f"mask without image: {mask} has no test image with the stem {name!r}.")
        if (other_mask := pairs.setdefault(by_name[name], mask)) != mask:
            raise DataError(f"two masks for one image: {other_mask} and {mask.name} both belong to {by_name[name]}.")
    for name, image in by_name.items():
        if image not in pairs:
            raise DataError(
                f"anomalous image without mask: {image} needs {name}_mask.png or {name}.png in {mask_folder}."
            )
    return pairs


def category_folder(root: Path, category: str) -> Path:
    """The folder of a category; DataError if there is none."""
    folder = root / category
    if not folder.is_dir():
        raise DataError(f"no folder of category {category!r}: looked for {folder}. {describe(root)}")
    return folder
