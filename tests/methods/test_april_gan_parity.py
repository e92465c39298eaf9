"""APRIL-GAN against tensors of its released code: what it says, sees, minimises, learns and remembers.

`pytest tests/methods/test_april_gan_parity.py --fixture PATH` runs the same on another file of the schema; every size,
constant and category comes from that file.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.testing import assert_close

from datamodules.components.reading import read_image
from datamodules.components.sample import Batch
from methods.april_gan import ANOMALOUS_STATES, NORMAL_STATES, AprilGAN, compose
from methods.components.prediction import Prediction
from methods.components.scoring import to_map
from tests.support.recorded_clip import open_recorded

FIXTURE = Path(__file__).parents[1] / "fixtures" / "april_gan.npz"
FORWARD = {"atol": 2e-5, "rtol": 0}
TOKENS = {"atol": 2e-4, "rtol": 0}  # up to 30 in size
LOGITS = {"atol": 5e-4, "rtol": 0}  # a hundred cosines
LOSS = {"atol": 1e-5, "rtol": 0}
GRADIENT = 1e-4  # of each tensor's largest


def build_method(backbone, config, recorded, texts, **settings):
    """With the constants and the first adapters of the file; `texts` are encoded once for all methods."""
    layers = backbone.n_image_blocks
    released = {
        "lr": config["lr"],
        "betas": tuple(config["betas"]),
        "layers": tuple(block / layers for block in config["taps"]),
        "memory_layers": tuple(block / layers for block in config["few_shot_taps"]),
        "temperature": 1 / config["logit_multiplier"],
    }
    categories = dict.fromkeys(config["test_categories"], "a name that the prompts do not take")
    method = AprilGAN(backbone, categories, AprilGAN.Config(**released | settings))
    method.load_state_dict(adapters(recorded, "adapter"))
    method._texts = texts
    return method.eval()


def adapters(recorded, part):
    """A state dict of ours from the release's weights and biases."""
    names = [key for key in recorded if key.startswith(f"{part}/fc.")]
    return {key.replace(f"{part}/fc.", "heads.heads."): recorded[key] for key in names}


def see_shots(method, parity):
    for category, shots in zip(parity.config["test_categories"], parity.shots, strict=True):
        method.adapt(shots, category)
    return method


@pytest.fixture(scope="module")
def parity(request, tmp_path_factory):
    """The recorded tensors, and the recorded pixels as the suite reads them."""
    with np.load(request.config.getoption("fixture") or FIXTURE) as file:
        config = json.loads(str(file["config_json"]))
        recorded = {k: torch.from_numpy(np.asarray(file[k])) for k in file.files if k != "config_json"}
    backbone = open_recorded(config, {k.removeprefix("clip/"): v for k, v in recorded.items() if k.startswith("clip/")})
    path, texts = tmp_path_factory.mktemp("april_gan") / "image.png", {}

    def read(pixels):
        Image.fromarray(pixels.numpy()).save(path)
        return read_image(path, config["image_size"])

    return SimpleNamespace(
        backbone=backbone,
        config=config,
        recorded=recorded,
        images=torch.stack([read(each) for each in recorded["test/raw_image"]]),
        shots=[torch.stack([read(each) for each in some]) for some in recorded["shot/raw_image"]],
        keys=[config["test_categories"][i] for i in recorded["test/category"]],
        training=recorded["train/image"] * backbone.std + backbone.mean,  # mosaics, recorded normalised
        build=lambda **settings: build_method(backbone, config, recorded, texts, **settings),
    )


def batch_of(parity):
    recorded, categories = parity.recorded, parity.config["aux_categories"]
    mask = recorded["train/mask"].bool()
    keys = [categories[recorded["aux/category"][image]] for image in recorded["train/order"]]
    return Batch(parity.training, mask, mask.any(dim=(1, 2)), keys, [f"{i}.png" for i in range(len(mask))])


def test_images_and_positions(parity):
    backbone = parity.backbone
    assert_close((parity.images - backbone.mean) / backbone.std, parity.recorded["test/image"], atol=5e-7, rtol=0)
    positions = backbone._prepare(parity.images)[1]
    assert torch.equal(positions, parity.recorded["vis/position"])


def test_prompts_of_a_category(parity):
    """The same texts in whatever order."""
    key, tokenizer = parity.config["test_categories"][0], parity.backbone.tokenizer
    for theirs, states in (("normal", NORMAL_STATES), ("abnormal", ANOMALOUS_STATES)):
        texts = compose(states, key)
        assert len(texts) == parity.config[f"n_{theirs}_prompts"]
        ids = tokenizer(texts, context_length=parity.config["text"]["context"])
        assert sorted(ids.tolist()) == sorted(parity.recorded[f"text/ids_{theirs}"].tolist())


def test_text_features(parity):
    method = parity.build()
    for split in ("test", "aux"):
        text = method.encode_text(parity.config[f"{split}_categories"], torch.device("cpu"))
        assert_close(text, parity.recorded[f"text/{split}"], **FORWARD)


