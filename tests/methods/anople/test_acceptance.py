"""What AnoPLe must do whatever its weights: shapes, gradients, views, harmonic mean, alignment, and that it learns."""

import math

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from datamodules.components.reading import Item, collate
from methods.anople.losses import evidence_alignment
from methods.anople.method import AnoPLe
from methods.anople.simulation import cut
from methods.components.clip.backbone import CLIPBackbone
from methods.components.scoring import log_harmonic_mean
from methods.components.synthesis.views import cut_views
from tests.methods.anople.test_method import build, distances, noise_batch, noise_images, remembered


def narrow_clip(side, patch):
    """A random CLIP of width 32 and 2 blocks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = open_clip.CLIP(
            embed_dim=32,
            vision_cfg={"image_size": side, "layers": 2, "width": 32, "head_width": 16, "patch_size": patch},
            text_cfg={"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
        )
    return CLIPBackbone(clip, open_clip.SimpleTokenizer())


def tokens_in(tower, run):
    """Tokens of one pass through the first block of a tower."""
    seen = []
    handle = tower.resblocks[0].register_forward_pre_hook(lambda block, args: seen.append(args[0].shape[1]))
    try:
        run()
    finally:
        handle.remove()
    return seen


def test_token_counts_at_240_pixels():
    backbone = narrow_clip(240, 16)
    method = AnoPLe(backbone, {"nut": "nut"}, AnoPLe.Config(decoder_width=16))
    prompts = method.prompts()
    images = torch.rand(1, 3, 240, 240)
    vision = tokens_in(backbone.clip.visual.transformer, lambda: method.encode(images, prompts))
    assert vision == [1 + 1 + 8 + 225]
    assert method.texts.ids.shape == (1, 2, 77)
    assert method.texts.ids[0, 0, 9:].tolist() == backbone.tokenize(["nut."]).ids[0, 1:69].tolist()


@pytest.mark.parametrize("term", ["dice", "focal", "image", "alignment"])
def test_each_loss_reaches_what_is_learnt(backbone, term):
    """Each row of prompts, projections and prefix; the decoder from all but the image's loss."""
    method = build(backbone).train()
    getattr(method.loss_terms(noise_batch(("pixel",) * 3)), term).backward()
    for rows in (method.prompts.text, method.prompts.visual, method.prefix):
        assert rows.grad.norm(dim=-1).min() > 0
    for linear in (*method.prompts.to_text, *method.prompts.to_visual):
        assert linear.weight.grad.norm() > 0
    for parameter in method.reader.decoder.parameters():
        assert (parameter.grad is None) if term == "image" else parameter.grad.norm() > 0
    assert all(p.grad is None for p in backbone.parameters())


def test_the_test_path_touches_the_first_prefix_alone(backbone):
    method = remembered(build(backbone))
    before = method(noise_images(2), ["nut", "pcb"])
    score, anomaly_map = method.predict(noise_images(2), ["nut", "pcb"])
    (score.sum() + anomaly_map.sum()).backward()
    grad = method.prefix.grad.norm(dim=-1)
    assert grad[0] > 0
    assert (grad[1:] == 0).all()
    with torch.no_grad():
        method.prefix[1:] = float("nan")
    assert_close(method(noise_images(2), ["nut", "pcb"]), before, rtol=0, atol=0)


@torch.no_grad()
def test_a_test_image_is_the_whole_view_of_a_fit(backbone):
    method, batch = build(backbone), noise_batch(("normal",) * 3)
    views, prompts = cut(batch, 5, backbone.patch_size), method.prompts()
    assert views.view.tolist() == [0, 1, 2, 3, 4] * 3
    together = method.encode(views.image, prompts, views.view)
    alone = method.encode(cut_views(batch.image)[:, 0], prompts)
    assert_close(together.image[::5], alone.image)
    assert_close(together.patches[:, ::5], alone.patches)
    assert not torch.allclose(together.image[1::5], method.encode(views.image[1::5], prompts).image)


def test_views_carry_their_own_masks_and_labels(backbone):
    """A pixel anomaly in the first tile alone; a latent one covers whole tokens; a normal image nothing."""
    batch = noise_batch()
    batch.mask[1] = False
    batch.mask[1, 12:28, 12:28] = True  # of the tile of 64 pixels, tokens of 16
    batch.mask[2] = batch.mask[1]
    views = cut(batch, 5, 16)
    corner = [True, True, False, False, False]
    assert views.label.view(3, 5).tolist() == [[False] * 5, corner, corner]
    assert torch.equal(views.mask[6], batch.mask[1, :64, :64])
    noised = views.noised.view(3, 5, 4, 4)
    assert not noised[:2].any()
    assert noised[2, 1].nonzero().tolist() == [[1, 1]]  # of 12 x 12 pixels; its neighbours hold less than a quarter
    assert noised[2, 0].nonzero().tolist() == [[0, 0]]
    whole = views.mask[11].nonzero()
    assert (whole.min().item(), whole.max().item(), len(whole)) == (16, 31, 256)
    assert cut(noise_batch(("normal", "pixel"), ("nut", "pcb")), 5, 16).noised is None


