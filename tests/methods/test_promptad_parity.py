"""PromptAD against tensors of its released code: what it says, sees, minimises and learns.

`pytest tests/methods/test_promptad_parity.py --fixture PATH` runs the same on another file of the schema; every size,
constant, the category and its words come from that file.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from datamodules.components.sample import Batch
from methods.components.maps import gaussian_smooth
from methods.components.scoring import fuse, log_text_probability, to_grid, to_map
from methods.components.states import GENERIC_STATES
from methods.promptad import PromptAD
from tests.support.recorded_clip import open_recorded

FIXTURE = Path(__file__).parents[1] / "fixtures" / "promptad.npz"
HEADS = ("cls", "seg")
FORWARD = {"atol": 2e-5, "rtol": 0}
LOSS = {"atol": 1e-5, "rtol": 1e-6}
GRADIENT = 1e-4  # of each tensor's largest
FAMILIES = {"normal": "normal", "manual": "handle", "learnt": "learned"}  # ours: theirs


def spoken(backbone, config, recorded):
    """The object's name and the suffixes of its own states, from recorded ids: start, learnt, words, dot, end, 0s."""

    def words(ids):
        return backbone.tokenizer.decode(ids[1 + config["n_ctx"] : ids.argmax() - 1].tolist()).strip()

    name = words(recorded["seg_tok_normal"][0])
    states = [words(ids) for ids in recorded["seg_tok_handle"][:: config["n_prompts"]["seg"]]]  # after one context
    return name, [state.removeprefix(name).strip() for state in states[len(GENERIC_STATES) :]]


def build_method(backbone, config, name, states_file, **settings):
    """With the released code's choices, unless `settings` say otherwise."""
    category, layers = config["category"], backbone.n_image_blocks
    released = {
        "lr": config["lr"],
        "momentum": config["momentum"],
        "weight_decay": config["weight_decay"],
        "n_ctx": config["n_ctx"],
        "n_ctx_anomalous": config["n_ctx_ab"],
        "n_anomalous": config["n_learned_abnormal"],
        "n_prompts_cls": config["n_prompts"]["cls"],
        "n_prompts_seg": config["n_prompts"]["seg"],
        "margin": config["margin"],
        "align_weight": config["lambda_align"],
        "memory_layers": tuple((block + 1) / layers for block in config["memory_blocks_zero_based"]),
        "map_size": config["resolution"],
        "sigma": config["sigma"],
        "states_file": str(states_file),
        "suffix_at": "before_name",
        "pairs": "modulo",
        "seg_margin_over": "tokens",
        "tap_point": "next_attention",
    }
    return PromptAD(backbone, {category: name}, PromptAD.Config(**released | settings))


def load(method, recorded, step):
    """Put the recorded contexts in, before (0) or after (1) the optimiser's step."""
    with torch.no_grad():
        for head in HEADS:
            getattr(method, head).normal_ctx.copy_(recorded[f"{head}_normal_ctx{step}"])
            getattr(method, head).anomalous_ctx.copy_(recorded[f"{head}_abnormal_ctx{step}"])


