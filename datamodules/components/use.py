"""What of the files below a root a data set uses, and why it leaves out the others."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from datamodules.components.layouts import is_hidden, is_image, walk
from datamodules.components.sample import Sample

#: Names of folders of masks, for the reason that is given.
MASK_WORDS = ("ground_truth", "masks", "mask")
#: Files that a line names.
EXAMPLES = 3


class Use(NamedTuple):
    """Counts of the files that are used, and the others by the reason why they are not."""

    images: int
    masks: int
    ignored: dict[str, list[str]]  # reason → files, relative to the root, posix, sorted

    def lines(self) -> list[str]:
        """One line for what is used and one for each reason, with a few files as examples."""
        found = [f"used: {self.images} images and {self.masks} masks"]
        for reason, files in self.ignored.items():
            more = f" and {len(files) - EXAMPLES} more" if len(files) > EXAMPLES else ""
            found.append(f"ignored, {reason}: {len(files)} ({', '.join(files[:EXAMPLES])}{more})")
        return found


def account(root: Path, used: Iterable[Sample], unchosen: Iterable[Sample], lists: Collection[Path]) -> Use:
    """Every file below a root: used or not, and why.

    Args:
        root: folder of the data set.
        used: the samples of the chosen categories.
        unchosen: those of the other ones.
        lists: files that say what is used.
    """
    used = list(used)
    images, masks = {sample.image for sample in used}, {sample.mask for sample in used if sample.mask}
    others = {path for sample in unchosen for path in (sample.image, sample.mask)}
    ignored: dict[str, list[str]] = {}
    for path in walk(root):
        if path not in images and path not in masks and path not in lists:
            reason = "of a category that was not chosen" if path in others else _reason(path, root, bool(lists))
            ignored.setdefault(reason, []).append(path.relative_to(root).as_posix())
    return Use(len(images), len(masks), dict(sorted(ignored.items())))


def _reason(path: Path, root: Path, listed: bool) -> str:
    folders = [part.casefold() for part in path.relative_to(root).parts[:-1]]
    if is_hidden(path, root):
        return "hidden"
    if not is_image(path):
        return "not an image format"
    if {*folders} & {*MASK_WORDS}:
        return "mask of no anomalous test image"
    if "train" in folders:
        return "in train, but no normal image"
    return "not in the list" if listed else "in no folder that the layout reads"
