"""AF-CLIP against a transcription that shares no code with it, its terms one by one, and what it refuses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from datamodules.components.sample import Batch
from methods.af_clip import AFCLIP, average, misalignment, patch_targets
from tests.support.plain_af_clip import Plain, averaged

SIZE, BLOCKS = 80, (2, 8)  # 5 x 5 patches
SETTINGS = {"layers": (0.3, 1.0), "heads": 3, "head_width": 5, "n_ctx": 4, "temperature": 0.3, "gamma": 3.0}
SETTINGS |= {"sigma": 20.0, "sigma_at": 400, "map_weight": 0.7, "alignment_weight": 2.5, "text_weight": 0.4}


def build(backbone, seed=0, **settings):
    """What is learnt is larger than initialised, so that it matters and tokens differ after the attention."""
    torch.manual_seed(seed)
    method = AFCLIP(backbone, {"nut": "nut"}, AFCLIP.Config(**SETTINGS | settings))
    with torch.no_grad():
        method.ctx.mul_(20)
        method.attention.norm.bias.normal_()
        method.attention.queries.weight.mul_(10)
        method.attention.keys.weight.mul_(10)
    return method.eval()


def noise_images(count, seed=3):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def noise_batch(count=3):
    """One image has a square mark, the next a mask whose edge leaves exactly half of some patches."""
    mask = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
    mask[-1, 16:48, 16:64] = True
    mask[-2:-1, 40:80, 32:48] = True
    return Batch(noise_images(count), mask, mask.any(dim=(1, 2)), ["nut"] * count, [f"{i}.png" for i in range(count)])


def transcription(method):
    backbone = method.backbone
    plain = Plain(backbone.clip, backbone.tokenizer, dict(method.named_parameters()), BLOCKS)
    plain.heads, plain.tau, plain.gamma = 3, 0.3, 3.0
    return plain


def normalised(method, images):
    return (images - method.backbone.mean) / method.backbone.std


@pytest.mark.parametrize("shots", [0, 2])
def test_predicts_what_the_transcription_predicts(backbone, shots):
    method, images = build(backbone), noise_images(2)
    known = noise_images(shots, seed=8)
    if shots:
        method.adapt(known, "nut")
    score, anomaly_map = method(images, ["nut"] * 2)
    plain = transcription(method)
    for i, image in enumerate(normalised(method, images)):
        expected, smoothed = plain.predict(image, list(normalised(method, known)), 0.4, sigma=20 * SIZE / 400)
        assert float(score[i]) == pytest.approx(expected, abs=5e-6)
        assert np.abs(anomaly_map[i].numpy() - smoothed).max() < 1e-5


def test_terms_and_gradients_of_the_transcription(backbone):
    method, batch = build(backbone), noise_batch()
    plain, terms = transcription(method), method.loss_terms(batch)
    expected = plain.terms(normalised(method, batch.image), batch.mask.float())
    assert {0.5} < set(plain.target(batch.mask.float()).flatten().tolist())
    assert expected["alignment"] > 1e-4
    for name, value in terms._asdict().items():
        assert_close(value, expected[name], atol=2e-6, rtol=1e-5, msg=lambda told, name=name: f"{name}: {told}")
    local = 0.7 * (expected["map_focal"] + expected["map_l1"])
    total = expected["image_focal"] + local + 2.5 * expected["alignment"]
    loss, parameters = method.loss(batch), list(method.parameters())
    assert_close(loss, total, atol=2e-6, rtol=1e-5)
    for ours, theirs in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(total, parameters), strict=True):
        assert_close(ours, theirs, atol=2e-4 * theirs.abs().max().item() + 1e-9, rtol=0)


@pytest.mark.parametrize("side", [1, 3, 5])
def test_average_of_neighbours(side):
    patches = torch.randn(2, 36, 7, generator=torch.Generator().manual_seed(0))
    found = average(patches, (6, 6), side)
    for one, other in zip(found, patches, strict=True):
        with_class = torch.cat([torch.zeros(1, 7), other])
        assert_close(one, averaged(with_class, side)[1:], atol=1e-6, rtol=0)


def test_average_of_a_grid_that_is_not_square():
    patches = torch.ones(1, 12, 1)
    found = average(patches, (3, 4), 3).view(3, 4)
    assert_close(found[1, 1:3], torch.ones(2))  # weights sum to 1
    assert found[0, 0] < found[0, 1] < 1  # zeros lie beyond the edge


@pytest.mark.parametrize(("columns", "wanted"), [(0, 0.0), (7, 0.0), (8, 0.5), (9, 1.0), (16, 1.0)])
def test_targets_of_patches_that_an_edge_crosses(columns, wanted):
    """A patch of 16 pixels is read between its pixels 7 and 8."""
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[:, :, :columns] = True
    assert patch_targets(mask, (2, 2))[0].tolist() == [wanted, 0.0, wanted, 0.0]


def test_patches_of_one_kind_are_aligned_and_marks_drawn_apart():
    near, far = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), dim=-1)
    target = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    apart = torch.stack([near, near, far, far]).unsqueeze(0)
    assert misalignment(apart, target).item() == pytest.approx(-1)
    assert misalignment(apart[:, [0, 2, 1, 3]], target).item() == pytest.approx(0.5 - 0.5)
    assert misalignment(apart[:, [0, 2, 2, 0]], target).item() == pytest.approx(0)
    for one_kind in (torch.zeros(1, 4), torch.ones(1, 4), torch.full((1, 4), 0.5)):
        assert misalignment(apart, one_kind) <= 0


def test_a_batch_without_a_mark_has_no_alignment_and_finite_gradients(backbone):
    method, batch = build(backbone), noise_batch()
    clean = batch._replace(mask=torch.zeros_like(batch.mask), label=torch.zeros_like(batch.label))
    terms = method.loss_terms(clean)
    assert terms.alignment == 0
    method.loss(clean).backward()
    assert all(p.grad.isfinite().all() for p in method.parameters())


def test_shots_change_what_is_predicted_and_nothing_that_is_learnt(backbone):
    method, images = build(backbone), noise_images(2)
    before, state = method(images, ["nut"] * 2), {k: v.clone() for k, v in method.state_dict().items()}
    method.adapt(images[:1], "nut")
    score, anomaly_map = method(images, ["nut"] * 2)
    assert all(torch.equal(state[k], v) for k, v in method.state_dict().items())
    assert_close(score[0], 0.4 * before.score[0], atol=1e-6, rtol=0)  # the shot itself is at no distance
    assert_close(anomaly_map[0], 0.4 * before.anomaly_map[0], atol=1e-6, rtol=0)
    assert score[1] > 0.4 * before.score[1] + 1e-3


def test_sizes_on_the_tower_of_the_paper(backbone, monkeypatch):
    for name, value in (("image_width", 1024), ("text_width", 768), ("n_image_blocks", 24)):
        monkeypatch.setattr(backbone, name, value)
    method = AFCLIP(backbone, {})
    shapes = {name: tuple(parameter.shape) for name, parameter in method.named_parameters()}
    assert method.taps == (6, 12, 18, 24)
    assert shapes == {
        "ctx": (12, 768),
        "attention.norm.weight": (1024,),
        "attention.norm.bias": (1024,),
        **{f"attention.{name}.weight": (512, 1024) for name in ("queries", "keys", "values")},
        "attention.out.weight": (1024, 512),
        "attention.out.bias": (1024,),
    }
    assert 0.005 < method.ctx.std() < 0.02
    (group,) = method.configure_optimizers().param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.5, 0.999), 0)


def test_encodes_the_texts_once_until_they_change(backbone, monkeypatch):
    method, counts, encode = build(backbone), [], backbone.encode_text
    monkeypatch.setattr(backbone, "encode_text", lambda t, **s: counts.append(len(t.ids)) or encode(t, **s))
    for _ in range(3):
        method(noise_images(1), ["nut"])
    assert counts == [2]


def test_what_does_not_fit_is_refused(backbone):
    longest = 5  # start, "without", "defect", ".", end
    build(backbone, n_ctx=77 - longest)
    for n_ctx in (0, 77 - longest + 1):
        with pytest.raises(ValueError, match=f"n_ctx must be 1 to 72.*got {n_ctx}"):
            build(backbone, n_ctx=n_ctx)
    batch = noise_batch()._replace(mask=torch.zeros(3, 32, 32, dtype=torch.bool))
    with pytest.raises(ValueError, match="Masks must have the size of the images"):
        build(backbone).loss(batch)
