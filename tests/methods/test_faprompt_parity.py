"""FAPrompt against tensors of its released code: what it sees, says, minimises and learns.

`pytest tests/methods/test_faprompt_parity.py --fixture PATH` runs the same on another file of the schema; every size
comes from that file. "official" feeds the first patches to the prior, "topk" the most anomalous ones.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from datamodules.components.sample import Batch
from methods.components.losses import LocalTerms
from methods.components.maps import class_maps
from methods.faprompt import WEIGHTS, FAPromptTerms
from tests.support.recorded_clip import build_backbone, read_fixture
from tests.support.recorded_faprompt import TERMS, build_method, parameter_names
from tests.support.recorded_pixels import pick, read_fit

FIXTURE = Path(__file__).parents[1] / "fixtures" / "faprompt.npz"
SELECTION = {"official": "first", "topk": "topk"}
FORWARD = {"atol": 2e-5, "rtol": 0}
LOSS = {"atol": 1e-5, "rtol": 1e-6}  # a term of hundreds has no more digits in float32
GRADIENT = 2e-3  # of each tensor's largest, most of it the float16 of deep prompts


@pytest.fixture(scope="module", params=SELECTION)
def parity(request):
    """The recorded tensors, common ones and those of one variant, and the method with their weights."""
    config, recorded = read_fixture(request.config.getoption("fixture") or FIXTURE)
    backbone = build_backbone(recorded, config)
    method = build_method(backbone, recorded, config, SELECTION[request.param])
    prefix = f"{request.param}/"
    variant = {k.removeprefix(prefix): v for k, v in recorded.items() if k.startswith(prefix)}
    images = recorded["data/image"] * backbone.std + backbone.mean  # recorded normalised
    order = variant["train/order"]
    batch = Batch(
        images[order],
        recorded["data/mask"][order].squeeze(1).bool(),
        recorded["data/label"][order].bool(),
        ["object"] * len(order),
        [f"{i}.png" for i in order],
    )
    return SimpleNamespace(
        method=method,
        images=images,
        batch=batch,
        common=recorded,
        variant=variant,
        config=config,
        names=parameter_names(config),
    )


@pytest.fixture
def trained(parity):
    """Gradients of `Method.loss` and parameters after one step of `Method.configure_optimizers`; undone afterwards."""
    method = parity.method
    before = {key: value.clone() for key, value in method.state_dict().items()}
    optimizer = method.configure_optimizers()
    assert [group["eps"] for group in optimizer.param_groups] == [parity.config["eps"]]
    loss = method.train().loss(parity.batch)
    loss.backward()
    optimizer.step()
    yield SimpleNamespace(
        loss=loss.detach(),
        gradients={key: parameter.grad for key, parameter in method.named_parameters()},
        after={key: parameter.detach().clone() for key, parameter in method.named_parameters()},
    )
    optimizer.zero_grad()
    method.load_state_dict(before)


def test_the_loss_from_files_on(parity, tmp_path):
    """Of images and masks that a fit reads from the raw pixels."""
    read = read_fit(parity.common, parity.config["image_size"], tmp_path)
    assert torch.equal(read.mask, parity.common["data/mask"].squeeze(1).bool())
    assert_close(read.image, parity.images, atol=5e-7, rtol=0)
    loss = parity.method.train().loss(pick(read, parity.variant["train/order"].tolist())).detach()
    assert_close(loss.double(), parity.variant["train/loss/total"], **LOSS)


@pytest.mark.slow
def test_prompts_have_the_recorded_tokens(parity):
    ids = parity.method.prompts.templates.ids
    assert torch.equal(ids[0], parity.common["learner/token_ids_normal"])
    assert torch.equal(ids[1], parity.common["learner/token_ids_abnormal"])


@torch.no_grad()
def test_image_features(parity):
    features = parity.method.examine(parity.images).features
    assert_close(features.image, parity.common["vis/cls"], **FORWARD)
    assert_close(features.patches[0], parity.common["vis/tokens"][:, 1:], **FORWARD)


@torch.no_grad()
def test_stage_one(parity):
    stages, recorded = parity.method.examine(parity.images), parity.common
    assert_close(stages.text[0], recorded["text/normal"], **FORWARD)
    assert_close(stages.text[1:], recorded["text/abnormal"], **FORWARD)
    assert_close(stages.prototypes1, recorded["text/stage1"], **FORWARD)
    assert_close(stages.patches1, recorded["map/sim1"], **FORWARD)
    assert_close(stages.patches1[..., 1].amax(dim=1), recorded["score/max1"], **FORWARD)
    maps = class_maps(stages.patches1, stages.features.grid, recorded["map/up1"].shape[-2:])
    assert_close(maps, recorded["map/up1"], **FORWARD)


@torch.no_grad()
def test_selection_and_prior(parity):
    stages, variant = parity.method.examine(parity.images), parity.variant
    count = parity.config["M"]
    topk = parity.method.config.prior_selection == "topk"
    expected = parity.common["select/topk_index"] if topk else torch.arange(count).expand(len(parity.images), -1)
    assert torch.equal(stages.selected, expected)
    chosen = stages.selected.unsqueeze(-1)
    assert_close(stages.features.patches[0].take_along_dim(chosen, dim=1), variant["select/tokens"], **FORWARD)
    if topk:
        assert_close(stages.patches1[..., 1].gather(1, stages.selected), parity.common["select/topk_value"], **FORWARD)
    assert_close(stages.prior, variant["text/prior"], **FORWARD)


@torch.no_grad()
def test_stage_two(parity):
    stages, variant = parity.method.examine(parity.images), parity.variant
    assert_close(stages.conditioned, variant["text/abnormal"], **FORWARD)
    assert_close(stages.prototypes2, variant["text/stage2"], **FORWARD)
    assert_close(stages.patches2, variant["map/sim2"], **FORWARD)
    assert_close(stages.patches2[..., 1].amax(dim=1), variant["score/max2"], **FORWARD)
    assert_close(stages.logits.softmax(dim=1)[:, 1], variant["score/text_prob"], **FORWARD)
    maps = class_maps(stages.patches2, stages.features.grid, variant["map/up2"].shape[-2:])
    assert_close(maps, variant["map/up2"], **FORWARD)


def test_prediction(parity):
    prediction = parity.method.eval()(parity.images, ["object"] * len(parity.images))
    assert_close(prediction.score, parity.variant["score/image"], **FORWARD)
    assert_close(prediction.anomaly_map, parity.variant["map/final"], **FORWARD)


def test_prediction_of_one_image_at_a_time(parity):
    """As the released test does, and from the kept stage 1."""
    for row, image in enumerate(parity.images.split(1)):
        prediction = parity.method.eval()(image, ["object"])
        assert_close(prediction.score, parity.variant["score/image"][row : row + 1], **FORWARD)
        assert_close(prediction.anomaly_map, parity.variant["map/final"][row : row + 1], **FORWARD)


@torch.no_grad()
def test_maps_and_scores_of_the_training_step(parity):
    stages, variant = parity.method.examine(parity.batch.image), parity.variant
    grid, size = stages.features.grid, parity.batch.mask.shape[1:]
    assert_close(class_maps(stages.patches2, grid, size), variant["train/map2"], **FORWARD)
    recorded_once = parity.common["official/train/map1"]  # stage 1 is the same in both variants
    assert_close(class_maps(stages.patches1, grid, size), recorded_once, **FORWARD)
    temperature = parity.config["tau"]
    assert_close(stages.logits * temperature, variant["train/text_logits"] * temperature, **FORWARD)
    assert_close(stages.score, variant["train/score2"], **FORWARD)


def test_every_term_of_the_loss(parity):
    terms = parity.method.train().loss_terms(parity.batch)
    assert set(terms._fields) == set(TERMS)
    for ours, theirs in TERMS.items():
        assert_close(getattr(terms, ours).double(), parity.variant[f"train/loss/{theirs}"], **LOSS, msg=ours)
    n_local = 2 * len(LocalTerms._fields)
    local = sum(weight * term for weight, term in zip(WEIGHTS[:n_local], terms[:n_local], strict=True))
    assert_close(local.double(), parity.variant["train/loss/local_total"], **LOSS)


def test_total_loss(parity, trained):
    assert len(WEIGHTS) == len(FAPromptTerms._fields)
    assert_close(trained.loss.double(), parity.variant["train/loss/total"], **LOSS)


def test_every_gradient(parity, trained):
    for key, name in parity.names.items():
        expected = parity.variant[f"train/grad/{name}"].view_as(trained.gradients[key])
        allowed = GRADIENT * expected.abs().max().item()
        assert_close(trained.gradients[key], expected, atol=allowed, rtol=0, msg=lambda text, key=key: f"{key}: {text}")


def test_every_parameter_after_the_step(parity, trained):
    """A first step of Adam is about lr times the gradient's sign, so tiny gradients say nothing."""
    for key, name in parity.names.items():
        gradient = parity.variant[f"train/grad/{name}"].abs().view_as(trained.after[key])
        telling = gradient > 1e-4 * gradient.max()
        assert telling.any()
        expected = parity.variant[f"train/after/{name}"].view_as(trained.after[key])[telling]
        assert_close(trained.after[key][telling], expected, **FORWARD, msg=lambda text, key=key: f"{key}: {text}")
