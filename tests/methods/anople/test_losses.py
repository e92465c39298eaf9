"""Dice counts what it can see: views with an anomaly."""

import pytest
import torch
from torch.testing import assert_close

from methods.anople.losses import anomalous_dice_loss
from methods.anople.simulation import cut
from methods.components.losses import dice_loss
from tests.methods.anople.test_method import build, noise_batch


def random_case():
    """Three images of 24 pixels, of which the second has an empty mask."""
    generator = torch.Generator().manual_seed(0)
    probability, mask = torch.rand(3, 4, 6, generator=generator), torch.rand(3, 4, 6, generator=generator) > 0.6
    mask[1] = False
    return probability, mask


def test_dice_of_the_images_with_an_anomaly_by_hand():
    probability, mask = random_case()
    losses = []
    for row in (0, 2):
        p, m = probability[row].flatten().tolist(), mask[row].flatten().tolist()
        overlap = sum(a for a, b in zip(p, m, strict=True) if b)
        losses.append(1 - (2 * overlap + 1) / (sum(p) + sum(m) + 1))
    assert_close(anomalous_dice_loss(probability, mask).item(), sum(losses) / 2, atol=1e-6, rtol=0)


def test_one_anomalous_pixel_is_an_anomaly_and_none_is_no_loss():
    probability, mask = random_case()
    mask[:] = False
    assert anomalous_dice_loss(probability, mask) == 0
    mask[1, 3, 5] = True
    assert_close(anomalous_dice_loss(probability, mask), dice_loss(probability[1:2], mask[1:2]))


def test_maps_of_normal_views_get_no_gradient_from_dice():
    """Where Dice of all images pulls at a map that is nearly zero already, over a thousand times its height."""
    for loss, pulled in ((dice_loss, True), (anomalous_dice_loss, False)):
        probability = torch.full((1, 64, 64), 1e-4, requires_grad=True)
        (loss(probability, torch.zeros(1, 64, 64, dtype=torch.bool)) + 0 * probability.sum()).backward()
        assert (probability.grad.sum() > 1000) == pulled
    certain = torch.full((1, 64, 64), 0.5, requires_grad=True)
    dice_loss(certain, torch.zeros(1, 64, 64, dtype=torch.bool)).backward()
    assert certain.grad.sum() < 1e-2  # at 1 and without a way down


@pytest.mark.parametrize("dice_on", ["anomalous", "all"])
def test_the_method_asks_for_the_views_of_its_setting(backbone, dice_on):
    method = build(backbone, dice_on=dice_on)
    normal, mixed = (method.loss_terms(noise_batch(kinds)).dice for kinds in (("normal",) * 3, ("normal", "pixel")))
    assert (normal == 0) == (dice_on == "anomalous")
    assert mixed > 0
    assert build(backbone).config.dice_on == "anomalous"


@pytest.mark.parametrize(("views", "every"), [("all", 1), ("whole", 5)])
def test_a_fit_tells_how_frequent_anomalous_views_were(backbone, views, every):
    method, batch = build(backbone, image_views=views), noise_batch()
    method.loss(batch)
    labels = cut(batch, 5, backbone.patch_size).label[::every]
    assert method.terms["anomalous"] == labels.float().mean()
    assert method.terms.keys() == {"dice", "focal", "image", "alignment", "anomalous"}
    everything = build(backbone, image_texts="all")
    everything.loss(batch)
    assert "anomalous" not in everything.terms  # a guess would have to know the category too
