"""Every way to alter the shared CLIP in place breaks its seal, and what was written meanwhile is taken back."""

import copy
import types

import pytest
import torch
from torch import nn

from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.seal import checksum, seal
from methods.components.feature_store.store import FeatureStore

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
LARGER = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def own(backbone) -> CLIPBackbone:
    """A backbone that a test may alter."""
    return CLIPBackbone(copy.deepcopy(backbone.clip), copy.deepcopy(backbone.tokenizer))


def swap_two_words(backbone):
    """Equal sums, also of what tells two floats from their negatives."""
    row = backbone.clip.visual.conv1.weight.data.view(-1)
    row[1], row[3] = row[3].item(), row[1].item()


def negate_every_other(backbone):
    backbone.clip.visual.proj.data[:, 1::2].neg_()


def double_every_other(backbone):
    backbone.clip.visual.proj.data[:, 1::2].mul_(2)


def one_bit(backbone):
    backbone.clip.token_embedding.weight.data.view(torch.int32)[49407, 31] ^= 1


@torch.no_grad()
def in_place(backbone):
    backbone.clip.ln_final.bias.add_(1e-7)


def swap_module(backbone):
    backbone.clip.visual.ln_pre = copy.deepcopy(backbone.clip.visual.ln_pre)


def swap_parameter_for_a_cast_one(backbone):
    backbone.clip.visual.half()


def hook(backbone):
    backbone.clip.visual.transformer.resblocks[3].register_forward_hook(lambda *_: None)


def override(backbone):
    backbone.encode_image = lambda *arguments, **settings: None


def override_deep_within(backbone):
    attention = backbone.clip.visual.transformer.resblocks[5].attn
    attention.forward = types.MethodType(lambda self, *arguments: None, attention)


def other_class(backbone):
    backbone.clip.visual.ln_post.__class__ = type("Norm", (nn.LayerNorm,), {})


def keep_positions(backbone):
    backbone.encode_image(LARGER)
    next(iter(backbone._positions.values()))[1].neg_()


def restate_the_hash(backbone):
    backbone.weights_hash = "0" * 64


def other_words(backbone):
    backbone.tokenizer.encoder["bottle</w>"] = 7


def other_tokenizer(backbone):
    backbone.tokenizer = copy.copy(backbone.tokenizer)


ALTERATIONS = {
    swap_two_words: "backbone.clip.visual.conv1.weight was altered",
    negate_every_other: "backbone.clip.visual.proj was altered",
    double_every_other: "backbone.clip.visual.proj was altered",
    one_bit: "backbone.clip.token_embedding.weight was altered",
    in_place: "backbone.clip.ln_final.bias was altered",
    swap_module: "backbone.clip.visual.ln_pre was altered",
    swap_parameter_for_a_cast_one: "backbone.clip.visual.proj was altered",
    hook: "backbone.clip.visual.transformer.resblocks.3._forward_hooks was altered",
    override: "backbone.encode_image was added",
    override_deep_within: "backbone.clip.visual.transformer.resblocks.5.attn.forward was added",
    other_class: "the class of backbone.clip.visual.ln_post was altered",
    lambda b: b.clip.visual.proj.requires_grad_(True): "backbone.clip.visual.proj was altered",
    lambda b: nn.Module.train(b): "backbone.clip.visual.training was altered",
    lambda b: b.mean.zero_(): "backbone.mean was altered",
    lambda b: b.clip.attn_mask.zero_(): "backbone.clip.attn_mask was altered",
    lambda b: b.clip.register_buffer("more", torch.zeros(1)): "backbone.clip.more was added",
    lambda b: delattr(b.clip.visual, "proj"): "backbone.clip.visual.proj was removed",
    lambda b: setattr(b, "precision", "bf16"): "backbone.precision was altered",
    lambda b: setattr(b, "position_resize", "open_clip"): "backbone.position_resize was altered",
    lambda b: setattr(b, "logit_scale", 4.0): "backbone.logit_scale was altered",
    lambda b: setattr(b, "image_size", 80): "backbone.image_size was altered",
    lambda b: setattr(b.clip.visual, "grid_size", (3, 3)): "backbone.clip.visual.grid_size was altered",
    keep_positions: "backbone._positions of ((6, 6), 'bilinear', device(type='cpu')) were altered",
    restate_the_hash: "backbone.weights_hash was altered",
    other_words: "backbone.tokenizer.encoder was altered",
    other_tokenizer: None,  # the one that is equal in all parts
}