@pytest.fixture(scope="module")
def parity(request, tmp_path_factory):
    """The recorded tensors, and what builds a method that has seen the recorded shots."""
    with np.load(request.config.getoption("fixture") or FIXTURE) as file:
        config = json.loads(str(file["config_json"]))
        recorded = {k: torch.from_numpy(np.asarray(file[k])) for k in file.files if k != "config_json"}
    weights = {k.removeprefix("clip."): v for k, v in recorded.items() if k.startswith("clip.")}
    backbone = open_recorded(config, weights)
    for ours, theirs in ((backbone.mean, "preprocess_mean"), (backbone.std, "preprocess_std")):
        assert_close(ours.flatten(), torch.tensor(config[theirs]))
    name, suffixes = spoken(backbone, config, recorded)
    states_file = tmp_path_factory.mktemp("promptad") / "states.json"
    states_file.write_text(json.dumps({config["category"]: suffixes}))
    shots, images = (recorded[k] * backbone.std + backbone.mean for k in ("train_x", "test_x"))  # recorded normalised

    def build(step, **settings):
        method = build_method(backbone, config, name, states_file, **settings)
        load(method, recorded, step)
        method.adapt(shots, config["category"])
        return method

    key = config["category"]
    nothing = torch.zeros(len(shots), *shots.shape[2:], dtype=torch.bool)
    batch = Batch(shots, nothing, nothing.any(dim=(1, 2)), [key] * len(shots), [f"{i}.png" for i in range(len(shots))])
    return SimpleNamespace(
        build=build, recorded=recorded, config=config, batch=batch, images=images, keys=[key] * len(images)
    )


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_prompts(parity, head, family):
    """Ids of the whole text, and the first recorded positions of what is encoded."""
    ids, embeddings, _ = getattr(getattr(parity.build(0), head)(parity.config["category"]), family)
    expected = parity.recorded[f"{head}_emb_{FAMILIES[family]}"]
    assert torch.equal(ids, parity.recorded[f"{head}_tok_{FAMILIES[family]}"])
    assert_close(embeddings[:, : expected.shape[1]], expected, **FORWARD)


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
def test_text_features_and_prototypes(parity, head):
    method, recorded, category = parity.build(0), parity.recorded, parity.config["category"]
    text = getattr(method, head).encode(method.backbone, category)
    for family, theirs in FAMILIES.items():
        assert_close(getattr(text, family), recorded[f"{head}_txt_{theirs}"], **FORWARD)
    anchors = torch.cat([recorded[f"{head}_anchor_normal"], recorded[f"{head}_anchor_abnormal"]])
    assert_close(text.prototypes, anchors, **FORWARD)
    for step in (0, 1):
        load(method, recorded, step)
        kept = getattr(method, head).prototypes(method.backbone, [category])
        assert_close(kept[0], recorded[f"{head}_text_gallery{step}"], **FORWARD)


def test_image_features(parity):
    features = parity.build(0)._encode_image(parity.images)
    assert_close(features.image, parity.recorded["test_cls"], **FORWARD)
    assert_close(features.patches[0], parity.recorded["test_tokens"], **FORWARD)
    taps = torch.stack([parity.recorded["test_mid1"], parity.recorded["test_mid2"]])
    assert_close(F.normalize(features.taps, dim=-1), taps, **FORWARD)


def test_memory_of_the_shots(parity):
    memory = parity.build(0).memory._recall(parity.config["category"], torch.device("cpu"))
    for kind, kept in enumerate(memory, start=1):
        for head in HEADS:
            assert_close(kept.flatten(0, 1), parity.recorded[f"{head}_gallery{kind}"], **FORWARD)


@pytest.mark.parametrize("head", HEADS)
def test_every_term_of_the_loss(parity, head):
    terms = getattr(parity.build(0).loss_terms(parity.batch), head)
    for ours, theirs in (("contrast", "clip"), ("margin", "ema"), ("alignment", "align")):
        assert_close(getattr(terms, ours), parity.recorded[f"{head}_loss_{theirs}"], **LOSS, msg=ours)


@pytest.mark.parametrize("head", HEADS)
def test_margin_as_the_paper_has_it_and_another_margin(parity, head):
    channels = getattr(parity.build(0, seg_margin_over="channels").loss_terms(parity.batch), head)
    assert_close(channels.margin, parity.recorded[f"{head}_alt_loss_ema_channel"], **LOSS)
    wide = getattr(parity.build(0, margin=1.0).loss_terms(parity.batch), head)
    assert_close(wide.margin, parity.recorded[f"{head}_alt_loss_ema_margin1"], **LOSS)


