"""Base class of all methods: a subclass says how to remember, what to minimise and how to score."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Adam

from datamodules.components.resampling import Augment, unchanged
from datamodules.components.sample import Batch
from methods.components.clip.backbone import CLIPBackbone


class Prediction(NamedTuple):
    """What a method says of a batch. Higher is more anomalous; only the order counts, no range is assumed."""

    score: Tensor  # (B,)
    anomaly_map: Tensor  # (B, h, w), any resolution; the evaluator resizes it


class Method(LightningModule, ABC):
    """A CLIP anomaly detector.

    Class attributes are literals: the registry reads them from the source without importing torch.
    Subclasses implement `predict`; `loss` if they learn; `adapt` if they remember. They never see test
    labels: the base hands `predict` images and category keys alone.
    """

    #: Where the method is published; "" for a baseline that has no paper.
    paper: ClassVar[str]
    #: Protocols the method can honour: "zero_shot", "few_shot", "multi_class", "leave_one_class_out".
    protocols: ClassVar[tuple[str, ...]]
    #: What its parameters are fitted on.
    fits_on: ClassVar[Literal["nothing", "shots", "auxiliary"]] = "nothing"
    #: Epochs of a fit; ignored when nothing is fitted. One with `steps` is one epoch.
    max_epochs: ClassVar[int] = 0
    #: Side of the images of a fit, in sides of the backbone's.
    train_scale: ClassVar[int] = 1
    #: Whether the loss knows the shots from `adapt` and looks at no image of a batch: a fit then reads each one once.
    remembers_shots: ClassVar[bool] = False

    @dataclass(kw_only=True)
    class Config:
        """Named settings, the paper's values as defaults. Fields are literals of plain types or `Literal`.

        A number says its range, `lr: Annotated[float, "> 0"] = 1e-3`: one bound, or two as in ">= 0, < 1"; it holds for
        each element of a tuple, and None stays allowed. A request out of range is refused before anything runs.
        """

    backbone: CLIPBackbone

    def __init__(self, backbone: CLIPBackbone, categories: Mapping[str, str], config: Any = None) -> None:
        """Borrow the backbone.

        Args:
            backbone: the shared frozen CLIP; not a submodule, so neither in `parameters` nor in checkpoints.
            categories: category key to the words that name the object, e.g. {"metal_nut": "metal nut"}.
            config: an instance of the class's `Config`; None takes its defaults.
        """
        super().__init__()
        object.__setattr__(self, "backbone", backbone)
        self.categories = dict(categories)
        self.remarks: list[str] = []  # what a record must say of a run besides its settings
        self.config: Any = type(self).Config() if config is None else config

    @property
    def steps(self) -> int:
        """Batches of a fit on shots drawn with replacement; 0, without such a setting, passes over them in epochs."""
        return getattr(self.config, "steps", 0)

    @property
    def shot_scale(self) -> int:
        """Side of the shots that `adapt` sees, in sides of the backbone's."""
        return 1

    def augmentation(self) -> Augment:
        """What every drawn shot passes through with a seed of its own; no part of the method, since workers take it."""
        return unchanged

    def adapt(self, shots: Tensor, category: str) -> None:
        """See the k normal images of one category, (k, 3, H, W) in [0, 1], once, before fit and test.

        Those of a category that is held out of the fit come after it.
        """

    def loss(self, batch: Batch) -> Tensor:
        """Scalar training loss."""
        raise NotImplementedError(f"{type(self).__name__} fits on {self.fits_on!r} but defines no loss.")

    @abstractmethod
    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        """Score images, (B, 3, H, W) in [0, 1], of B category keys."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        try:
            loss = self.loss(batch)
        except StopIteration as error:
            raise self._stopped("training") from error
        self.log("train/loss", loss, batch_size=len(batch.label), prog_bar=False)
        return loss

    def test_step(self, batch: Batch, batch_idx: int) -> Prediction:  # type: ignore[override]  # the evaluator reads it
        try:
            return self.predict(batch.image, batch.category)
        except StopIteration as error:
            raise self._stopped("test") from error

    def _stopped(self, step: str) -> RuntimeError:
        """Lightning takes a StopIteration for the end of the data, and would end an epoch or a test in silence."""
        return RuntimeError(f"{type(self).__name__} raised StopIteration in a {step} step, as next() of nothing does.")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return Adam(self.parameters(), lr=1e-3)

    @torch.no_grad()
    def forward(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        return self.predict(images, categories)
