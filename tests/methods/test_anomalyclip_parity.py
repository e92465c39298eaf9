"""AnomalyCLIP against tensors of its released code: what it reads, sees, says, minimises and learns in two steps.

`pytest tests/methods/test_anomalyclip_parity.py --fixture PATH` runs the same on another file of the schema; every
size, number and list of layers comes from that file. "last" is the released setting, the last block alone; "four" are
four different blocks, which the parsers of the release take by default. The release adds the maps of layers up.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from benchmark.metrics.accumulate import ImageMetrics, PixelMetrics
from methods.components.maps import class_maps, class_probabilities
from methods.components.scoring import to_map
from tests.support.pixel_oracle import labelled
from tests.support.recorded_anomalyclip import TERMS, batch_of, build_method, parameter_names
from tests.support.recorded_clip import build_backbone, read_fixture
from tests.support.recorded_pixels import pick, read_fit

FIXTURE = Path(__file__).parents[1] / "fixtures" / "anomalyclip.npz"
STEPS = ("train", "train2")
ULP = {"atol": 5e-7, "rtol": 0}  # of normalised float32, up to 2.2 in size: two units in the last place
FORWARD = {"atol": 2e-5, "rtol": 0}
RAW = {"atol": 1e-4, "rtol": 0}  # of features that are not normed
LOSS = {"atol": 0, "rtol": 1e-5}
GRADIENT = 2e-3  # of each tensor's largest, most of it the float16 of deep prompts


def pytest_generate_tests(metafunc):
    if "variant" in metafunc.fixturenames:
        with np.load(metafunc.config.getoption("fixture") or FIXTURE) as file:
            variants = list(json.loads(str(file["config_json"]))["tapped_layers_one_based"])
        metafunc.parametrize("variant", variants, scope="module")


@pytest.fixture(scope="module")
def recording(request):
    config, recorded = read_fixture(request.config.getoption("fixture") or FIXTURE)
    return SimpleNamespace(config=config, common=recorded, backbone=build_backbone(recorded, config))


@pytest.fixture(scope="module")
def parity(recording, variant):
    """The recorded tensors, common ones and those of one variant, and the method with their weights."""
    config, common, backbone = recording.config, recording.common, recording.backbone
    taps = config["tapped_layers_one_based"]
    every = max(taps.values(), key=len)  # common tensors of layers have a row for each of these
    return SimpleNamespace(
        method=build_method(backbone, common, config, taps[variant]),
        images=common["data/image"] * backbone.std + backbone.mean,  # recorded normalised
        common=common,
        variant={k.removeprefix(f"{variant}/"): v for k, v in common.items() if k.startswith(f"{variant}/")},
        config=config,
        rows=[every.index(tap) for tap in taps[variant]],
    )


@pytest.fixture(scope="module")
def trained(parity):
    """Each step of `Method.configure_optimizers` on `Method.loss`; undone afterwards."""
    method, variant = parity.method, parity.variant
    before = {key: value.clone() for key, value in method.state_dict().items()}
    optimizer = method.train().configure_optimizers()
    assert [group["eps"] for group in optimizer.param_groups] == [parity.config["eps"]]
    steps = {}
    for step in STEPS:
        batch = batch_of(parity.images, parity.common, variant[f"{step}/order"])
        optimizer.zero_grad()
        loss, terms = method.loss(batch), method.loss_terms(batch)
        with torch.no_grad():
            logits = method._logits(method._encode_image(batch.image), method.encode_text())
        loss.backward()
        gradients = {key: parameter.grad.clone() for key, parameter in method.named_parameters()}
        optimizer.step()
        after = {key: parameter.detach().clone() for key, parameter in method.named_parameters()}
        steps[step] = SimpleNamespace(loss=loss, terms=terms, logits=logits, gradients=gradients, after=after)
    optimizer.zero_grad()
    method.load_state_dict(before)
    return steps


@torch.no_grad()
def patch_probabilities(parity, text):
    features = parity.method._encode_image(parity.images)
    return features, [class_probabilities(patches, text, parity.config["tau"]) for patches in features.patches]


@pytest.fixture
def read(recording, tmp_path):
    """The batch that a fit on the recorded pixels gets."""
    return read_fit(recording.common, recording.config["image_size"], tmp_path)


def test_a_fit_reads_the_recorded_images(recording, read):
    backbone = recording.backbone
    assert_close((read.image - backbone.mean) / backbone.std, recording.common["data/image"], **ULP)


def test_a_fit_reads_the_recorded_masks(recording, read):
    theirs = recording.common["data/mask"]
    assert torch.equal(recording.common["data/mask_resized"] > 0.5, theirs.bool())
    assert torch.equal(read.mask, theirs.squeeze(1).bool())
    assert torch.equal(read.label, recording.common["data/label"].bool())


def test_the_first_loss_from_files_on(parity, read):
    batch = pick(read, parity.variant["train/order"].tolist())
    loss = parity.method.train().loss(batch).detach()
    assert_close(loss.double(), parity.variant["train/loss/total"], **LOSS)


def test_prompts_are_the_recorded_rows(parity, monkeypatch):
    method, recorded, config = parity.method, parity.common, parity.config
    assert torch.equal(method.templates.ids[0], recorded["learner/token_ids_normal"])
    assert torch.equal(method.templates.ids[1], recorded["learner/token_ids_abnormal"])
    given = []
    monkeypatch.setattr(method.backbone, "encode_text", lambda tokens, **said: given.append((tokens, said)))
    method._encode_text()
    ((tokens, said),) = given
    assert torch.equal(tokens.embeddings.detach(), recorded["text/prompts"])
    assert len(said["deep_prompts"]) == len(config["deep_prompt_blocks_zero_based"])
    for number, deep in enumerate(said["deep_prompts"]):
        expected = recorded[f"text/deep_used.{number}"]
        assert all(torch.equal(row.half(), expected) for row in deep.detach())
        assert torch.equal(deep, deep.half().float())


@torch.no_grad()
def test_text_features(parity, monkeypatch):
    method, encode = parity.method, parity.method.backbone.encode_text
    assert_close(method.encode_text(), parity.common["text/features"], **FORWARD)
    monkeypatch.setattr(method.backbone, "encode_text", lambda *a, **said: encode(*a, **said, normalise=False))
    assert_close(method._encode_text(), parity.common["text/raw"], **RAW)


@torch.no_grad()
def test_deep_prompts_that_float16_holds_need_no_rounding(parity):
    """The default rounds nothing, which moves nothing else."""
    taps = parity.method.layers
    plain = build_method(parity.method.backbone, parity.common, parity.config, taps, rounded=False)
    assert not torch.equal(plain.encode_text(), parity.method.encode_text())
    for block in plain.deep.blocks:
        block.copy_(block.half())
    assert_close(plain.encode_text(), parity.common["text/features"], **FORWARD)


@torch.no_grad()
def test_image_features(parity):
    features = parity.method._encode_image(parity.images)
    assert_close(features.image, parity.common["vis/cls"], **FORWARD)
    for patches, row in zip(features.patches, parity.rows, strict=True):
        assert_close(patches, parity.common["vis/tokens"][row, :, 1:], **FORWARD)


def test_patch_probabilities_and_maps(parity):
    features, probabilities = patch_probabilities(parity, parity.common["text/features"])
    size = parity.common["map/up"].shape[-2:]
    for patches, row in zip(probabilities, parity.rows, strict=True):
        assert_close(patches, parity.common["map/sim"][row], **FORWARD)
        assert_close(class_maps(patches, features.grid, size), parity.common["map/up"][row], **FORWARD)
    summed = torch.stack(probabilities).sum(dim=0)[..., 1]
    assert_close(to_map(summed, features.grid, size), parity.variant["map/fused"], **FORWARD)


def test_prediction(parity):
    prediction = parity.method.eval()(parity.images, ["object"] * len(parity.images))
    assert_close(prediction.score, parity.common["score/image"], **FORWARD)
    assert_close(prediction.score, parity.common["score/logits"].softmax(dim=1)[:, 1], **FORWARD)
    assert_close(len(parity.rows) * prediction.anomaly_map, parity.variant["map/final"], **FORWARD)


def test_prediction_of_one_image_at_a_time(parity):
    """As the released test does."""
    for row, image in enumerate(parity.images.split(1)):
        prediction = parity.method.eval()(image, ["object"])
        assert_close(prediction.score, parity.common["score/image"][row : row + 1], **FORWARD)
        assert_close(len(parity.rows) * prediction.anomaly_map[0], parity.variant["map/final"][row], **FORWARD)


def test_metrics_of_the_release(parity):
    """With its own masks. One pixel that the last digit of a map moves over one of 200 thresholds moves PRO by 1e-4."""
    prediction = parity.method.eval()(parity.images, ["object"] * len(parity.images))
    image, pixel = ImageMetrics(), PixelMetrics(published=True)
    image.update(prediction.score, parity.common["data/label"].bool())
    pixel.update(prediction.anomaly_map, labelled(parity.common["data/mask"].squeeze(1).bool()))
    found = {key: metric.value for key, metric in (image.compute() | pixel.compute()).items()}
    names = ("pixel_AUROC", "pixel_PRO@200steps", "image_AUROC", "image_AP")
    measured = torch.tensor([found[name] for name in names], dtype=torch.float64)
    assert_close(measured, parity.variant["metric"], atol=1e-3, rtol=0)


@pytest.mark.parametrize("step", STEPS)
def test_every_term_of_the_loss(parity, trained, step):
    recorded, ours = parity.variant, trained[step]
    assert {*ours.terms._fields} == {*TERMS, "image_ce"}
    for name, theirs in TERMS.items():
        assert_close(getattr(ours.terms, name).double(), recorded[f"{step}/loss/{theirs}"].sum(), **LOSS, msg=name)
    local = torch.stack([getattr(ours.terms, name) for name in TERMS]).sum()
    assert_close(local.double(), recorded[f"{step}/loss/local_sum"], **LOSS)
    assert_close(ours.terms.image_ce.double(), recorded[f"{step}/loss/image_ce"], **LOSS)
    assert_close(ours.loss.double(), recorded[f"{step}/loss/total"], **LOSS)
    temperature = parity.config["tau"]
    assert_close(ours.logits * temperature, recorded[f"{step}/text_logits"] * temperature, **FORWARD)


@pytest.mark.parametrize("step", STEPS)
def test_every_gradient(parity, trained, step):
    for key, name in parameter_names(parity.config).items():
        got = trained[step].gradients[key]
        expected = parity.variant[f"{step}/grad/{name}"].view_as(got)
        allowed = GRADIENT * expected.abs().max().item()
        assert_close(got, expected, atol=allowed, rtol=0, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("step", STEPS)
def test_every_parameter_after_the_step(parity, trained, step):
    """A step of Adam is about lr times a sign, so tiny gradients say nothing."""
    for key, name in parameter_names(parity.config).items():
        got = trained[step].after[key]
        gradients = [parity.variant[f"{each}/grad/{name}"].abs().view_as(got) for each in STEPS]
        telling = torch.stack([each > 1e-4 * each.max() for each in gradients]).all(dim=0)
        assert telling.any()
        expected = parity.variant[f"{step}/after/{name}"].view_as(got)[telling]
        assert_close(got[telling], expected, **FORWARD, msg=lambda text, key=key: f"{key}: {text}")