def test_latent_noise_changes_masked_views_alone(backbone):
    method, batch = build(backbone), noise_batch(("latent", "latent"), ("nut", "pcb"))
    batch.mask[1] = False
    views, prompts = cut(batch, 5, 16), method.prompts()
    plain = method.encode(views.image, prompts, views.view)
    noised = method.encode(views.image, prompts, views.view, edit=method._noise(views.noised))
    moved = (plain.image - noised.image).norm(dim=-1)
    assert (moved > 1e-4).tolist() == views.noised.any(dim=1).tolist()
    assert method.latent_block == 4


def test_harmonic_mean():
    a = torch.tensor([0.2, 0.7, 1.0])
    assert_close(log_harmonic_mean(a.log(), a.log()).exp(), a)
    assert log_harmonic_mean(a.log(), torch.zeros(3).log()).exp().max() == 0
    assert log_harmonic_mean(torch.zeros(1).log(), torch.zeros(1).log()).exp().isfinite().all()


def test_a_shot_is_no_distance_from_its_own_bank(backbone):
    method = remembered(build(backbone))
    assert distances(method, noise_images(2, 1), ["nut", "nut"]).max() < 1e-6


def test_alignment_against_hand_values():
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    patches = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).expand(3, 2, 2)
    evidence = torch.tensor([[1.0, 1.0], [0.9, 0.0], [0.3, 0.4]])
    each = [1 - math.sqrt(0.5), 1.0, 0.4]
    for row in range(3):
        counted = torch.arange(3) == row
        assert evidence_alignment(image, patches, evidence, counted).item() == pytest.approx(each[row])
    everything = evidence_alignment(image, patches, evidence, torch.ones(3, dtype=torch.bool))
    assert everything.item() == pytest.approx(sum(each) / 3)
    assert evidence_alignment(-image, patches, evidence, torch.tensor([False, True, False])).item() == pytest.approx(1)
    assert evidence_alignment(-patches[:, 0], patches[:, :1], evidence[:, :1], counted).item() == pytest.approx(2)


def test_alignment_counts_for_nothing_without_an_anomaly(backbone):
    method = build(backbone)
    terms = method.loss_terms(noise_batch(("normal",) * 3))
    assert terms.alignment == 0
    terms.alignment.backward()
    assert all(p.grad is None or not p.grad.any() for p in method.parameters())


@pytest.mark.parametrize(("side", "still"), [("none", ()), ("image", (0,)), ("patches", (1, 2))])
def test_alignment_moves_the_sides_that_are_asked(side, still):
    parts = [torch.rand(2, 3), torch.rand(2, 4, 3), torch.rand(2, 4)]
    parts = [part.requires_grad_() for part in parts]
    evidence_alignment(*parts, torch.tensor([True, True]), side).backward()
    assert tuple(i for i, part in enumerate(parts) if part.grad is None) == still


def toy_images(category, count, seed=0, side=128):
    """Two classes: grey grain, and red stripes with grain."""
    grain = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 0.2
    if category == "stripes":
        grain[:, 0] += 0.6 * (torch.arange(side) % 16 < 8).float()
        return grain
    return grain + 0.4


@pytest.mark.slow
def test_overfits_a_toy_set_and_its_bank_separates_an_inserted_square():
    backbone = narrow_clip(64, 8)
    torch.manual_seed(0)
    names = {"grain": "grain", "stripes": "stripes"}
    config = AnoPLe.Config(decoder_width=32, lr=5e-3, lr_decoder=5e-3, steps=40, map_size=64)
    method = AnoPLe(backbone, names, config)
    items = []
    for category in names:
        clean, dirty = toy_images(category, 2)
        dirty[:, 32:72, 40:80] = torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)
        mask = torch.zeros(128, 128, dtype=torch.bool)
        items.append(Item(clean, mask.clone(), False, category, "", "normal"))
        mask[32:72, 40:80] = True
        items.append(Item(dirty, mask, True, category, "", "pixel"))
    batch, optimizer = collate(items), method.configure_optimizers()["optimizer"]
    losses = []
    for group in optimizer.param_groups:
        group["lr"] = 5e-3
    for _ in range(40):
        loss = method.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        method.configure_gradient_clipping(optimizer)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3
    for category in names:
        method.adapt(F.avg_pool2d(toy_images(category, 2), 2), category)
    score, anomaly_map = method(F.avg_pool2d(batch.image, 2), batch.category)
    assert min(score[1], score[3]) > max(score[0], score[2])
    marked = F.max_pool2d(batch.mask[1:2].float(), 2)[0] > 0
    for row in (1, 3):
        assert anomaly_map[row][marked].mean() > 2 * anomaly_map[row][~marked].mean()
    fresh = F.avg_pool2d(toy_images("stripes", 1, seed=5), 2)
    fresh[:, :, 8:24, 8:24] = 1 - fresh[:, :, 8:24, 8:24]
    apart = distances(method, fresh, ["stripes"]).view(8, 8)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[1:3, 1:3] = True
    assert apart[inside].min() > apart[~inside].max()
