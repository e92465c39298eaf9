"""The vocabulary of this floor: what lies on disk (`Sample`) and what reaches a method (`Batch`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the registry and the plan name errors and roots without loading torch
    from torch import Tensor


class UserError(Exception):
    """Something that the user can mend: `bench` prints the message as one sentence and exits with 2."""


class DataError(UserError):
    """Something is wrong with the data on disk; the message names the file, what is allowed and what came."""


@dataclass(frozen=True, order=True)
class Sample:
    """One image on disk.

    A normal image has no mask file and `defect_type` "good". An anomalous image of a data set without
    masks has none either: `anomalous` is the label, never the presence of a mask.
    """

    image: Path
    category: str
    anomalous: bool = False
    mask: Path | None = None
    defect_type: str = "good"


class Batch(NamedTuple):
    """What a loader of a fit yields."""

    image: Tensor  # (B, 3, H, W) float32 in [0, 1], RGB; the backbone owns CLIP's mean and std
    mask: Tensor  # (B, H, W) bool, True on anomalous pixels
    label: Tensor  # (B,) bool, True for an anomalous image
    category: list[str]  # B keys
    path: list[str]  # B files, relative to the root, posix
    simulated: Sequence[str] = ()  # B kinds of anomaly that a method's `augmentation` made; empty if it has none


class UnlabelledBatch(NamedTuple):
    """What a test loader yields: nothing that tells a normal image from an anomalous one."""

    image: Tensor  # (B, 3, H, W) float32 in [0, 1], RGB
    category: list[str]  # B keys
    indices: Tensor  # (B,) int64, places in the datamodule's `test_samples`
