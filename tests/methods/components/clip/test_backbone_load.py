"""Where weights come from, how they are told apart, and what is said when they do not come."""

import copy
import zlib

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from benchmark.request.cell import DEMO_NOTE
from methods.components.clip.backbone import BackboneError, CLIPBackbone
from methods.components.clip.published_weights import DEMO_FILE
from methods.components.clip.weights import hash_weights, model_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def embedded():
    return CLIPBackbone.load("embedded", "random")


def test_embedded_model_is_the_same_in_every_process(embedded):
    # Written down by another process. A new value makes new rows of the embedded model incomparable with old ones.
    assert embedded.weights_hash == "239611db879e397c66919f15097d89313befb57c50bb8fcbe77e51a00648b786"


def test_embedded_model(embedded):
    assert (embedded.n_image_blocks, embedded.n_text_blocks) == (4, 6)
    assert (embedded.image_size, embedded.patch_size, embedded.grid_size) == (144, 8, (18, 18))
    assert (embedded.image_width, embedded.text_width, embedded.embed_dim) == (192, 128, 128)
    assert embedded.logit_scale == pytest.approx(2.6593, abs=1e-4)
    assert embedded.clip.vocab_size == 49408
    assert embedded.clip.visual.conv1.weight.mean(dim=(2, 3)).abs().max() < 1e-7
    for name, weight in embedded.clip.named_parameters():
        if weight.ndim > 1 and name != "visual.conv1.weight":  # uniform of variance 1 / fan-in, branches weaker
            gain = 0.3 if name.endswith(("out_proj.weight", "c_proj.weight")) else 1
            scaled = weight * weight[0].numel() ** 0.5 / gain
            assert scaled.abs().max() <= 3**0.5 + 1e-5
            assert scaled.std().item() == pytest.approx(1, abs=0.05)


def test_demo_weights_are_those_of_the_card():
    demo = CLIPBackbone.load("embedded", "demo")
    assert demo.weights_hash == "cd60cef9a4b3addac713a253918daa80816eff4c96d054a2af05ca6c87c57f36"
    assert demo.weights_hash in DEMO_FILE.with_suffix(".md").read_text(encoding="utf-8")
    assert DEMO_NOTE in DEMO_FILE.with_suffix(".md").read_text(encoding="utf-8")
    rows = demo.clip.token_embedding.weight.abs().sum(dim=1) > 0
    assert 100 < int(rows.sum()) < 1000  # the words of training; all others are nothing


def test_demo_weights_load_through_plain_open_clip_and_are_small_in_a_wheel():
    model = open_clip.CLIP(**model_config("embedded"))
    model.load_state_dict(load_file(DEMO_FILE))
    images = torch.rand(2, 3, 144, 144, generator=torch.Generator().manual_seed(0))
    demo = CLIPBackbone.load("embedded", "demo")
    with torch.no_grad():
        plain = model.eval().encode_image((images - demo.mean) / demo.std, normalize=True)
    torch.testing.assert_close(demo.encode_image(images).image, plain, rtol=0, atol=1e-5)
    assert len(zlib.compress(DEMO_FILE.read_bytes(), 6)) < 8_000_000


def test_loading_leaves_the_callers_random_state(embedded):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    CLIPBackbone.load()
    assert torch.equal(torch.rand(3), expected)


def test_hash_tells_weights_names_and_shapes_apart():
    state = {"a": torch.arange(4.0), "b": torch.zeros(2, dtype=torch.bfloat16), "c": torch.tensor(1)}
    assert hash_weights(copy.deepcopy(state)) == hash_weights(state)
    assert hash_weights(dict(reversed(state.items()))) == hash_weights(state)
    changed = [
        state | {"a": torch.tensor([0.0, 1, 2, 3 + 1e-6])},
        state | {"a": torch.arange(4.0).view(2, 2)},
        state | {"b": torch.zeros(4, dtype=torch.uint8)},
        {"d" if k == "a" else k: v for k, v in state.items()},
    ]
    assert len({hash_weights(s) for s in [state, *changed]}) == 5


