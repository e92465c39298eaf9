"""The backbone against tensors recorded from the released code of FAPrompt and PromptAD (see fixtures)."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from methods.components.clip import image_tower
from methods.components.clip.backbone import CLIPBackbone, Tokens

FIXTURES = Path(__file__).parents[3] / "fixtures"
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
CLOSE = {"atol": 2e-5, "rtol": 0}


def _load(name, prefix):
    """The recorded tensors and a backbone with the recorded weights; images there are normalised already."""
    with np.load(FIXTURES / f"{name}.npz") as file:
        recorded = {k: torch.from_numpy(file[k]) for k in file.files if file[k].dtype.kind != "U"}
        config = json.loads(str(file["config_json"]))
    vision, text = config["vision"], config["text"]
    clip = open_clip.CLIP(
        embed_dim=config["embed_dim"],
        quick_gelu=vision.get("activation") == "quick_gelu",
        vision_cfg={
            "image_size": vision.get("pretrain_image_size", config["image_size"]),
            "layers": vision["layers"],
            "width": vision["width"],
            "head_width": vision["width"] // vision["heads"],
            "patch_size": vision["patch"],
        },
        text_cfg={
            "context_length": text["context"],
            "vocab_size": text["vocab"],
            "width": text["width"],
            "heads": text["heads"],
            "layers": text["layers"],
        },
    )
    clip.load_state_dict({k.removeprefix(prefix): v.float() for k, v in recorded.items() if k.startswith(prefix)})
    return recorded, CLIPBackbone(clip, open_clip.SimpleTokenizer(), image_size=config["image_size"])


@pytest.fixture(scope="module")
def faprompt():
    return _load("faprompt", "clip/")


@pytest.fixture(scope="module")
def promptad():
    return _load("promptad", "clip.")


@pytest.mark.slow
def test_faprompt_image_features(faprompt):
    recorded, backbone = faprompt
    images = recorded["data/image"] * STD + MEAN
    got = backbone.encode_image(images, layers=(6,), stream="vv_from_ordinary", vv_from=2, class_norm=False)
    assert got.grid == backbone.grid_size == (9, 9)
    assert_close(got.image, recorded["vis/cls"], **CLOSE)
    assert_close(got.patches[0], recorded["vis/tokens"][:, 1:], **CLOSE)


def test_faprompt_tokens_after_every_block(faprompt):
    recorded, backbone = faprompt
    visual = backbone.clip.visual
    positions = image_tower.resize_positions(visual, (9, 9), "bilinear")
    x = visual.ln_pre(image_tower.embed_patches(visual, recorded["data/image"], positions))
    assert_close(x, recorded["vis/tokens_after_ln_pre"], **CLOSE)
    request = image_tower.ImageRequest(stream="vv_from_ordinary", vv_from=2)
    for index, (ordinary, asked) in enumerate(image_tower.run_blocks(visual, x, request)):
        assert_close(ordinary[1], recorded[f"vis/img1_block{index}_ori"], **CLOSE)
        expected = recorded[f"vis/img1_block{index}_{'vv' if index >= 2 else 'ori'}"]
        assert_close(asked[1], expected, **CLOSE)


def _faprompt_tokens(recorded, backbone, omega):
    """Tokens of the normal prompt and of the ten abnormal ones, the prior `omega` added to the abnormal context."""
    normal, abnormal = (recorded[f"learner/token_ids_{kind}"].unsqueeze(0) for kind in ("normal", "abnormal"))
    embed = backbone.clip.token_embedding
    normal_ctx, abnormal_ctx = recorded["learner/ctx_pos"][0], recorded["learner/ctx_neg"][0]  # (1, 5, W), (10, 2, W)
    e = embed(normal)
    first = Tokens(normal, torch.cat([e[:, :1], normal_ctx, e[:, 6:]], dim=1))
    e = embed(abnormal).expand(10, -1, -1)
    parts = [e[:, :1], normal_ctx.expand(10, -1, -1), abnormal_ctx + omega, e[:, 8:]]
    return first, Tokens(abnormal.expand(10, -1), torch.cat(parts, dim=1))


def test_faprompt_text_features_with_deep_prompts(faprompt):
    recorded, backbone = faprompt
    deep = [recorded[f"learner/compound_prompts_text.{j}"].half().float() for j in range(2)]
    normal, abnormal = _faprompt_tokens(recorded, backbone, omega=0)
    ask = {"deep_prompts": deep, "deep_start": 1, "normalise": False}
    assert_close(backbone.encode_text(normal, **ask)[0], recorded["text/normal"], **CLOSE)
    assert_close(backbone.encode_text(abnormal, **ask), recorded["text/abnormal"], **CLOSE)
    for image in range(2):
        _, conditioned = _faprompt_tokens(recorded, backbone, omega=recorded["topk/text/prior"][image])
        assert_close(backbone.encode_text(conditioned, **ask), recorded["topk/text/abnormal"][image], **CLOSE)


def test_faprompt_token_ids(faprompt):
    recorded, backbone = faprompt
    tokens = backbone.tokenize(["N N N N N object.", "N N N N N A A damaged object."])
    assert torch.equal(tokens.ids[0], recorded["learner/token_ids_normal"])
    assert torch.equal(tokens.ids[1], recorded["learner/token_ids_abnormal"])


@pytest.mark.slow
@pytest.mark.parametrize(("tap_point", "kind"), [("block", "clean"), ("next_attention", "raw")])
def test_promptad_image_features_and_taps(promptad, tap_point, kind):
    recorded, backbone = promptad
    images = recorded["train_x"] * STD + MEAN
    got = backbone.encode_image(images, layers=(12,), stream="vv_from_ordinary", taps=(3, 8), tap_point=tap_point)
    assert_close(got.image, F.normalize(recorded["vis_raw_cls"], dim=-1), **CLOSE)
    assert_close(got.patches[0], F.normalize(recorded["vis_raw_tokens"], dim=-1), **CLOSE)
    assert_close(got.taps, torch.stack([recorded[f"vis_{kind}_mid1"], recorded[f"vis_{kind}_mid2"]]), **CLOSE)


@pytest.mark.parametrize("tag", ["seg", "cls"])
@pytest.mark.parametrize("family", ["normal", "handle", "learned"])
def test_promptad_text_features(promptad, tag, family):
    recorded, backbone = promptad
    tokens = Tokens(recorded[f"{tag}_tok_{family}"][:, :16], recorded[f"{tag}_emb_{family}"])
    assert_close(backbone.encode_text(tokens, normalise=False), recorded[f"{tag}_txt_{family}"], **CLOSE)
