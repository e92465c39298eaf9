"""CoOp against a transcription that shares no code with it, AnomalyCLIP where both are one, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from datamodules.components.sample import Batch
from datamodules.mvtec_ad import MVTecAD
from methods.anomalyclip import AnomalyCLIP
from methods.coop import CoOp
from tests.support.plain_coop import Plain
from tests.support.twins import write_mvtec_ad

SIZE, WORDS = 80, {"nut": "metal nut", "pcb": "board", "cap": "bottle cap"}
KEYS = ["pcb", "nut", "pcb"]
SETTINGS = {"n_ctx": 5, "sigma": 20.0, "sigma_at": 400, "temperature": 0.05}
VARIANTS = [
    {},
    {"context": "per_state", "local_weight": 2.5},
    {"states": ("", "damaged"), "stream": "vv_from_ordinary", "vv_from": 3, "local_weight": 1.0},
]


def build(backbone, seed=0, words=WORDS, **settings):
    """Contexts larger than initialised, so that they matter."""
    torch.manual_seed(seed)
    method = CoOp(backbone, words, CoOp.Config(**SETTINGS | settings))
    with torch.no_grad():
        method.ctx.mul_(4)
    return method.eval()


def noise_batch(keys=KEYS, size=SIZE):
    images = torch.rand(len(keys), 3, size, size, generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(len(keys), size, size, dtype=torch.bool)
    mask[-1, 10:30, 16:48] = True
    return Batch(images, mask, mask.any(dim=(1, 2)), list(keys), [f"{i}.png" for i in range(len(keys))])


def transcription(method):
    backbone, states = method.backbone, method.config.states
    plain = Plain(backbone.clip, backbone.tokenizer, (method.ctx[0], method.ctx[-1]), states)
    plain.tau = method.config.temperature
    if method.config.stream == "vv_from_ordinary":
        plain.vv_from = method.config.vv_from
    return plain


def normalised(method, images):
    return (images - method.backbone.mean) / method.backbone.std


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_predicts_what_the_transcription_predicts(backbone, variant):
    method, images = build(backbone, **variant), noise_batch().image
    score, anomaly_map = method(images, KEYS)
    plain = transcription(method)
    for i, (image, key) in enumerate(zip(normalised(method, images), KEYS, strict=True)):
        expected, smoothed = plain.predict(image, WORDS[key], sigma=20 * SIZE / 400)
        assert float(score[i]) == pytest.approx(expected, abs=5e-6)
        assert np.abs(anomaly_map[i].numpy() - smoothed).max() < 1e-5
    assert score.unique().numel() == 3


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_loss_and_gradients_of_the_transcription(backbone, variant):
    method, batch = build(backbone, **variant), noise_batch()
    loss = method.loss(batch)
    names = [WORDS[key] for key in KEYS]
    weight = variant.get("local_weight", 0)
    expected = transcription(method).loss(normalised(method, batch.image), names, batch.mask.float(), weight)
    assert_close(loss, expected, atol=1e-5, rtol=1e-6)
    (ours,), (theirs,) = (torch.autograd.grad(each, [method.ctx]) for each in (loss, expected))
    assert_close(ours, theirs, atol=2e-4 * theirs.abs().max().item(), rtol=0)


@pytest.mark.parametrize("size", [64, 80])
def test_is_anomalyclip_without_deep_prompts_where_both_are_one(backbone, size):
    """What the two papers differ in is what the settings name."""
    theirs = AnomalyCLIP(
        backbone,
        {"nut": "nut"},
        AnomalyCLIP.Config(depth=1, layers=(1.0,), class_norm=True, n_ctx=5, vv_from=5),
    ).eval()
    settings = {"states": ("", "damaged"), "context": "per_state", "stream": "vv_from_ordinary", "vv_from": 5}
    settings |= {"local_weight": 4.0, "temperature": 0.07, "sigma": 4.0, "sigma_at": 518}
    ours = build(backbone, words={"nut": "object"}, **settings)
    with torch.no_grad():
        theirs.normal_ctx.copy_(ours.ctx[0])
        theirs.anomalous_ctx.copy_(ours.ctx[1])
    batch = noise_batch(["nut"] * 3, size)
    for one, other in zip(ours(batch.image, ["nut"] * 3), theirs(batch.image, ["nut"] * 3), strict=True):
        assert_close(one, other, atol=1e-6, rtol=0)
    assert_close(ours.loss(batch), theirs.loss(batch))
    (one,) = torch.autograd.grad(ours.loss(batch), [ours.ctx])
    assert_close(one, torch.stack(torch.autograd.grad(theirs.loss(batch), [theirs.normal_ctx, theirs.anomalous_ctx])))


def test_a_training_image_is_named_as_its_own_data_set_names_it(backbone, tmp_path):
    """The auxiliary set may call a category by another name, and may have categories that the target has not."""

    class Renamed(MVTecAD):
        categories = ("nut", "screw")
        object_names = {"nut": "hexagonal nut"}  # noqa: RUF012

    method = build(backbone)
    method.begin_fit(Renamed(write_mvtec_ad(tmp_path, ("nut", "screw")), ["nut", "screw"], image_size=64))
    assert [method.words_of(key) for key in ("nut", "screw")] == ["hexagonal nut", "screw"]
    batch, images = noise_batch(["nut", "screw"]), noise_batch(["nut"]).image
    plain = transcription(method)
    named = plain.loss(normalised(method, batch.image), ["hexagonal nut", "screw"], batch.mask.float(), 0)
    assert_close(method.loss(batch), named, atol=1e-5, rtol=1e-6)
    score = plain.predict(normalised(method, images)[0], "metal nut", 0)[0]
    assert float(method(images, ["nut"]).score[0]) == pytest.approx(score, abs=5e-6)


def test_both_texts_differ_in_one_word_and_share_the_context(backbone):
    method = build(backbone)
    assert sum(parameter.numel() for parameter in method.parameters()) == 5 * backbone.text_width
    asked, tokenize = [], backbone.tokenize
    backbone.tokenize = lambda texts: asked.extend(texts) or tokenize(texts)
    try:
        method.encode_text(["metal nut"])
    finally:
        del backbone.tokenize
    assert asked == ["X X X X X normal metal nut.", "X X X X X anomalous metal nut."]


def test_encodes_the_texts_of_all_categories_once_until_they_change(backbone, monkeypatch):
    method, counts, encode = build(backbone), [], backbone.encode_text
    monkeypatch.setattr(backbone, "encode_text", lambda t, **s: counts.append(len(t.ids)) or encode(t, **s))
    for _ in range(3):
        before = method(noise_batch().image, KEYS)
    assert counts == [6]
    method.load_state_dict(build(backbone, seed=1).state_dict())
    assert not torch.equal(method(noise_batch().image, KEYS).score, before.score)
    assert counts == [6, 6]


def test_the_temperature_changes_no_order_of_images(backbone):
    images, keys = torch.rand(8, 3, 64, 64), ["nut"] * 8
    cold, warm = (build(backbone, temperature=t)(images, keys).score for t in (0.05, 0.5))
    assert torch.equal(cold.argsort(), warm.argsort())
    assert not torch.equal(cold, warm)


def test_the_learning_rate_of_each_epoch(backbone):
    """CoOp's schedule: an epoch at 1e-5, then a cosine of as many epochs as the fit has."""
    method = build(backbone)
    (optimizer,), (schedule,) = method.configure_optimizers()
    (group,) = optimizer.param_groups
    assert (group["momentum"], group["weight_decay"]) == (0.9, 5e-4)
    rates = []
    for _ in range(method.max_epochs):
        rates.append(group["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1e-5, *(1e-3 * (1 + math.cos(math.pi * done / 15)) for done in range(14))])


def test_what_does_not_fit_is_refused(backbone):
    with pytest.raises(ValueError, match="n_ctx must be 1 or more; got 0"):
        build(backbone, n_ctx=0)
    with pytest.raises(ValueError, match="categories must be among nut, pcb, cap; got screw"):
        build(backbone)(noise_batch().image, ["nut", "screw", "nut"])
    batch = noise_batch()._replace(mask=torch.zeros(3, 32, 32, dtype=torch.bool))
    build(backbone).loss(batch)  # no mask is looked at
    with pytest.raises(ValueError, match="Masks must have the size of the images"):
        build(backbone, local_weight=1.0).loss(batch)