def test_hash_of_a_backbone_is_kept(embedded, monkeypatch):
    first = embedded.weights_hash
    monkeypatch.setattr("methods.components.clip.backbone.hash_weights", None)
    assert embedded.weights_hash == first


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_checkpoint_by_path(embedded, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    state = {k: v + 1 if k == "visual.proj" else v.clone() for k, v in embedded.clip.state_dict().items()}
    if suffix == ".pt":
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(state, path)
    loaded = CLIPBackbone.load("embedded", str(path), image_size=64)
    assert torch.equal(loaded.clip.visual.proj, state["visual.proj"])
    assert loaded.weights_hash != embedded.weights_hash
    assert loaded.grid_size == (8, 8)


def test_checkpoint_that_does_not_fit(embedded, tmp_path):
    state = dict(embedded.clip.state_dict())
    state["visual.proj"] = torch.zeros(192, 64)
    state["visual.extra"] = torch.zeros(1)
    del state["ln_final.bias"]
    path = tmp_path / "other.pt"
    torch.save(state, path)
    with pytest.raises(BackboneError) as caught:
        CLIPBackbone.load("embedded", str(path))
    assert str(caught.value) == (
        f"The checkpoint {path} does not fit the model: ln_final.bias is missing; visual.extra is unknown; "
        "visual.proj is (192, 64) instead of (192, 128)."
    )


def test_a_checkpoint_of_another_size_is_not_resized_silently(embedded, tmp_path):
    state = dict(embedded.clip.state_dict())
    state["visual.positional_embedding"] = torch.zeros(17, 192)
    torch.save(state, tmp_path / "small.pt")
    with pytest.raises(BackboneError, match=r"positional_embedding is \(17, 192\) instead of \(325, 192\)"):
        CLIPBackbone.load("embedded", str(tmp_path / "small.pt"))


def test_files_that_are_no_checkpoint(tmp_path):
    with pytest.raises(BackboneError, match=r"does not exist: /.*gone\.pt"):
        CLIPBackbone.load("embedded", str(tmp_path / "gone.pt"))
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(BackboneError, match=r"Cannot read .*text\.pt as a checkpoint .*Allowed: a safetensors file"):
        CLIPBackbone.load("embedded", str(tmp_path / "text.pt"))
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(BackboneError, match=r"Cannot read .*list\.pt"):
        CLIPBackbone.load("embedded", str(tmp_path / "list.pt"))


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        (
            "ViT-L14-336",
            "openai",
            r"Unknown backbone 'ViT-L14-336'. Nearest: .*ViT-L-14-336.*: 'embedded', the \d+ names",
        ),
        (
            "ViT-B-16",
            "laion2b",
            r"Unknown weights 'laion2b' of ViT-B-16. Nearest: .*laion2b_s34b_b88k.* Allowed: openai, ",
        ),
        ("embedded", "openai", "the weights 'demo', 'random' or a checkpoint's path; got 'openai'"),
        ("RN50", "openai", "Unsupported backbone 'RN50': its image tower is a ResNet. Supported: open_clip's"),
        ("ViT-B-16-SigLIP", "webli", "its image tower is timm's; its text tower is of another class"),
        ("coca_ViT-B-32", "laion2b_s13b_b90k", "Unsupported backbone"),
        ("ViT-L-14-CLIPA", "datacomp1b", "Unsupported backbone"),
        (
            "ViT-L-14-336",
            "openai",
            "'openai' were trained with the activation of ViT-L-14-336-quickgelu; got .*ViT-L-14-336",
        ),
        ("ViT-B-16-quickgelu", "laion2b_s34b_b88k", "Unknown weights"),
    ],
)
def test_names_that_cannot_be_loaded(name, pretrained, message):
    with pytest.raises(BackboneError, match=message):
        CLIPBackbone.load(name, pretrained)


def test_weights_that_cannot_be_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BackboneError) as caught:
        CLIPBackbone.load("ViT-B-32-quickgelu", "openai")
    said = str(caught.value)
    assert "Cannot get the weights 'openai' of ViT-B-32-quickgelu" in said
    assert f"looked for in {tmp_path} (moved by HF_HOME)" in said
    assert "give the path of a checkpoint as backbone.pretrained. Reason: " in said


@pytest.mark.parametrize("setting", ["position_resize", "precision"])
def test_settings_out_of_range(backbone, setting):
    with pytest.raises(BackboneError, match=f"{setting} is one of .*; got 'nearest'"):
        CLIPBackbone(backbone.clip, backbone.tokenizer, **{setting: "nearest"})


TEXT = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
VISION = {"image_size": 16, "layers": 1, "width": 8, "head_width": 8, "patch_size": 8}


@pytest.mark.parametrize(
    ("vision", "text", "message"),
    [
        ({"pool_type": "avg"}, {}, "the image tower pools by 'avg'"),
        ({"attentional_pool": True}, {}, "the image tower pools by attention"),
        ({"layers": [1, 1, 1, 1], "width": 8}, {}, "image tower, a ModifiedResNet"),
        ({"qk_norm": True}, {}, "a block is not a plain residual attention block"),
        ({}, {"pool_type": "last"}, "the text tower pools by 'last'"),
        ({}, {"no_causal_mask": True}, "no causal mask"),
    ],
)
def test_towers_that_are_not_supported(vision, text, message):
    clip = open_clip.CLIP(embed_dim=8, vision_cfg=VISION | vision, text_cfg=TEXT | text)
    with pytest.raises(BackboneError, match=f"Unsupported .*{message}.*Supported: open_clip's built-in CLIP"):
        CLIPBackbone(clip, open_clip.SimpleTokenizer())


def test_other_model_classes_are_not_supported():
    clip = open_clip.CustomTextCLIP(embed_dim=8, vision_cfg=VISION, text_cfg=TEXT)
    with pytest.raises(BackboneError, match="Unsupported model, a CustomTextCLIP"):
        CLIPBackbone(clip, open_clip.SimpleTokenizer())
