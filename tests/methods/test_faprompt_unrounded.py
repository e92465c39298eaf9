"""FAPrompt as it is by default, its deep prompts in float32, against its released code, which rounds them to float16.

Prompts that float16 holds already must give the recorded tensors as closely as the rounded path does. The recorded
prompts themselves move them by what rounding is worth; the bounds are about twice what was measured.
"""

from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from datamodules.components.sample import Batch
from methods.faprompt import FAPrompt
from tests.methods.test_faprompt_parity import FIXTURE, FORWARD, LOSS, SELECTION
from tests.support.recorded_clip import build_backbone, read_fixture
from tests.support.recorded_faprompt import TERMS, build_method, parameter_names

pytestmark = pytest.mark.slow

# Bounds for the recorded prompts, which float16 moves by up to 2⁻¹² of their size. Measured: 2.8e-4, 3.3e-5, 6.3e-5,
# 2.3e-5, 2.7e-4, 3.3e-4 and 5.0e-4.
TEXT = {"atol": 6e-4, "rtol": 0}  # of features that are not normed; 1 in size
UNIT = {"atol": 7e-5, "rtol": 0}
PATCHES = {"atol": 1.2e-4, "rtol": 0}
SCORE = {"atol": 5e-5, "rtol": 0}
LOSS_TERM = {"atol": 6e-4, "rtol": 0}
GRADIENT, DEEP_GRADIENT = 7e-4, 1e-3  # of each tensor's largest


@pytest.fixture(scope="module", params=SELECTION)
def parity(request):
    config, recorded = read_fixture(request.config.getoption("fixture") or FIXTURE)
    method = build_method(
        build_backbone(recorded, config),
        recorded,
        config,
        SELECTION[request.param],
        rounded=FAPrompt.Config.round_deep_prompts,
    )
    variant = {k.split("/", 1)[1]: v for k, v in recorded.items() if k.startswith(f"{request.param}/")}
    images = recorded["data/image"] * method.backbone.std + method.backbone.mean
    order = variant["train/order"]
    masks, labels = recorded["data/mask"][order].squeeze(1).bool(), recorded["data/label"][order].bool()
    batch = Batch(images[order], masks, labels, ["object"] * len(order), [f"{i}.png" for i in order])
    return SimpleNamespace(method=method, images=images, batch=batch, common=recorded, variant=variant, config=config)


@pytest.fixture
def representable(parity):
    """The same with deep prompts that float16 holds; undone afterwards."""
    before = {key: value.clone() for key, value in parity.method.state_dict().items()}
    with torch.no_grad():
        moved = [(block, block.half().float()) for block in parity.method.deep.blocks]
        assert max((block - rounded).abs().max() for block, rounded in moved) > 1e-6
        for block, rounded in moved:
            block.copy_(rounded)
    yield parity
    parity.method.load_state_dict(before)


def compare_forward(parity, text, unit, patches, score):
    method, common, variant = parity.method, parity.common, parity.variant
    with torch.no_grad():
        stages = method.examine(parity.images)
    assert_close(stages.text[0], common["text/normal"], **text)
    assert_close(stages.text[1:], common["text/abnormal"], **text)
    assert_close(stages.conditioned, variant["text/abnormal"], **text)
    assert_close(stages.prototypes1, common["text/stage1"], **unit)
    assert_close(stages.prototypes2, variant["text/stage2"], **unit)
    assert_close(stages.patches1, common["map/sim1"], **patches)
    assert_close(stages.patches2, variant["map/sim2"], **patches)
    prediction = method.eval()(parity.images, ["object"] * len(parity.images))
    assert_close(prediction.score, variant["score/image"], **score)
    assert_close(prediction.anomaly_map, variant["map/final"], **score)


def compare_training(parity, term, gradient, deep_gradient):
    method, variant = parity.method, parity.variant
    terms = method.train().loss_terms(parity.batch)
    for ours, theirs in TERMS.items():
        assert_close(getattr(terms, ours).double(), variant[f"train/loss/{theirs}"], **term, msg=ours)
    method.zero_grad()
    loss = method.loss(parity.batch)
    assert_close(loss.detach().double(), variant["train/loss/total"], **term)
    loss.backward()
    parameters = dict(method.named_parameters())
    for key, name in parameter_names(parity.config).items():
        got, expected = parameters[key].grad, variant[f"train/grad/{name}"].view_as(parameters[key])
        allowed = deep_gradient if key.startswith("deep.") else gradient
        assert_close(got, expected, atol=allowed * expected.abs().max().item(), rtol=0)
    method.zero_grad()


def test_the_default_rounds_nothing(parity):
    assert parity.method.config.round_deep_prompts is False


def test_forward_with_prompts_that_float16_holds(representable):
    compare_forward(representable, FORWARD, FORWARD, FORWARD, FORWARD)


def test_training_with_prompts_that_float16_holds(representable):
    # Of the gradients the release rounds those of the deep prompts alone; that is worth 3.4e-4.
    compare_training(representable, LOSS, 1e-5, 6e-4)


def test_forward_with_the_recorded_prompts(parity):
    compare_forward(parity, TEXT, UNIT, PATCHES, SCORE)


def test_training_with_the_recorded_prompts(parity):
    compare_training(parity, LOSS_TERM, GRADIENT, DEEP_GRADIENT)
