"""Every method that fuses harmonically, at the temperature of a trained CLIP: the order of its patches is kept."""

import math

import pytest
import torch

from methods.anople.method import AnoPLe
from methods.components.clip.backbone import CLIPBackbone, ImageFeatures
from methods.finegrainedad.method import FineGrainedAD
from methods.promptad import PromptAD
from methods.winclip import WinCLIP

N_IMAGES, GRID = 40, (4, 4)
METHODS = {
    "promptad": (PromptAD, {"logit_scale_as": "exponential", "states": "generic", "map_size": 4, "sigma": 0}),
    "finegrainedad": (
        FineGrainedAD,
        {"logit_scale_as": "exponential", "states": "generic", "map_size": 4, "sigma": 0, "region_weight": 0},
    ),
    "anople": (AnoPLe, {"decoder": False, "map_size": 4, "sigma": 0, "memory_layers": (1.0,)}),
    "winclip": (WinCLIP, {"scales": (1,)}),
}


@pytest.fixture
def trained(backbone, monkeypatch):
    """A CLIP at scale 100 that sees in each patch what `seen` says, and finds all patches alike to the memory."""
    other = CLIPBackbone(backbone.clip, backbone.tokenizer)
    other.logit_scale = math.log(100)
    monkeypatch.setattr("methods.components.memory.nearest_distance", lambda kind, _: torch.full(kind.shape[:-1], 0.2))
    return other


def text_pairs(method):
    """The texts that a method compares patches with, (2, D)."""
    backbone = method.backbone
    if isinstance(method, AnoPLe):
        return method.read_texts(method.prompts())[0]
    return method.text[0] if isinstance(method, WinCLIP) else method.seg.prototypes(backbone, ["thing"])[0].view(2, -1)


@pytest.mark.parametrize("name", METHODS)
@torch.no_grad()
def test_the_order_of_patches_survives_at_scale_100(trained, monkeypatch, name):
    kind, settings = METHODS[name]
    torch.manual_seed(0)
    method = kind(trained, {"thing": "thing"}, kind.Config(**settings)).eval()
    method.adapt(torch.rand(2, 3, trained.image_size, trained.image_size), "thing")
    normal, anomalous = text_pairs(method).double()
    apart, count = anomalous - normal, N_IMAGES * math.prod(GRID)
    gaps = torch.linspace(-0.85, 0, count).double()  # of both cosines, so that logits differ by 85 to 0
    patches = gaps[:, None] * apart / apart.square().sum()  # of no unit length: this twin's texts are near each other
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    seen = patches[shuffled].float().view(N_IMAGES, math.prod(GRID), -1)

    def see(images, *, layers=(), taps=(), **asked):
        width = trained.image_width
        return ImageFeatures(
            torch.zeros(N_IMAGES, seen.shape[-1]),  # of probability a half
            seen.unsqueeze(0),
            torch.ones(max(1, len(taps)), N_IMAGES, math.prod(GRID), width),
            torch.ones(max(1, len(taps)), N_IMAGES, width),
            GRID,
        )

    monkeypatch.setattr(trained, "encode_image", see)
    monkeypatch.setattr(trained, "encode_windows", lambda images, windows: seen)
    monkeypatch.setattr(WinCLIP, "_associate", lambda self, features, categories: torch.zeros(N_IMAGES, *GRID))
    images = torch.rand(N_IMAGES, 3, trained.image_size, trained.image_size)
    maps = method.predict(images, ["thing"] * N_IMAGES).anomaly_map.flatten()
    assert (maps[shuffled.argsort()].diff() > 0).all()
