"""A user's own folders as one category: which hold normal images, which anomalous ones, and where the masks lie."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple

from datamodules.components.layouts import (
    category_folder,
    list_folders,
    list_images,
    names_below,
    pair_by_name,
    pair_masks,
)
from datamodules.components.sample import DataError, Sample
from datamodules.components.shots import stem_names

#: Folders of masks that are looked for in a category without `train` and `test`, where none is named.
MASK_FOLDERS = ("ground_truth", "masks")
#: Folders by which a category without `train`, `test` and normal images is known.
ANOMALOUS_FOLDERS = ("bad", "anomaly", "anomalous", "abnormal", "defect", "ng")


@dataclass(kw_only=True)
class FolderNames:
    """What folders are called: names, whose case does not count, or paths below the category's folder.

    Attributes:
        normal: folders of normal images, for training where `train` or `normal_test` tells; paths in "flat".
        abnormal: folders of anomalous images; empty takes all others. Paths in "flat".
        normal_test: folders of normal test images in "flat"; empty divides those of `normal` as `split` says.
        masks: folder of the masks, or a pattern of <stem> and <kind>, beside the image or, with a slash, below the
            category's folder; null takes `ground_truth`, in "flat" also `masks`, where there is one.
        split: part of the normal images that is for training where nothing else divides them; by name.
    """

    normal: tuple[str, ...] = ("good", "ok", "normal")
    abnormal: tuple[str, ...] = ()
    normal_test: tuple[str, ...] = ()
    masks: str | None = None
    split: Annotated[float, ">= 0, <= 1"] = 0.5


class Lists(NamedTuple):
    """The samples of one category."""

    normals: list[Sample]
    tests: list[Sample]
    masks_known: bool


def check_folder_names(names: FolderNames) -> None:
    """Raise DataError where a name leaves the category's folder, is normal and anomalous, or leaves others unsaid."""
    said = (*names.normal, *names.abnormal, *names.normal_test, *([names.masks] if names.masks else []))
    for name in said:
        path = PurePosixPath(name)
        if not path.parts or path.is_absolute() or ".." in path.parts:
            raise DataError(f"a folder must be named by a path below the category's folder, got {name!r}.")
    if _is_pattern(names) and re.search("<(?!stem>|kind>)", names.masks or ""):
        raise DataError(f"a pattern of masks may hold <stem> and <kind>, got {names.masks!r}.")
    if both := _folded((*names.normal, *names.normal_test)) & _folded(names.abnormal):
        raise DataError(f"{sorted(both)} cannot be both normal and abnormal.")
    if any("/" in name for name in (*names.normal, *names.normal_test)) and not names.abnormal:
        raise DataError("abnormal must name the folders of anomalous images where normal or normal_test is a path.")


def find_flat(root: Path, names: FolderNames) -> list[Path]:
    """The folders of categories without `train` and `test`: the root if it holds a named folder, else those in it."""
    said = (*names.normal, *(names.abnormal or ANOMALOUS_FOLDERS), *names.normal_test)
    return [root] if _named(root, said) else [folder for folder in list_folders(root) if _named(folder, said)]


def check_said(folders: Sequence[Path], names: FolderNames) -> None:
    """Raise DataError if a name that differs from the defaults is that of no folder of any category."""
    normal = [] if tuple(names.normal) == FolderNames.normal else names.normal
    places = [parent for folder in folders for parent in (folder, folder / "train", folder / "test")]
    for name in (*normal, *names.abnormal, *names.normal_test):
        if not any(_named(place, [name]) for place in places):
            raise DataError(f"no folder {name!r} in any category: looked in {', '.join(map(str, folders[:3]))}.")
    masks = names.masks
    if masks and "<" not in masks and not any((folder / masks).is_dir() for folder in folders):
        raise DataError(f"no folder of masks {masks!r} in any category: looked for {folders[0] / masks}.")


def read_folders(root: Path, category: str, names: FolderNames, *, split: bool) -> Lists:
    """The lists of one category.

    Args:
        root: folder of the category's folder.
        category: its name.
        names: what the folders in it are called.
        split: whether they lie in `train` and `test`.

    Raises:
        DataError: there is no such folder, a folder of anomalous images holds one of normal images, or masks and
            images do not pair.
    """
    folder = category_folder(root, category)
    train, test = (folder / "train", folder / "test") if split else (folder, folder)
    normal = [Sample(path, category) for path in _normal_images(folder, _named(train, names.normal), names)]
    if split or names.normal_test:
        others = _named(test, names.normal if split else names.normal_test)
        tested = [Sample(path, category) for path in _normal_images(folder, others, names)]
    else:
        normal, tested = divide(normal, names.split)
    kinds = _kinds(folder, test, names)
    masks = _mask_folder(folder, names, split)
    clean = None if split else [sample.image for sample in (*normal, *tested)]
    pairs = _pairs(folder, kinds, masks, names, clean)
    anomalous = [
        Sample(image, category, True, mask, kind.name) for kind in kinds for image, mask in pairs[kind].items()
    ]
    return Lists(normal, [*tested, *anomalous], masks is not None or _is_pattern(names))


def divide(normals: Sequence[Sample], share: float) -> tuple[list[Sample], list[Sample]]:
    """Normal images that nothing divides into training and test images, divided by their names alone.

    They are ordered by the sha256 of "split/<name>", the name as in `stem_names`; the first `share` of them, rounded
    half up, are for training.
    """
    names = stem_names([sample.image for sample in normals])
    digests = {image: hashlib.sha256(f"split/{name}".encode()).hexdigest() for image, name in names.items()}
    ordered = sorted(normals, key=lambda sample: (digests[sample.image], sample.image.suffix))
    count = int(len(ordered) * share + 0.5)
    return ordered[:count], ordered[count:]


