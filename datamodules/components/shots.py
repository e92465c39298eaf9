"""Which images: the shots that are sampled, and the even choice of a smoke test."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from datamodules.components.sample import DataError, Sample

#: Name of the rule of `sample_shots`; stored beside every manifest. A new rule needs a new name.
SHOT_RULE = "sha256-name-v1"


def sample_shots(normals: Sequence[Sample], shots: int, seed: int, root: Path) -> list[Sample]:
    """Sample `shots` normal images of one category.

    Images are ordered by the sha256 of "<seed>/<category>/<path relative to the root, posix>" and the first
    `shots` are taken. So the sample depends on names and the seed alone (not on the order of a directory, the
    place of the root, other categories or a random generator's version), and it nests: k shots are the first
    k of any larger sample.

    Raises:
        DataError: there are fewer than `shots` normal images.
    """
    if shots > len(normals):
        raise DataError(f"shots must be at most the {len(normals)} normal training images that exist, got {shots}.")

    def order(sample: Sample) -> str:
        name = f"{seed}/{sample.category}/{sample.image.relative_to(root).as_posix()}"
        return hashlib.sha256(name.encode()).hexdigest()

    return sorted(normals, key=order)[:shots]


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
