"""What is looked at before anything runs, so that a night's campaign does not end at a broken file."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from datamodules.components.reading import check_image
from datamodules.components.sample import DataError, Sample


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
    normal training images is a leak), then at every file: header, end, and a mask's size against its image's.
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
