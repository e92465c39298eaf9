"""The embedded CLIP sees: on held-out textures it is above its own towers with random weights."""

import pytest
import torch
from pixel_oracle import labelled

from benchmark.metrics.accumulate import PixelMetrics
from datamodules.components.fit_data import FitData
from datamodules.procedural import Procedural
from methods.components.clip.backbone import CLIPBackbone
from methods.components.prompts import ensemble
from methods.components.scoring import log_text_probability, to_map


@torch.no_grad()
def pixel_auroc(pretrained, data):
    backbone = CLIPBackbone.load("embedded", pretrained)
    text = torch.stack([ensemble(backbone, [f"a photo of a {state} object."]) for state in ("flawless", "damaged")])
    metrics = PixelMetrics()
    for batch in data.fit_loader(FitData("labelled")):
        patches = backbone.encode_image(batch.image, layers=(backbone.n_image_blocks,)).patches[0]
        maps = to_map(log_text_probability(patches, text, 0.07).exp(), backbone.grid_size, (144, 144))
        metrics.update(maps, labelled(batch.mask))
    return metrics.compute()["pixel_AUROC"].value


@pytest.mark.slow
@pytest.mark.parametrize("category", ["corduroy", "tiles"])
def test_held_out_textures_are_above_random_weights(category, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    config = Procedural.Config(train=1, normal=4, per_defect=4)
    data = Procedural(None, (category,), image_size=144, config=config)
    data.prepare_data()
    assert pixel_auroc("demo", data) > pixel_auroc("random", data) + 0.05