@pytest.mark.slow
@pytest.mark.parametrize("alter", ALTERATIONS, ids=lambda alter: alter.__name__)
def test_an_alteration_breaks_the_seal_by_name(own, alter):
    sealed = seal(own)
    alter(own)
    expected = ALTERATIONS[alter] or "backbone.tokenizer was altered"
    assert expected in sealed.broken(own)


def test_use_breaks_nothing(own, tmp_path):
    sealed = seal(own)
    own.store = FeatureStore(tmp_path, 2**24)
    own.encode_image(IMAGES, layers=(2,), stream="vv_from_ordinary")
    own.encode_image(LARGER)
    own.encode_text(own.tokenize(["a photo of a bottle"]))
    own.store = None
    own.train()
    assert sealed.broken(own) == []


@pytest.mark.slow
def test_a_patched_class_stays_broken_for_a_seal_that_is_taken_later(own, monkeypatch):
    seal(own)
    with monkeypatch.context() as patch:
        patch.setattr(CLIPBackbone, "encode_text", lambda *arguments: None)
        assert seal(own).broken(own) == ["methods.components.clip.backbone.CLIPBackbone.encode_text was patched"]
    assert seal(own).broken(own) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (13, 5), (2**18 + 3,)])
def test_a_checksum_sees_a_change_of_any_element(dtype, shape):
    tensor = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    before = checksum(tensor)
    assert checksum(tensor.clone()) == before
    for index in {0, tensor.numel() // 2, tensor.numel() - 1}:
        changed = tensor.clone()
        changed.view(-1)[index] = 1 - int(changed.view(-1)[index])
        assert checksum(changed) != before


def test_a_checksum_is_of_the_values_in_their_order_however_they_lie():
    grid = torch.arange(35.0).view(5, 7)
    assert checksum(grid.T) == checksum(grid.T.contiguous()) != checksum(grid)
    assert checksum(grid.view(-1)[1:]) == checksum(torch.arange(1.0, 35.0))
    assert checksum(grid.flip(0)) != checksum(grid)
    words = torch.arange(2**18, dtype=torch.int64)
    for one, other in ((0, 1), (5, 2**15 + 5)):  # within a chunk and across chunks
        swapped = words.clone()
        swapped[one], swapped[other] = words[other], words[one]
        assert checksum(swapped) != checksum(words)
    zeros = torch.tensor([0.0, -0.0])
    assert checksum(zeros) != checksum(zeros.flip(0))
    assert checksum(torch.empty(0)) == checksum(torch.empty(0, 3))


def test_entries_of_an_altered_tower_are_taken_back(own, tmp_path):
    own.store = FeatureStore(tmp_path, 2**24)
    honest = own.encode_image(IMAGES[:1])
    sealed = seal(own)
    own.store.mark()
    own.clip.visual.proj.data.neg_()
    false = own.encode_image(IMAGES)
    assert torch.equal(false.image[0], honest.image[0])  # recalled, so that the alteration does not show
    assert sealed.broken(own) == ["backbone.clip.visual.proj was altered"]
    assert own.store.forget() == 1
    own.clip.visual.proj.data.neg_()
    assert len(list(tmp_path.rglob("*.features"))) == 1
    assert torch.equal(own.encode_image(IMAGES).image[1], -false.image[1])
    own.store.mark()
    assert own.store.forget() == 0
    assert len(list(tmp_path.rglob("*.features"))) == 2
