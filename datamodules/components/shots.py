"""Which images: the shots that are sampled, and the even choice of a smoke test."""

import hashlib
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from datamodules.components.sample import DataError, Sample

#: Name of the rule of `sample_shots`; stored beside every manifest. A new rule needs a new name.
SHOT_RULE = "sha256-stem-v2"


def sample_shots(normals: Sequence[Sample], shots: int, seed: int) -> list[Sample]:
    """Sample `shots` normal images of one category.

    Images are ordered by the sha256 of "<seed>/<name>" and the first `shots` are taken; the name is that of
    `stem_names`. So the sample depends on names and the seed alone: neither on the root, the names of the category and
    of the folder of normal images, or the format of the files, nor on the order of a directory, other categories or a
    random generator's version. It nests: k shots are the first k of any larger sample.

    Raises:
        DataError: there are fewer than `shots` normal images.
    """
    if shots > len(normals):
        raise DataError(f"shots must be at most the {len(normals)} normal training images that exist, got {shots}.")
    names = stem_names([sample.image for sample in normals])

    def order(sample: Sample) -> tuple[str, str]:
        return hashlib.sha256(f"{seed}/{names[sample.image]}".encode()).hexdigest(), sample.image.suffix

    return sorted(normals, key=order)[:shots]


def stem_names(images: Sequence[Path]) -> dict[Path, str]:
    """Each file's name below the deepest folder that holds all of them, without its ending: posix, Unicode NFC."""
    if not images:
        return {}
    folder = Path(os.path.commonpath([image.parent for image in images]))
    return {
        image: unicodedata.normalize("NFC", image.relative_to(folder).with_suffix("").as_posix()) for image in images
    }


def limit_evenly(tests: Sequence[Sample], limit: int) -> list[Sample]:
    """At most `limit` test images: half normal, half anomalous, each half spread over the given order.

    Where one half has too few, the other fills up; of an odd limit the anomalous half gets one more. The
    given order is kept, so sorted samples spread over the defect types.
    """
    normal = [sample for sample in tests if not sample.anomalous]
    anomalous = [sample for sample in tests if sample.anomalous]
    from_anomalous = min(len(anomalous), max((limit + 1) // 2, limit - len(normal)))
    from_normal = min(len(normal), limit - from_anomalous)
    chosen = {*_spread(normal, from_normal), *_spread(anomalous, from_anomalous)}
    return [sample for sample in tests if sample in chosen]


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    return [samples[i * len(samples) // count] for i in range(count)]
