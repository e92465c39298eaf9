"""Cheats, or stops half way, in the way it is told to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from datamodules.components.sample import Batch
from methods.components.base import Method
from methods.components.prediction import Prediction


class ToyCheats(Method):
    paper = "https://example.org/toy"
    protocols = ("few_shot",)
    fits_on = "shots"
    max_epochs = 2

    @dataclass(kw_only=True)
    class Config:
        batch_size: int = 1
        how: Literal[
            "no", "label", "maybe_label", "path", "stop_predict", "stop_hook", "stop_loss", "skip_epoch", "alter"
        ] = "no"

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.level = nn.Parameter(torch.rand(()))
        self.known = None
        self.batches = 0

    def on_test_batch_start(self, batch, batch_idx, dataloader_idx=0):
        self.batches += 1
        if self.config.how == "label":
            self.known = batch.label.float()
        if self.config.how == "maybe_label":
            label = getattr(batch, "label", None)
            self.known = None if label is None else label.float()
        if self.config.how == "path":
            images = self.trainer.test_dataloaders.dataset.images
            self.known = torch.tensor([float(images[i][0].parent.name != "good") for i in batch.indices])
        if self.config.how == "stop_hook" and batch_idx == 1:
            next(iter(()))

    def on_train_batch_start(self, batch, batch_idx):
        return -1 if self.config.how == "skip_epoch" and batch_idx == 1 else None

    def loss(self, batch: Batch) -> Tensor:
        if self.config.how == "stop_loss":
            next(iter(()))
        return ((batch.image - self.level) ** 2).mean()

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        if self.config.how == "stop_predict" and self.batches > 1:
            next(iter(()))
        if self.config.how == "alter":
            self.backbone.clip.visual.conv1.weight.data.mul_(2)
            self.backbone.encode_image(images, taps=(2, 4, 6, 8))  # what nearest_patch asks for
        distance = (images - self.level).abs().mean(dim=1)
        score = distance.mean(dim=(1, 2)) if self.known is None else self.known
        return Prediction(score, distance)
