"""What a method asks of a datamodule for its fit."""

from typing import Literal, NamedTuple

from datamodules.components.resampling import Augment, unchanged


class FitData(NamedTuple):
    """What a method is fitted on, in its own words; the datamodule makes the loader of it."""

    #: Nothing; the shots of all categories; or the test images, normal and anomalous, of all categories with masks,
    #: of a data set that is not the target.
    images: Literal["nothing", "shots", "labelled"]
    batch_size: int | None = None  # None takes the datamodule's
    scale: int = 1  # side of the images and their masks, in sides of the datamodule's
    steps: int = 0  # batches of an epoch, images resampled evenly; 0 shows each image once
    augment: Augment = unchanged  # what each resampled image passes through; used with `steps` alone
    repeats: int = 1  # times in a row that a resampled image is shown; `batch_size` counts it once
    once: bool = False  # batches are read once and kept: each epoch has the same ones in the same order
