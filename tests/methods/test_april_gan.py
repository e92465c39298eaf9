"""APRIL-GAN's sizes, names and scores; its numbers are those of the released code in `test_april_gan_parity.py`."""

from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from datamodules.components.sample import Batch
from methods.april_gan import AprilGAN, compose
from methods.components.prediction import Prediction

CATEGORIES = {"metal_nut": "metal nut", "pcb1": "board"}


def noise_images(count, seed=0):
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def build(backbone, **settings):
    torch.manual_seed(0)
    return AprilGAN(backbone, CATEGORIES, AprilGAN.Config(**settings))


def noise_batch():
    mask = torch.zeros(3, 64, 64, dtype=torch.bool)
    mask[0, 10:30, 20:50] = True
    return Batch(noise_images(3), mask, mask.any(dim=(1, 2)), ["candle", "bottle_cap", "candle"], ["0", "1", "2"])


def test_sizes_of_the_paper():
    backbone = SimpleNamespace(embed_dim=768, image_width=1024, n_image_blocks=24)
    method = AprilGAN(backbone, {})
    assert method.blocks == method.memory_blocks == (6, 12, 18, 24)
    assert sum(parameter.numel() for parameter in method.parameters()) == 3_148_800
    (group,) = method.configure_optimizers().param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (1e-3, (0.5, 0.999), 1e-8, 0)


def test_other_blocks_for_the_memory_than_for_the_maps(backbone):
    """A map of block 8 alone, and distances to what blocks 2 and 4 remember."""
    images, keys, size = noise_images(2), ["metal_nut", "pcb1"], (64, 64)
    method = build(backbone, layers=(1.0,), memory_layers=(0.25, 0.5))
    for seed, category in enumerate(CATEGORIES):
        method.adapt(noise_images(2, seed + 5), category)
    both = {block: backbone.encode_image(images, taps=(block,)).taps[0] for block in (2, 4, 8)}
    features = method._encode_image(images)
    assert_close(features.taps, both[8].unsqueeze(0))
    unit = [each / each.norm(dim=-1, keepdim=True) for each in (both[2], both[4])]
    assert_close(features.remembered, torch.stack(unit))
    text = method.encode_text(keys, torch.device("cpu"))
    (maps,) = method.class_maps(features, text, size)
    expected = maps[:, 1] + method.visual_map(features, keys, size)
    score, anomaly_map = method(images, keys)
    assert_close(anomaly_map, expected)
    textual = (100 * features.image.unsqueeze(1) @ text.transpose(1, 2)).softmax(dim=-1)[:, 0, 1]
    assert_close(score, (textual + expected.amax(dim=(1, 2)) / 5) / 2)


def test_a_shot_is_as_anomalous_as_without_shots(backbone):
    plain, method, shot = build(backbone), build(backbone), noise_images(1, 3)
    method.adapt(shot, "pcb1")
    assert_close(method(shot, ["pcb1"]).anomaly_map, plain(shot, ["pcb1"]).anomaly_map, atol=1e-5, rtol=0)
    other = noise_images(1, 4)
    assert (method(other, ["pcb1"]).anomaly_map > plain(other, ["pcb1"]).anomaly_map + 1e-3).any()


def test_prompts_name_a_category_by_its_key_or_its_words(backbone):
    """Categories that it is fitted on have no words; there the key is read."""
    for names, told in (("key", ["pcb1", "bottle_cap"]), ("words", ["board", "bottle cap"])):
        method = build(backbone, names=names)
        text = method.encode_text(["pcb1", "bottle_cap"], torch.device("cpu"))
        for row, words in enumerate(told):
            ids = backbone.tokenize(
                compose(["damaged {}", "broken {}", "{} with flaw", "{} with defect", "{} with damage"], words)
            )
            mean = backbone.encode_text(ids).mean(dim=0)
            assert_close(text[row, 1], mean / mean.norm())


def test_texts_are_encoded_once_and_serve_a_fit_after_a_test(backbone, monkeypatch):
    method, counts, encode = build(backbone), [], backbone.encode_text
    monkeypatch.setattr(backbone, "encode_text", lambda t, **s: counts.append(len(t.ids)) or encode(t, **s))
    batch = noise_batch()
    with torch.inference_mode():
        method.predict(batch.image, batch.category)
    method.loss(batch).backward()
    assert counts == [245, 175, 245, 175]
    assert all(parameter.grad.abs().max() > 0 for parameter in method.parameters())


def test_loss_is_the_sum_of_its_terms(backbone):
    method, batch = build(backbone), noise_batch()
    focal, dice = method.loss_terms(batch)
    assert_close(method.loss(batch), focal + dice)
    with pytest.raises(ValueError, match="Masks must have the size of the images"):
        method.loss(batch._replace(mask=batch.mask[:, :32, :32]))


def test_the_released_score_needs_shots_and_two_images_that_differ(backbone):
    method, images, keys = build(backbone, few_shot_score="transductive"), noise_images(3), ["pcb1"] * 3
    assert not method.transductive  # the score without shots is that of the text
    method.adapt(noise_images(2, 5), "pcb1")
    assert method.transductive
    predicted = method(images, keys)
    assert_close(predicted.score, build(backbone)(images, keys).score)
    highest = predicted.anomaly_map.amax(dim=(1, 2))
    expected = (predicted.score + (highest - highest.min()) / (highest.max() - highest.min())) / 2
    assert_close(method.rescore(predicted), expected)
    alone = Prediction(*(each[:1] for each in predicted))
    assert_close(method.rescore(alone), alone.score / 2)  # the released code divides by zero
