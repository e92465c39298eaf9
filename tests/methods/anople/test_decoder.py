"""The decoder begins as plain CLIP, and maps are what a longhand comparison gives."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from methods.anople.decoder import FeatureDecoder, LocalReader
from methods.components.clip.backbone import BackboneError


def build(backbone, **settings):
    torch.manual_seed(0)
    defaults = {"layers": (1.0,), "width": 16, "decode": True, "mask_head": "text", "n_signals": 0}
    return LocalReader(backbone, **defaults | settings)


def wake(module):
    """No weight is zero, so that each matters."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)


def look(backbone, reader, count=2):
    images = torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    return backbone.encode_image(images, layers=(8,), taps=reader.taps)


def texts(count=2):
    return F.normalize(torch.randn(count, 2, 24, generator=torch.Generator().manual_seed(2)), dim=-1)


def test_begins_as_plain_clip(backbone):
    reader = build(backbone)
    features = look(backbone, reader)
    patches, odds = reader(backbone, features, texts(), (20, 28))
    assert_close(patches, features.patches[0])
    cosines = (features.patches[0] @ texts().transpose(1, 2)).view(2, 4, 4, 2).permute(0, 3, 1, 2)
    enlarged = F.interpolate(cosines, (20, 28), mode="bilinear", align_corners=False)
    assert_close(odds.sigmoid(), (math.exp(backbone.logit_scale) * enlarged).softmax(dim=1)[:, 1])


def test_without_decoder_nothing_is_learnt(backbone):
    reader = build(backbone, decode=False)
    assert not list(reader.parameters())
    assert reader.taps == ()
    features = look(backbone, reader)
    assert_close(reader(backbone, features, texts(), (8, 8)).patches, features.patches[0])


def test_size_of_the_paper():
    assert sum(p.numel() for p in FeatureDecoder(896, 256, 640).parameters()) == 1_575_296


def test_reads_all_asked_blocks_after_the_last_norm(backbone):
    reader = build(backbone, layers=(0.5, 1.0))
    wake(reader)
    assert reader.taps == (4, 8)
    features = look(backbone, reader)
    norm = backbone.clip.visual.ln_post
    tokens = torch.cat([norm(features.taps[0]), norm(features.taps[1])], dim=-1)  # (B, N, 2 width)
    expected = reader.decoder(tokens, features.patches[0], features.grid)
    assert_close(reader(backbone, features, texts(), (8, 8)).patches, expected)
    assert_close(expected.norm(dim=-1), torch.ones(2, 16))
    assert not torch.allclose(expected, features.patches[0], atol=1e-2)


def test_decoder_longhand(backbone):
    decoder = FeatureDecoder(6, 8, 5)
    wake(decoder)
    tokens, patches = torch.randn(1, 12, 6), F.normalize(torch.randn(1, 12, 5), dim=-1)
    h = F.linear(tokens, decoder.enter.weight, decoder.enter.bias).view(1, 3, 4, 8).permute(0, 3, 1, 2)
    mixed = h
    for conv, norm in ((decoder.mix[0], decoder.mix[1]), (decoder.mix[3], decoder.mix[4])):
        mixed = F.conv2d(mixed, conv.weight, conv.bias, padding=1)
        mixed = F.gelu(F.group_norm(mixed, 8, norm.weight, norm.bias))
    out = F.conv2d(h + mixed, decoder.leave.weight, decoder.leave.bias)
    expected = F.normalize(out.permute(0, 2, 3, 1).reshape(1, 12, 5) + patches, dim=-1)
    assert_close(decoder(tokens, patches, (3, 4)), expected)


def test_signals_change_what_is_decoded(backbone):
    reader = build(backbone, n_signals=5)
    wake(reader)
    assert reader.signals.shape == (5, 48)
    features = look(backbone, reader)
    first, second = (reader(backbone, features, texts(), (8, 8), torch.tensor([row, row])).patches for row in (0, 3))
    assert not torch.allclose(first, second, atol=1e-3)


def test_conv_head_gives_odds_and_reads_no_text(backbone):
    reader = build(backbone, mask_head="conv")
    wake(reader)
    features = look(backbone, reader)
    odds = reader(backbone, features, texts(), (20, 28)).odds
    assert odds.shape == (2, 20, 28)
    assert_close(odds, reader(backbone, features, -texts(), (20, 28)).odds)


def test_what_does_not_fit_is_refused(backbone):
    with pytest.raises(ValueError, match="multiple of 8, 8 or more; got 12"):
        build(backbone, width=12)
    with pytest.raises(BackboneError, match="mask_head is one of text, conv; got 'mlp'"):
        build(backbone, mask_head="mlp")
    with pytest.raises(ValueError, match="fractions of the depth"):
        build(backbone, layers=())
