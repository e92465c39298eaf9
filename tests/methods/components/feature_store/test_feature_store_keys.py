"""Every part of a request, of the model and of the images has its own answer in the feature store."""

import copy

import open_clip
import pytest
import torch

from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.cached_passes import arithmetic


def _images(n, *, seed=5, size=64):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def _assert_same(got, wanted):
    assert got.grid == wanted.grid
    for one, other in zip(got[:4], wanted[:4], strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype == torch.float32
        assert torch.equal(one, other)


BASE = {"layers": (8, 3), "stream": "vv_from_ordinary", "vv_from": 2, "taps": (2,)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"layers": (8,)},
        {"layers": (3, 8)},
        {"layers": (7, 3)},
        {"stream": "vv_from_itself"},
        {"stream": "ordinary"},
        {"vv_from": 1},
        {"taps": (1,)},
        {"taps": ()},
        {"tap_point": "next_attention"},
        {"class_norm": False},
        {"normalise": False},
    ],
    ids=str,
)
def test_each_part_of_the_request_has_its_own_answer(plain, stored, change):
    images = _images(1)
    stored.encode_image(images, **BASE)
    _assert_same(stored.encode_image(images, **BASE | change), plain.encode_image(images, **BASE | change))
    assert stored.store.counts[:2] == (0, 2)


@pytest.mark.parametrize("kind", ["a pixel", "a shape with equal bytes", "a larger image"])
def test_other_images_have_other_answers(plain, stored, kind):
    images = torch.rand(1, 3, 32, 128, generator=torch.Generator().manual_seed(1))
    stored.encode_image(images, **BASE)
    if kind == "a pixel":
        images = images.clone()
        images[0, 2, 31, 127] = torch.nextafter(images[0, 2, 31, 127], torch.tensor(2.0))
    else:
        images = images.view(1, 3, 128, 32) if "shape" in kind else torch.nn.functional.pad(images, (0, 16))
    _assert_same(stored.encode_image(images, **BASE), plain.encode_image(images, **BASE))
    assert stored.store.counts[:2] == (0, 2)


def _with_changed(backbone, change):
    clip = copy.deepcopy(backbone.clip)
    settings = {}
    if change == "a weight":
        clip.visual.transformer.resblocks[6].mlp.c_fc.weight.data[0, 0] += 1e-3
    elif change == "activation":
        for block in clip.visual.transformer.resblocks:
            block.mlp.gelu = open_clip.transformer.QuickGELU()
    elif change == "heads":
        for block in clip.visual.transformer.resblocks:
            block.attn.num_heads, block.attn.head_dim = 6, 8
    elif change == "mean":
        open_clip.set_model_preprocess_cfg(clip, {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)})
    else:
        settings = {"position resize": {"position_resize": "open_clip"}, "precision": {"precision": "bf16"}}[change]
    return CLIPBackbone(clip, backbone.tokenizer, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["a weight", "activation", "heads", "mean", "position resize", "precision"])
def test_other_models_have_other_answers(stored, backbone, change):
    images = _images(1, size=80)
    before = stored.encode_image(images, **BASE)
    other = _with_changed(backbone, change)
    wanted = other.encode_image(images, **BASE)
    other.store = stored.store
    _assert_same(other.encode_image(images, **BASE), wanted)
    assert (wanted.image - before.image).abs().max() > 0
    assert stored.store.counts[:2] == (0, 2)


def test_other_arithmetic_and_code_have_other_answers(stored):
    images = _images(1)
    stored.encode_image(images)
    former = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        stored.encode_image(images)
    finally:
        torch.set_float32_matmul_precision(former)
    assert stored.store.counts[:2] == (0, 2)
    stored.store.code = "another"
    stored.encode_image(images)
    assert stored.store.counts[:2] == (0, 3)
    assert arithmetic(torch.device("cuda")) != arithmetic(torch.device("cpu"))