def _folded(names: Sequence[str]) -> set[str]:
    return {name.casefold() for name in names}


def _named(parent: Path, names: Sequence[str]) -> list[Path]:
    """The folders in `parent` that are called by one of the names, or lie at one of the paths."""
    plain = _folded([name for name in names if "/" not in name])
    found = [folder for folder in list_folders(parent) if folder.name.casefold() in plain]
    return found + [parent / name for name in names if "/" in name and (parent / name).is_dir()]


def _kinds(folder: Path, test: Path, names: FolderNames) -> list[Path]:
    """The folders of anomalous images, one for each kind."""
    if names.abnormal:
        kinds = _named(test, names.abnormal)
    else:
        masks = PurePosixPath(names.masks or "").parts[:1]
        other = _folded((*names.normal, *names.normal_test, *((*MASK_FOLDERS, *masks) if test == folder else ())))
        kinds = [path for path in list_folders(test) if path.name.casefold() not in other]
    for kind in kinds:
        _check_inside(kind, "anomalous", "normal", names.normal)
    return kinds


def _check_inside(folder: Path, label: str, other: str, others: Sequence[str]) -> None:
    if inner := _named(folder, [name for name in others if "/" not in name]):
        raise DataError(
            f"{folder} would be read as {label} images, but holds {inner[0].name}/, a name of {other} ones. "
            "If it is a category, the root must hold categories alone; else name the folders: normal=…, abnormal=…"
        )


def _mask_folder(folder: Path, names: FolderNames, split: bool) -> Path | None:
    if _is_pattern(names):
        return None
    usual = MASK_FOLDERS[:1] if split else MASK_FOLDERS
    return next((folder / name for name in ([names.masks] if names.masks else usual) if (folder / name).is_dir()), None)


def _pairs(
    folder: Path, kinds: Sequence[Path], masks: Path | None, names: FolderNames, clean: Sequence[Path] | None
) -> dict[Path, dict[Path, Path | None]]:
    """The images of each kind with their masks; None where a category has no masks.

    `clean` are the normal images where one folder may hold the masks of all kinds; None where each has its own.
    """
    if _is_pattern(names):
        return {
            kind: {image: _by_pattern(folder, kind, image, names) for image in _images(folder, kind, names)}
            for kind in kinds
        }
    if masks is None:
        return {kind: dict.fromkeys(list_images(kind)) for kind in kinds}
    if clean is None:
        _check_kinds(kinds, masks, names)
    elif not any((masks / kind.name).is_dir() for kind in kinds):
        return _shared(kinds, masks, clean)
    return {kind: {**pair_masks(kind, masks / kind.name)} for kind in kinds}


def _check_kinds(kinds: Sequence[Path], masks: Path, names: FolderNames) -> None:
    """Refuse masks of a kind that has no folder of images."""
    known = {kind.name for kind in kinds} | {path.name for path in _named(masks, names.normal)}
    for stranger in list_folders(masks) if not names.abnormal else []:
        if stranger.name not in known and (first := list_images(stranger)):
            raise DataError(f"mask without image: {first[0]} belongs to {stranger.name!r}, which has no test images.")


def _shared(kinds: Sequence[Path], masks: Path, normal: Sequence[Path]) -> dict[Path, dict[Path, Path | None]]:
    """One folder of masks for all kinds; masks that bear the name of a normal image alone are left out."""
    images = {image: name for kind in kinds for image, name in names_below(kind).items()}
    clean = {*stem_names(normal).values()} - {*images.values()}
    marked = {mask: name for mask, name in names_below(masks).items() if name.removesuffix("_mask") not in clean}
    pairs = pair_by_name(images, marked, masks)
    return {kind: {image: pairs[image] for image in list_images(kind)} for kind in kinds}


def _is_pattern(names: FolderNames) -> bool:
    return bool(names.masks and "<" in names.masks)


def _normal_images(folder: Path, folders: Sequence[Path], names: FolderNames) -> list[Path]:
    for each in folders:
        _check_inside(each, "normal", "anomalous", names.abnormal or ANOMALOUS_FOLDERS)
    return [image for each in folders for image in _images(folder, each, names)]


def _images(folder: Path, kind: Path, names: FolderNames) -> list[Path]:
    """The images of a folder without the masks that a pattern puts beside them."""
    images = list_images(kind)
    beside = {_place(folder, kind, image, names) for image in images} if _is_pattern(names) else set()
    return [image for image in images if image not in beside]


def _place(folder: Path, kind: Path, image: Path, names: FolderNames) -> Path:
    """Where a pattern puts the mask of an image: beside it, or below the category's folder if it has a slash."""
    pattern = (names.masks or "").replace("<kind>", kind.name)
    stem = image.relative_to(kind).with_suffix("").as_posix()
    if "/" in pattern:
        return folder / pattern.replace("<stem>", stem)
    return image.parent / pattern.replace("<stem>", image.stem)


def _by_pattern(folder: Path, kind: Path, image: Path, names: FolderNames) -> Path:
    mask = _place(folder, kind, image, names)
    if not mask.is_file():
        raise DataError(f"anomalous image without mask: {image} needs {mask}, by the pattern {names.masks!r}.")
    return mask
