"""Which normal images are for training, where a publication fixes no split or one by the order of a directory."""

import hashlib
from collections.abc import Sequence
from pathlib import Path


def deal(images: Sequence[Path], tested: float) -> tuple[list[Path], list[Path]]:
    """Divide images by the sha256 of their stems, whatever the order in which they were found.

    Args:
        images: of one category; no two of one stem.
        tested: share that is tested, in [0, 1]; the number is rounded.

    Returns:
        those for training and those for testing, each in the given order.
    """
    order = sorted(images, key=lambda path: hashlib.sha256(path.stem.encode()).hexdigest())
    chosen = {*order[: round(tested * len(order))]}
    return [path for path in images if path not in chosen], [path for path in images if path in chosen]
