"""AnoVL: V-V attention, prompts that know the domain, an adapter fitted on each test image; no training before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.anovl.adapter import FitSettings, adapt, fit_adapter
from methods.anovl.draws import content_seeds
from methods.anovl.views import altered
from methods.anovl.words import ANOMALOUS_STATES, ANY, NORMAL_STATES, OF_OBJECTS, OF_TEXTURES, compose
from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone
from methods.components.maps import class_probabilities
from methods.components.prediction import Finish, Prediction
from methods.components.scoring import to_grid


class AnoVL(Method["AnoVL.Config"]):
    """AnoVL (Deng et al., 2023, arXiv:2308.15939; AnoCLIP and AnoCLIP+ in later versions), zero-shot.

    The score is the mean over 22 views of the image of the anomalous probability of the class token. The map is that
    of the last block's patches in a V-V stream through all blocks, after an adapter that is fitted on the patches of
    this image alone, then thrown away (test-time training); it is averaged over 3 x 3 patches and enlarged.

    As released (hq-deng/AnoVL 3a70bfd), besides the words of the prompts, which are ours, with these departures. Each
    image begins with an optimiser of its own: in the release moments pass from image to image while the weights are
    sampled anew, so that results depend on the order. Weights and noise are drawn from the image's content, so that
    neither order nor batch matters and one seed is enough. Names are the suite's, not the data sets' keys. For VisA
    the release has another adapter and two crops of each image: left out, one method serves both sets.
    """

    paper = "https://arxiv.org/abs/2308.15939"
    published = ("AnoVL",)
    protocols = ("zero_shot",)
    needs = ("text_tower", "patch_tokens", "category")

    pairs: Tensor  # (categories, 2, D), row 0 normal, row 1 anomalous
    texts: Tensor  # (categories, T, D), unit features of all texts

    @dataclass(kw_only=True)
    class Config:
        """Settings, all stated by the released code.

        Attributes:
            vv_attention: False takes the map from the ordinary stream.
            domain_words: False names every picture a photo: 154 texts a side in place of 462.
            textures: categories whose pictures are named as those of textures; MVTec AD's. All others are objects.
            unit_texts: whether texts become unit vectors before their mean, as CLIP's ensembles do; the release takes
                the mean of their features as they are.
            views: False scores the image as it is.
            adapter: False takes the map from the patches as they are.
            adapter_steps: of the fit on one image.
            lr: AdamW's learning rate in it.
            weight_decay: weight decay of AdamW, of its five steps on an image.
            noise: deviation of the noise that makes a patch anomalous in it.
            draw: another number draws other weights and other noise.
            temperature: divisor of the logits of every softmax. 1 holds all probabilities near a half; the fit sees it.
        """

        vv_attention: bool = True
        domain_words: bool = True
        textures: tuple[str, ...] = ("carpet", "grid", "leather", "tile", "wood")
        unit_texts: bool = False
        views: bool = True
        adapter: bool = True
        adapter_steps: Annotated[int, ">= 0"] = 5
        lr: Annotated[float, "> 0"] = 1e-3
        weight_decay: Annotated[float, ">= 0"] = 0.01
        noise: Annotated[float, ">= 0"] = 0.055
        draw: Annotated[int, ">= 0"] = 0
        temperature: Annotated[float, "> 0"] = 1.0

    def __init__(self, backbone: CLIPBackbone, categories: Mapping[str, str], config: Config | None = None) -> None:
        super().__init__(backbone, categories, config)
        self.rows = {category: row for row, category in enumerate(self.categories)}
        encoded = [self._encode_texts(category, words) for category, words in self.categories.items()]
        self.register_buffer("pairs", torch.stack([pair for pair, _ in encoded]), persistent=False)
        self.register_buffer("texts", torch.stack([texts for _, texts in encoded]), persistent=False)
        if self.config.adapter:
            self.remarks.append("fitted on each test image: an adapter of its patches, thrown away after its map")

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        if unknown := sorted(set(categories) - set(self.rows)):
            raise ValueError(f"categories must be among {', '.join(self.rows)}; got {', '.join(unknown)}.")
        rows = [self.rows[category] for category in categories]
        features = self.backbone.encode_image(
            images,
            layers=(self.backbone.n_image_blocks,),
            stream="vv_from_ordinary" if self.config.vv_attention else "ordinary",
            normalise=False,
        )
        patches = self._adapt(features.patches[0], images, rows)  # (B, N, D)
        probabilities = class_probabilities(patches, self.pairs[rows], self.config.temperature)[..., 1]
        averaged = average_neighbours(to_grid(probabilities, features.grid))  # (B, rows, columns)
        size = (images.shape[2], images.shape[3])
        score = self._score(F.normalize(features.image, dim=-1), images, self.pairs[rows])
        return Prediction(score, averaged, Finish(size, align_corners=True))

    def _encode_texts(self, category: str, words: str) -> tuple[Tensor, Tensor]:
        """The normal and the anomalous feature of a category, (2, D), and unit features of all its texts, (T, D)."""
        pictures = (
            (OF_TEXTURES if category in self.config.textures else OF_OBJECTS) if self.config.domain_words else ANY
        )
        texts = [compose(states, words, pictures) for states in (NORMAL_STATES, ANOMALOUS_STATES)]
        with torch.no_grad():
            tokens = self.backbone.tokenize([*texts[0], *texts[1]])
            raw = self.backbone.encode_text(tokens, normalise=False)  # (T, D)
        unit = F.normalize(raw, dim=-1)
        means = (unit if self.config.unit_texts else raw).view(2, len(texts[0]), -1).mean(dim=1)
        return F.normalize(means, dim=-1), unit

    @torch.no_grad()
    def _adapt(self, patches: Tensor, images: Tensor, rows: Sequence[int]) -> Tensor:
        """Unit patch features, (B, N, D), after the adapter of each image."""
        cfg = self.config
        if not cfg.adapter:
            return F.normalize(patches, dim=-1)
        settings = FitSettings(cfg.adapter_steps, cfg.lr, cfg.weight_decay, cfg.noise)
        pairs, texts, seeds = self.pairs[rows] / cfg.temperature, self.texts[rows], content_seeds(images, cfg.draw)
        return adapt(patches, fit_adapter(patches, pairs, texts, seeds, settings), texts)

    def _score(self, image: Tensor, images: Tensor, pairs: Tensor) -> Tensor:
        """Mean anomalous probability over the views, (B,); `image` are the unit features (B, D) of the first."""
        views = [image]
        if self.config.views:
            views += [self.backbone.encode_image(view).image for view in altered(images)]
        seen = torch.stack(views, dim=1)  # (B, V, D)
        return class_probabilities(seen, pairs, self.config.temperature)[..., 1].mean(dim=1)


def average_neighbours(grid: Tensor) -> Tensor:
    """Mean over 3 x 3 patches of grids (B, rows, columns), the outermost repeated over the edge."""
    padded = F.pad(grid.unsqueeze(1), (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(padded, kernel_size=3, stride=1).squeeze(1)
