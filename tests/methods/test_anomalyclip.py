"""AnomalyCLIP against a transcription that shares no code with it, its options, and what it refuses."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch.testing import assert_close

from datamodules.components.sample import Batch
from methods.anomalyclip import AnomalyCLIP
from methods.components.clip.backbone import Tokens
from tests.support.plain_faprompt import dice, focal, image_tower, text_tower

SIZE, VV_FROM = 64, 1  # 5 of 24 blocks are 1 of 8
CHOICES = [((8,), {}), ((2, 4, 6, 8), {"layers": (0.25, 0.5, 0.75, 1.0)})]  # blocks of 8, and the settings behind


def build(backbone, seed=0, **settings):
    """Prompts larger than initialised, so that they matter."""
    torch.manual_seed(seed)
    method = AnomalyCLIP(backbone, {"nut": "nut"}, AnomalyCLIP.Config(**settings))
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.mul_(4)
    return method.eval()


def noise_images(count):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))


def noise_batch(count=3):
    mask = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
    mask[-1, 10:30, 16:48] = True
    return Batch(noise_images(count), mask, mask.any(dim=(1, 2)), ["nut"] * count, [f"{i}.png" for i in range(count)])


def transcribe(method, images, blocks):
    """Logits (B, 2) and maps of each of L blocks, (L, B, 2, SIZE, SIZE), with gradients to the prompts."""
    backbone = method.backbone
    clip = backbone.clip
    texts = [f"{'X ' * 12}object.", f"{'X ' * 12}damaged object."]
    ids = backbone.tokenizer(texts, context_length=77)
    rows = []
    for row, context in zip(clip.token_embedding(ids), (method.normal_ctx, method.anomalous_ctx), strict=True):
        rows.append(torch.cat([row[:1], context, row[13:]]))
    text = F.normalize(text_tower(clip, ids, torch.stack(rows), list(method.deep.blocks)), dim=-1)
    cls, layers = image_tower(clip, (images - backbone.mean) / backbone.std, VV_FROM, blocks)
    probabilities = (layers @ text.T / 0.07).softmax(dim=-1).transpose(-1, -2)  # (L, B, 2, N)
    grid = probabilities.reshape(-1, 2, 4, 4)
    maps = F.interpolate(grid, SIZE, mode="bilinear", align_corners=False)
    return cls @ text.T / 0.07, maps.unflatten(0, (len(blocks), -1))


@torch.no_grad()
@pytest.mark.parametrize(("blocks", "settings"), CHOICES, ids=["last", "four"])
def test_predicts_what_the_transcription_predicts(backbone, blocks, settings):
    method, images = build(backbone, **settings), noise_images(3)
    logits, maps = transcribe(method, images, blocks)
    both_ways = ((maps[:, :, 1] + 1 - maps[:, :, 0]) / 2).sum(dim=0)  # the released sum over layers
    expected = np.stack([gaussian_filter(each, sigma=4 * SIZE / 518) for each in both_ways.numpy()])
    score, anomaly_map = method(images, ["nut"] * 3)
    assert_close(score, logits.softmax(dim=1)[:, 1], atol=2e-6, rtol=0)
    assert_close(len(blocks) * anomaly_map, torch.from_numpy(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("blocks", "settings"), CHOICES, ids=["last", "four"])
@pytest.mark.parametrize("count", [1, 3])
def test_loss_and_gradients_of_the_transcription(backbone, count, blocks, settings):
    method, batch = build(backbone, **settings), noise_batch(count)
    logits, maps = transcribe(method, batch.image, blocks)
    mask = batch.mask.float()
    local = [focal(m, mask) + dice(m[:, 1], mask) + dice(m[:, 0], 1 - mask) for m in maps]
    expected = 4 * sum(local) + F.cross_entropy(logits, batch.label.long())
    loss = method.loss(batch)
    assert_close(loss, expected, atol=1e-5, rtol=1e-6)
    parameters = list(method.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, parameters), strict=True):
        assert_close(ours, theirs, atol=1e-4 * theirs.abs().max().item(), rtol=0)


def test_loss_is_the_weighted_sum_of_its_terms(backbone):
    method, batch = build(backbone, local_weight=2.5), noise_batch()
    terms = method.loss_terms(batch)
    assert_close(method.loss(batch), terms.image_ce + 2.5 * (terms.focal + terms.dice_anomalous + terms.dice_normal))


def test_sizes_of_the_paper():
    tokens = Tokens(torch.zeros(2, 77, dtype=torch.long), torch.zeros(2, 77, 768))
    backbone = SimpleNamespace(
        embed_dim=768, text_width=768, n_image_blocks=24, n_text_blocks=12, tokenize=lambda texts: tokens
    )
    method = AnomalyCLIP(backbone, {})
    assert method.config.local_weight == 4
    assert (method.vv_from, method.layers) == (5, (24,))
    shapes = {name: tuple(parameter.shape) for name, parameter in method.named_parameters()}
    deep = {f"deep.blocks.{i}": (4, 768) for i in range(8)}
    assert shapes == {"normal_ctx": (12, 768), "anomalous_ctx": (12, 768)} | deep
    assert method.state_dict().keys() == shapes.keys()
    (group,) = method.configure_optimizers().param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (1e-3, (0.5, 0.999), 1e-8, 0)


def test_the_default_is_the_first_release_too(backbone):
    """Its four layers were all the last one, by an addition in place, and had no weight."""
    method, batch = build(backbone), noise_batch()
    logits, maps = transcribe(method, batch.image, (8, 8, 8, 8))
    mask = batch.mask.float()
    local = [focal(m, mask) + dice(m[:, 1], mask) + dice(m[:, 0], 1 - mask) for m in maps]
    expected = sum(local) + F.cross_entropy(logits, batch.label.long())
    assert_close(method.loss(batch), expected, atol=1e-5, rtol=1e-6)


def test_options_change_what_they_name(backbone):
    images = noise_images(2)
    plain = build(backbone)(images, ["nut"] * 2)
    normed = build(backbone, class_norm=True)(images, ["nut"] * 2)
    assert torch.equal(plain.anomaly_map, normed.anomaly_map)
    assert (plain.score - normed.score).abs().min() > 1e-4
    rounded = build(backbone, round_deep_prompts=True)(images, ["nut"] * 2)
    assert 0 < (plain.score - rounded.score).abs().max() < 1e-2
    late = build(backbone, vv_from=6)(images, ["nut"] * 2)
    assert torch.equal(plain.score, late.score)
    assert not torch.equal(plain.anomaly_map, late.anomaly_map)


def test_encodes_the_texts_once_until_they_change(backbone, monkeypatch):
    method, counts, encode = build(backbone), [], backbone.encode_text
    monkeypatch.setattr(backbone, "encode_text", lambda t, **s: counts.append(len(t.ids)) or encode(t, **s))
    for _ in range(3):
        before = method(noise_images(2), ["nut"] * 2)
    assert counts == [2]
    method.load_state_dict(build(backbone, seed=1).state_dict())
    assert not torch.equal(method(noise_images(2), ["nut"] * 2).score, before.score)
    assert counts == [2, 2]


def test_what_does_not_fit_is_refused(backbone):
    with pytest.raises(RuntimeError, match="size mismatch for normal_ctx"):
        build(backbone).load_state_dict(build(backbone, n_ctx=5).state_dict())
    with pytest.raises(ValueError, match="n_ctx must be 1 or more; got 0"):
        build(backbone, n_ctx=0)
    with pytest.raises(ValueError, match="fractions of the depth"):
        build(backbone, layers=(6.0,))
    batch = noise_batch()
    with pytest.raises(ValueError, match="Masks must have the size of the images"):
        build(backbone).loss(batch._replace(mask=batch.mask[:, :32, :32]))
