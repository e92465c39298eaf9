"""Test images that a method has seen before the test, by content."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datamodules.components.base import AnomalyDataModule
from datamodules.components.content import file_digest
from datamodules.components.sample import Sample


def find_leaks(
    data: AnomalyDataModule, manifest: Mapping[str, Sequence[Mapping[str, str]]], auxiliary: Iterable[Sample]
) -> dict[str, Any]:
    """Test images of a cell whose bytes are also a shot's or an auxiliary image's.

    Args:
        data: the target.
        manifest: the shots of all categories that were seen, with the sha256 of each.
        auxiliary: test images of the data set that was fitted on, if any.

    Returns:
        `tested`, the number of test images, and the names of those in `shots` and in `auxiliary`; those that the data
        set's file declares as known duplicates of it are left out.
    """
    tests = {data.relative(sample.image): file_digest(sample.image) for sample in data.test_samples}
    shots = {shot["sha256"] for its in manifest.values() for shot in its}
    fitted = {file_digest(sample.image) for sample in auxiliary}
    unknown = {name: sha256 for name, sha256 in tests.items() if name not in data.known_duplicates}
    return {
        "tested": len(tests),
        "shots": [name for name, sha256 in unknown.items() if sha256 in shots],
        "auxiliary": [name for name, sha256 in unknown.items() if sha256 in fitted],
    }
