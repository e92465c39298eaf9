"""What is looked at before anything runs, so that a night's campaign does not end at a broken file."""

import difflib
import os
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from datamodules.components.decoding import check_image, marks_anything
from datamodules.components.sample import DataError, Sample

#: Bytes of a category's name: a file of results bears it with a few more.
LONGEST_NAME = 100


def check_root(root: Path, layout: str, source: str) -> None:
    """Raise DataError unless the root is a folder that holds something.

    Args:
        root: folder of the data set.
        layout: what is expected below it, for the message.
        source: where the data can be had, for the message.
    """
    expected = f"Expected {layout}. The data: {source}"
    if not root.is_dir():
        raise DataError(f"the data root {root} does not exist or is no folder. {expected}")
    if not any(root.iterdir()):
        raise DataError(f"the data root {root} is empty. {expected}")


def check_category(
    category: str, normals: Sequence[Sample], tests: Sequence[Sample], shots: int, *, masks_known: bool
) -> None:
    """Raise DataError unless the lists of one category can be used.

    Looks at the numbers of images, at labels against masks, at images listed twice (a test image among the
    normal training images is a leak), then at every file: header, end, a mask's size against its image's, and
    whether the mask marks anything. A set of test images may be normal or anomalous alone.
    """
    if not tests:
        raise DataError(f"no test images of {category!r}.")
    if len(normals) < shots:
        raise DataError(f"{category!r} has {len(normals)} normal training images, fewer than the {shots} shots asked.")
    seen: set[Path] = set()
    for sample in (*normals, *tests):
        if sample.image in seen:
            raise DataError(f"{sample.image} is listed twice for {category!r}: once in training and test, or doubly.")
        seen.add(sample.image)
        check_sample(sample, masks_known=masks_known)


def check_sample(sample: Sample, *, masks_known: bool) -> None:
    """Raise DataError unless label, mask and files of a sample agree; of pixels the mask's alone are decoded."""
    _check_label(sample, masks_known)
    _check_files(sample)


def _check_label(sample: Sample, masks_known: bool) -> None:
    if sample.mask is not None and not sample.anomalous:
        raise DataError(f"{sample.image} is normal but has the mask {sample.mask}.")
    if masks_known and sample.anomalous and sample.mask is None:
        raise DataError(f"anomalous image without mask: {sample.image}.")


def _check_files(sample: Sample) -> None:
    size = check_image(sample.image)
    if sample.mask is None:
        return
    mask_size = check_image(sample.mask)
    if mask_size != size:
        raise DataError(
            f"the mask {sample.mask} is {mask_size.width}x{mask_size.height} pixels, "
            f"but its image {sample.image.name} is {size.width}x{size.height} (width x height)."
        )
    status = sample.mask.stat()
    if not _marks(sample.mask, status.st_mtime_ns, status.st_size):
        raise DataError(f"the mask {sample.mask} marks no pixel, but its image {sample.image.name} is anomalous.")


@lru_cache(maxsize=100_000)
def _marks(mask: Path, changed: int, length: int) -> bool:
    """Whether a mask marks any pixel; a file of the same time and length is decoded once in a process."""
    return marks_anything(mask)


def check_name(name: str, what: str, root: Path) -> None:
    """Raise DataError unless a name that was found can be that of a folder.

    Args:
        name: of a category, or what else names a folder.
        what: "category", for the message.
        root: where it was found.
    """
    wrong = [character for character in name if character in "/\\" or unicodedata.category(character) in ("Cc", "Cf")]
    if wrong or name in ("", ".", "..") or name != name.strip() or len(os.fsencode(name)) > LONGEST_NAME:
        raise DataError(
            f"{name!r} in {root} cannot name a {what}: it must have 1 to {LONGEST_NAME} bytes, be neither . nor .., "
            "hold no slash, backslash or control character, and neither start nor end with a blank. Rename it."
        )


def check_names(names: Sequence[str], allowed: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple, if each is allowed and none repeated; else DataError with the nearest allowed name."""
    for name in names:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise DataError(f"unknown category {name!r}.{hint} Allowed: {', '.join(allowed)}.")
    if not names or len({*names}) < len(names):
        raise DataError(f"categories must name at least one category and none twice, got {list(names)}.")
    return tuple(names)