@torch.no_grad()
def test_image_features(parity):
    recorded, method = parity.recorded, parity.build()
    features = method._encode_image(parity.images)
    assert_close(features.image, recorded["vis/cls"], **FORWARD)
    patches = F.normalize(method.heads(features.taps), dim=-1)
    for i, block in enumerate(parity.config["taps"]):
        assert_close(features.taps[i, :1], recorded[f"vis/block{block}"][:, 1:], **TOKENS)
        assert_close(patches[i, 0], recorded[f"zero/patch{i}"], **FORWARD)
        text = method.encode_text(parity.keys, torch.device("cpu"))
        logits = patches[i] @ text.transpose(1, 2) * parity.config["logit_multiplier"]
        assert_close(logits, recorded[f"zero/logits{i}"], **LOGITS)


@torch.no_grad()
def test_maps_of_each_block(parity):
    method, size = parity.build(), (parity.config["image_size"],) * 2
    text = method.encode_text(parity.keys, torch.device("cpu"))
    for i, maps in enumerate(method.class_maps(method._encode_image(parity.images), text, size)):
        assert_close(maps[:, 1], parity.recorded[f"zero/map{i}"], **FORWARD)
        assert_close(maps.sum(dim=1), torch.ones_like(maps[:, 0]))


def test_zero_shot_prediction(parity):
    prediction = parity.build()(parity.images, parity.keys)
    assert_close(prediction.score, parity.recorded["zero/score"], **FORWARD)
    assert_close(prediction.anomaly_map, parity.recorded["zero/map"], **FORWARD)


def test_what_is_remembered_of_a_shot(parity):
    (memory,) = [its for _, its in see_shots(parity.build(), parity).memory.by_category(parity.keys[:1], "cpu")]
    for i, kind in enumerate(memory):
        shot = F.normalize(parity.recorded[f"few/memory{i}"], dim=-1)
        assert_close(kind[: len(shot)], shot, **FORWARD)


@torch.no_grad()
def test_distances_to_the_shots(parity):
    method, recorded, size = see_shots(parity.build(), parity), parity.recorded, (parity.config["image_size"],) * 2
    features = method._encode_image(parity.images)
    distances = method.memory.distances(features.remembered, parity.keys)
    for i, each in enumerate(distances):
        assert_close(each, recorded[f"few/nearest{i}"], **FORWARD)
        assert_close(to_map(each, features.grid, size, align_corners=True), recorded[f"few/map{i}"], **FORWARD)
    assert_close(method.visual_map(features, parity.keys, size), recorded["few/map"], **FORWARD)


def test_few_shot_prediction(parity):
    """Maps as released, and the score that needs no other image from the recorded parts."""
    prediction = see_shots(parity.build(), parity)(parity.images, parity.keys)
    assert_close(prediction.anomaly_map, parity.recorded["few/fused"], **FORWARD)
    largest = len(parity.config["taps"]) + 2 * len(parity.config["few_shot_taps"])
    expected = (parity.recorded["zero/score"] + parity.recorded["few/max"] / largest) / 2
    assert_close(prediction.score, expected, **FORWARD)


def test_released_few_shot_score(parity):
    method, recorded = see_shots(parity.build(few_shot_score="transductive"), parity), parity.recorded
    assert method.transductive
    score, maps = method(parity.images, parity.keys)
    assert_close(score, recorded["zero/score"], **FORWARD)
    for number in range(len(parity.config["test_categories"])):
        rows = recorded["test/category"] == number
        found = method.rescore(Prediction(score[rows], maps[rows]))
        assert_close(found, recorded["few/score"][rows], **FORWARD, check_dtype=False)


def test_every_term_of_the_loss(parity):
    method, recorded, batch = parity.build(), parity.recorded, batch_of(parity)
    terms, count = method.loss_terms(batch), range(len(parity.config["taps"]))
    for ours in ("focal", "dice"):
        expected = sum(recorded[f"train/loss/{ours}{i}"] for i in count)
        assert_close(getattr(terms, ours).detach(), expected, **LOSS, check_dtype=False)
    text = method.encode_text(batch.category, torch.device("cpu"))
    maps = method.class_maps(method._encode_image(batch.image), text, tuple(batch.mask.shape[1:]))
    for i in count:
        assert_close(maps[i][:, 1].detach(), recorded[f"train/map{i}"], **FORWARD)


def test_total_loss_gradients_and_the_step(parity):
    """A parameter moves as released where its gradient is no rounding error: Adam's first step is its sign."""
    method, recorded = parity.build(), parity.recorded
    optimizer = method.train().configure_optimizers()
    loss = method.loss(batch_of(parity))
    assert_close(loss.detach(), recorded["train/loss/total"], **LOSS, check_dtype=False)
    loss.backward()
    optimizer.step()
    gradients, after = adapters(recorded, "train/grad"), adapters(recorded, "train/after")
    for name, parameter in method.named_parameters():
        largest = gradients[name].abs().max().item()
        assert_close(parameter.grad, gradients[name], atol=GRADIENT * largest, rtol=0)
        certain = gradients[name].abs() > GRADIENT * largest
        assert_close(parameter.detach()[certain], after[name][certain], atol=1e-6, rtol=0)
    assert optimizer.param_groups[0]["eps"] == parity.config["eps"]