def test_total_loss_gradients_and_the_step(parity):
    """The two heads are two models in the release; here one loss trains both."""
    method, recorded = parity.build(0), parity.recorded
    (optimizer,), _ = method.configure_optimizers()
    loss = method.train().loss(parity.batch)
    assert_close(loss.detach(), recorded["cls_loss_total"] + recorded["seg_loss_total"], **LOSS)
    loss.backward()
    optimizer.step()
    for head in HEADS:
        for ours, theirs in (("normal_ctx", "normal_ctx"), ("anomalous_ctx", "abnormal_ctx")):
            parameter, gradient = getattr(getattr(method, head), ours), recorded[f"{head}_grad_{theirs}"]
            assert_close(parameter.grad, gradient, atol=GRADIENT * gradient.abs().max().item(), rtol=0)
            assert_close(parameter.detach(), recorded[f"{head}_{theirs}1"], atol=1e-6, rtol=0)


def test_prediction(parity):
    prediction = parity.build(1).eval()(parity.images, parity.keys)
    assert_close(prediction.score, parity.recorded["cls_score_final"], **FORWARD)
    assert_close(prediction.anomaly_map, parity.recorded["seg_map_final"], **FORWARD)


def test_prediction_of_one_image_at_a_time(parity):
    method = parity.build(1).eval()
    for row, image in enumerate(parity.images.split(1)):
        prediction = method(image, parity.keys[:1])
        assert_close(prediction.score, parity.recorded["cls_score_final"][row : row + 1], **FORWARD)
        assert_close(prediction.anomaly_map, parity.recorded["seg_map_final"][row : row + 1], **FORWARD)


@torch.no_grad()
def test_steps_from_features_to_map_and_score(parity):
    method, recorded = parity.build(1), parity.recorded
    features, size = method._encode_image(parity.images), (parity.config["resolution"],) * 2
    taps = F.normalize(features.taps, dim=-1)
    visual = torch.stack(method.memory.distances(taps, parity.keys)).mean(dim=0) / 2
    seg, cls = (getattr(method, head).prototypes(method.backbone, parity.keys) for head in ("seg", "cls"))
    textual = log_text_probability(features.patches[0], seg, 1 / method.scale).exp()
    fused = fuse(textual.log(), visual.log())
    for name, patches in (("text", textual), ("visual", visual), ("fused", fused)):
        assert_close(to_grid(patches, features.grid), recorded[f"seg_map_{name}"].squeeze(1), **FORWARD)
    enlarged = to_map(fused, features.grid, size)
    assert_close(enlarged, recorded["seg_map_up"].squeeze(1), **FORWARD)
    assert_close(gaussian_smooth(enlarged, parity.config["sigma"]), recorded["seg_map_final"], **FORWARD)
    assert_close(to_map(visual, features.grid, size), recorded["cls_map_visual_up"], **FORWARD)
    score = log_text_probability(features.image.unsqueeze(1), cls, 1 / method.scale).exp().squeeze(1)
    assert_close(score, recorded["cls_score_text"], **FORWARD)


@pytest.mark.parametrize(
    ("settings", "textual", "visual"),
    [
        ({"logit_scale_as": "exponential"}, "alt_seg_map_text_exp", "seg_map_visual"),
        ({"tap_point": "block"}, "seg_map_text", "alt_seg_map_visual_clean"),
    ],
)
def test_prediction_without_one_of_the_released_choices(parity, settings, textual, visual):
    """Fused by hand, since only the parts of these maps are recorded."""
    textual, visual = (parity.recorded[name].squeeze(1) for name in (textual, visual))
    size = (parity.config["resolution"],) * 2
    fused = fuse(textual.log(), visual.log()).flatten(1)
    expected = gaussian_smooth(to_map(fused, textual.shape[1:], size), parity.config["sigma"])
    assert_close(parity.build(1, **settings).eval()(parity.images, parity.keys).anomaly_map, expected, **FORWARD)
