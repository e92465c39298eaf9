"""Linear heads against loops that share no code with them, what their settings share, and what they refuse."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from benchmark.contract.candidates import small_backbone
from datamodules.components.sample import Batch
from methods.linear_heads import LinearHeads
from tests.support import plain_linear_heads as loops

SIZE = 80  # another side than the pretraining's 64: 5 x 5 patches
SETTINGS = {"layers": (0.3, 0.7, 1.0), "temperature": 0.2, "local_weight": 2.5, "sigma": 20.0, "sigma_at": 400}
BLOCKS = (2, 6, 8)
VARIANTS = [
    {},
    {"space": "joint"},
    {"split_tasks": False},
    {"split_layers": False},
    {"space": "joint", "split_tasks": False, "split_layers": False},
]


def build(backbone, seed=0, **settings):
    torch.manual_seed(seed)
    return LinearHeads(backbone, {"nut": "nut"}, LinearHeads.Config(**SETTINGS | settings)).eval()


def noise_batch(count=3):
    images = torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
    mask[-1, 10:30, 16:48] = True
    return Batch(images, mask, mask.any(dim=(1, 2)), ["nut"] * count, [f"{i}.png" for i in range(count)])


def transcribe(method, images):
    """Probabilities of class tokens and patches, by the loops."""
    joint, backbone = method.config.space == "joint", method.backbone
    tapped = loops.tokens(backbone.clip, (images - backbone.mean) / backbone.std, BLOCKS, joint=joint)
    vectors = method.vectors.detach().double().numpy()
    per_layer = np.broadcast_to(vectors, (len(vectors), len(BLOCKS), *vectors.shape[2:]))
    return loops.examine(tapped, per_layer[0], per_layer[-1], method.config.temperature)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_predicts_and_loses_what_the_loops_do(backbone, variant):
    method, batch = build(backbone, **variant), noise_batch()
    of_image, of_patches = transcribe(method, batch.image)
    expected, maps = loops.predict(of_image, of_patches, SIZE, sigma=20 * SIZE / 400)
    score, anomaly_map = method(batch.image, ["nut"] * 3)
    assert_close(score, torch.from_numpy(expected).float(), atol=2e-6, rtol=0)
    assert_close(anomaly_map, torch.from_numpy(maps).float(), atol=2e-6, rtol=0)
    found = method.loss(batch).item()
    assert found == pytest.approx(loops.loss(of_image, of_patches, batch.mask.double().numpy(), 2.5), rel=1e-5)


@pytest.mark.parametrize("variant", VARIANTS[:3], ids=str)
def test_gradient_is_the_slope_of_the_loops(backbone, variant):
    method, batch, step = build(backbone, **variant), noise_batch(), 1e-4
    (gradient,) = torch.autograd.grad(method.loss(batch), [method.vectors])
    direction, losses = torch.randn(method.vectors.shape), []
    start = method.vectors.detach().clone()
    for sign in (-1, 1):
        method.vectors.data = start + sign * step * direction
        losses.append(loops.loss(*transcribe(method, batch.image), batch.mask.double().numpy(), 2.5))
    assert (gradient * direction).sum().item() == pytest.approx((losses[1] - losses[0]) / (2 * step), rel=1e-3)


def test_loss_is_the_weighted_sum_of_its_terms(backbone):
    method, batch = build(backbone), noise_batch()
    terms = method.loss_terms(batch)
    assert_close(method.loss(batch), terms.image_ce + 2.5 * (terms.focal + terms.dice_anomalous + terms.dice_normal))


@pytest.mark.parametrize(
    ("settings", "shape", "values"),
    [
        ({}, (2, 4, 2, 1024), 16_384),  # the README says 0.015 M
        ({"space": "joint"}, (2, 4, 2, 768), 12_288),
        ({"split_tasks": False}, (1, 4, 2, 1024), 8_192),
        ({"split_layers": False}, (2, 1, 2, 1024), 4_096),
    ],
)
def test_sizes_on_the_tower_of_the_paper(settings, shape, values):
    backbone = SimpleNamespace(embed_dim=768, image_width=1024, n_image_blocks=24)
    method = LinearHeads(backbone, {}, settings)
    assert method.taps == (6, 12, 18, 24)
    assert method.vectors.shape == shape
    assert sum(p.numel() for p in method.parameters()) == values
    (group,) = method.configure_optimizers().param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-3, (0.5, 0.999), 0)


def test_texts_as_vectors_make_clip_out_of_it(backbone):
    """The control holds what it controls for: with the features of two texts it is the plain CLIP of those texts."""
    method = build(backbone, layers=(1.0,), space="joint")
    text = backbone.encode_text(backbone.tokenize(["a nut.", "a damaged nut."]))  # (2, D)
    method.vectors.data = (3 * text).expand_as(method.vectors).clone()
    images = noise_batch().image
    features = backbone.encode_image(images, layers=(8,))
    assert_close(method(images, ["nut"] * 3).score, (features.image @ text.T / 0.2).softmax(dim=-1)[:, 1])
    assert_close(method.read(images).patches[0], (features.patches[0] @ text.T / 0.2).softmax(dim=-1))


def test_a_fit_tells_square_marks_from_none(backbone):
    """Steps on two images lower the loss, and the marked pixels come to the top of the map."""
    method, batch = build(backbone, layers=(1.0,), sigma=0.0, local_weight=1.0), noise_batch()
    batch.image[-1, :, 16:48, 16:48] = 0.9  # 2 x 2 of 5 x 5 patches
    mask = torch.zeros_like(batch.mask)
    mask[-1, 16:48, 16:48] = True
    batch = batch._replace(mask=mask)
    optimizer, losses = torch.optim.Adam(method.parameters(), lr=1e-2), []
    for _ in range(30):
        loss = method.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    score, anomaly_map = method(batch.image, ["nut"] * 3)
    assert score.argmax() == 2
    inside, outside = anomaly_map[-1][mask[-1]], anomaly_map[-1][~mask[-1]]
    assert inside.mean() > outside.mean() + 0.1


def test_needs_no_text_tower_and_no_category():
    backbone = small_backbone()
    backbone.clip.transformer = backbone.clip.token_embedding = None
    method, batch = build(backbone), noise_batch()
    method.loss(batch).backward()
    one, other = (method(batch.image, [key] * 3).score for key in ("nut", "never heard of"))
    assert torch.equal(one, other)


def test_features_from_a_store_are_the_same_bits(stored, plain):
    batch = noise_batch()
    expected, method = build(plain).loss(batch), build(stored)
    assert torch.equal(method.loss(batch), expected)
    assert torch.equal(method.loss(batch), expected)
    assert stored.store.counts.hits == 3


def test_what_does_not_fit_is_refused(backbone):
    with pytest.raises(ValueError, match="fractions of the depth"):
        build(backbone, layers=(6.0,))
    batch = noise_batch()
    with pytest.raises(ValueError, match="Masks must have the size of the images"):
        build(backbone).loss(batch._replace(mask=batch.mask[:, :32, :32]))
    with pytest.raises(RuntimeError, match="size mismatch for vectors"):
        build(backbone).load_state_dict(build(backbone, space="joint").state_dict())
