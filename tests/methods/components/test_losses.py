"""Losses against hand-made cases and plain loops in float64."""

import math

import pytest
import torch
from torch.testing import assert_close

from datamodules.components.sample import Batch
from methods.components.losses import (
    LocalTerms,
    check_masks,
    dice_loss,
    focal_cross_entropy,
    focal_loss,
    local_terms,
    named_terms,
    orthogonality_loss,
)


def random_maps(count=2, height=3, width=5):
    anomalous = torch.rand(count, height, width, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(count, height, width, generator=torch.Generator().manual_seed(1)) > 0.6
    return torch.stack([1 - anomalous, anomalous], dim=1), mask


def test_focal_loss_pixel_by_pixel():
    maps, mask = random_maps()
    losses = []
    for (normal, anomalous), marked in zip(maps.movedim(1, -1).reshape(-1, 2).tolist(), mask.flatten(), strict=True):
        true, other = (anomalous, normal) if marked else (normal, anomalous)
        p = (1 - 1e-5) * true + 1e-5 * other + 1e-5
        losses.append(-((1 - p) ** 2) * math.log(p))
    assert_close(focal_loss(maps, mask).item(), sum(losses) / len(losses), atol=1e-6, rtol=1e-6)


def test_focal_loss_is_finite_where_the_map_is_certainly_wrong():
    certain = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).requires_grad_()
    loss = focal_loss(certain, torch.ones(1, 1, 1, dtype=torch.bool))
    loss.backward()
    assert_close(loss.item(), -math.log(2e-5), rtol=1e-3, atol=0)
    assert certain.grad.isfinite().all()


def test_dice_loss_of_a_known_overlap():
    """Two images of eight pixels: half of four marked pixels found, and nothing to find and nothing found."""
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0, 0], [0] * 8]).bool().view(2, 2, 4)
    found = torch.tensor([[1, 1, 0, 0, 1, 0, 0, 0], [0] * 8]).float().view(2, 2, 4)
    assert_close(dice_loss(found, mask).item(), ((1 - 5 / 8) + (1 - 1)) / 2)


def test_local_terms_compare_each_class_with_its_own_pixels():
    maps, mask = random_maps()
    focal, anomalous, normal = local_terms(maps, mask)
    assert torch.equal(focal, focal_loss(maps, mask))
    assert torch.equal(anomalous, dice_loss(maps[:, 1], mask))
    assert torch.equal(normal, dice_loss(maps[:, 0], ~mask))
    perfect = torch.stack([~mask, mask], dim=1).float()
    assert max(local_terms(perfect, mask)) < 1e-3


def test_orthogonality_adds_up_all_pairs():
    features = torch.tensor([[3.0, 0.0], [0.0, -2.0], [-1.0, 1.0]])
    assert_close(orthogonality_loss(features).item(), 2 / math.sqrt(2), atol=1e-6, rtol=0)
    assert orthogonality_loss(features[:2]) == 0


@pytest.mark.parametrize("read_as", ["logit", "probability"])
def test_focal_cross_entropy_image_by_image(read_as):
    scores, labels = [0.2, 0.9, 0.6], [False, True, False]
    losses = []
    for score, label in zip(scores, labels, strict=True):
        p = 1 / (1 + math.exp(-score)) if read_as == "logit" else score
        b = -math.log(p if label else 1 - p)
        losses.append((1 - math.exp(-b)) ** 2 * b)
    got = focal_cross_entropy(torch.tensor(scores), torch.tensor(labels), read_as)
    assert_close(got.item(), sum(losses) / 3, atol=1e-6, rtol=0)


def test_masks_of_another_size_are_refused():
    batch = Batch(torch.zeros(1, 3, 8, 6), torch.zeros(1, 8, 6, dtype=torch.bool), torch.tensor([False]), ["a"], ["a"])
    assert check_masks(batch) == (8, 6)
    with pytest.raises(ValueError, match=r"size of the images, 8 x 6,.*got 6 x 8"):
        check_masks(batch._replace(mask=batch.mask.transpose(1, 2)))


def test_terms_are_named_by_their_path_and_hold_no_graph():
    one, two, three = (torch.tensor(float(i), requires_grad=True) for i in range(3))
    terms = {"image": one, "local": LocalTerms(one, two, three), "heads": {"cls": {"margin": three}}}
    found = named_terms(terms)
    assert {name: value.item() for name, value in found.items()} == {
        "image": 0,
        "local.focal": 0,
        "local.dice_anomalous": 1,
        "local.dice_normal": 2,
        "heads.cls.margin": 2,
    }
    assert not any(value.requires_grad for value in found.values())
