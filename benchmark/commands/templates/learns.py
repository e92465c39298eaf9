"""One line that `bench list methods` prints: learnt words before the name of a normal and of a damaged object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam, Optimizer

from datamodules.components.sample import Batch
from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone
from methods.components.maps import class_probabilities
from methods.components.prediction import Prediction
from methods.components.prompts import new_prompt, write_context
from methods.components.scoring import to_grid

STATES = ("normal", "damaged")  # row 0 is normal, row 1 anomalous, here as everywhere


class NewMethod(Method["NewMethod.Config"]):
    """What it does, as a formula, and where paper and released code differ.

    The texts are M learnt tokens and "normal NAME.", and the same tokens and "damaged NAME.". The score is the
    probability of the second for the class token, the map that for each patch of the last block. The loss is the
    cross-entropy of the shots, which are all normal.
    """

    # All of these are literals: `bench list` and every plan read them from this text, without running it.
    paper = "https://example.org/new_method"  # "" of a baseline without a paper
    protocols = ("few_shot", "multi_class")  # the first is the default
    needs = ("text_tower", "patch_tokens", "category")  # "category": which category a test image belongs to
    fits_on = "shots"  # or "auxiliary": normal and anomalous images of another data set, with masks
    max_epochs = 10  # the last step counts: nothing is selected by a score

    @dataclass(kw_only=True)
    class Config:
        """Settings: literals of plain types with the paper's values; each is a word `method.new_method.KEY=VALUE`.

        Attributes:
            batch_size: images per step.
            lr: Adam's learning rate.
            n_ctx: M, learnt tokens of each text.
            temperature: divisor of the cosines.
        """

        batch_size: Annotated[int, ">= 1"] = 4  # a number and its range
        lr: Annotated[float, "> 0"] = 2e-3
        n_ctx: Annotated[int, ">= 1"] = 4
        temperature: Annotated[float, "> 0"] = 0.07

    def __init__(
        self,
        backbone: CLIPBackbone,  # frozen and shared: ask it, never change it
        categories: Mapping[str, str],  # key to words: {"metal_nut": "metal nut"}
        config: Config | None = None,
    ) -> None:
        super().__init__(backbone, categories, config)
        self.context = new_prompt(self.config.n_ctx, backbone.text_width)  # (M, W), an nn.Parameter

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=self.config.lr)

    def loss(self, batch: Batch) -> Tensor:
        """What `training_step` of the base minimises: a scalar that every parameter gets a gradient from.

        Terms that it puts into `self.terms`, a name and a scalar each, are logged and kept in the record.
        """
        text = self.encode_text([self.words_of(category) for category in batch.category])  # (B, 2, D)
        features = self.backbone.encode_image(batch.image)
        return F.cross_entropy(self.logits(features.image, text), batch.label.long())

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        """Score B images, (B, 3, H, W) in [0, 1], each as if it were alone; higher is more anomalous."""
        text = self.encode_text([self.categories[category] for category in categories])  # (B, 2, D)
        features = self.backbone.encode_image(images, layers=(self.backbone.n_image_blocks,))
        score = self.logits(features.image, text).softmax(dim=-1)[:, 1]
        patches = class_probabilities(features.patches[0], text, self.config.temperature)[..., 1]  # (B, N)
        return Prediction(score, to_grid(patches, features.grid))  # (B,) and (B, rows, columns)

    def encode_text(self, words: Sequence[str]) -> Tensor:
        """Unit features of both texts of B objects, (B, 2, D); equal words are encoded once."""
        distinct = list(dict.fromkeys(words))
        held = "X " * self.config.n_ctx  # any word of one token holds the place of a learnt one
        tokens = self.backbone.tokenize([f"{held}{state} {name}." for name in distinct for state in STATES])
        prompts = write_context(tokens, self.context.expand(len(tokens.ids), -1, -1))
        features = self.backbone.encode_text(prompts).view(len(distinct), 2, -1)
        return features[[distinct.index(name) for name in words]]

    def logits(self, images: Tensor, text: Tensor) -> Tensor:
        """Cosines of images (B, D) with their two texts (B, 2, D), over the temperature: (B, 2)."""
        return (text @ images.unsqueeze(-1)).squeeze(-1) / self.config.temperature
