"""Backbones of a folder or a repository with a description of their own: open_clip's `local-dir:` and `hf-hub:`."""

import json

import open_clip
import pytest
import torch
from described_model import CONFIG, PREPROCESSING, describe, write

from methods.components.clip.backbone import BackboneError, CLIPBackbone
from methods.components.clip.model_files import local_digest, local_files, model_label

pytestmark = pytest.mark.slow

TEXTS = ["a photo of a bottle", "a broken screw"]


def changed(part, **values):
    return CONFIG | {part: CONFIG[part] | values}


@pytest.fixture
def images():
    return torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("quick", [False, True])
def test_features_are_those_of_open_clip(tmp_path, images, quick):
    name = write(tmp_path / "mine", CONFIG | {"quick_gelu": quick})
    backbone, theirs = CLIPBackbone.load(name, ""), open_clip.create_model(name).eval()
    mean, std = (torch.tensor(PREPROCESSING[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        seen = theirs.encode_image((images - mean) / std, normalize=True)
        read = theirs.encode_text(open_clip.get_tokenizer(name)(TEXTS), normalize=True)
    torch.testing.assert_close(backbone.encode_image(images).image, seen, rtol=0, atol=1e-6)
    torch.testing.assert_close(backbone.encode_text(backbone.tokenize(TEXTS)), read, rtol=0, atol=1e-6)
    assert (backbone.image_size, backbone.grid_size, backbone.embed_dim) == (48, (6, 6), 20)
    assert (backbone.image_width, backbone.text_width, backbone.n_text_blocks) == (32, 24, 2)
    assert isinstance(backbone.clip.visual.ln_pre, torch.nn.Identity)


def test_everything_that_a_method_asks_for_works_without_ln_pre(tmp_path, images):
    backbone = CLIPBackbone.load(write(tmp_path), "", image_size=64)
    prompt = torch.zeros(2, 32, requires_grad=True)
    asked = {"layers": (1, 3), "taps": (2,), "stream": "vv_from_ordinary", "deep_prompts": [prompt], "prefix": prompt}
    found = backbone.encode_image(torch.rand(1, 3, 64, 64), **asked)
    assert found.patches.shape == (2, 1, 64, 20)
    found.image.sum().backward()
    assert prompt.grad.abs().sum() > 0


def test_a_context_of_its_own(tmp_path):
    backbone = CLIPBackbone.load(write(tmp_path), "")
    assert backbone.tokenize(["cat " * 22]).ids.shape == (1, 24)
    with pytest.raises(BackboneError, match="at most 24 tokens"):
        backbone.tokenize(["cat " * 23])


def test_half_weights_become_float32(tmp_path, images):
    whole, half = CLIPBackbone.load(write(tmp_path / "a"), ""), CLIPBackbone.load(write(tmp_path / "b", half=True), "")
    assert {weight.dtype for weight in half.clip.state_dict().values()} == {torch.float32}
    torch.testing.assert_close(half.encode_image(images).image, whole.encode_image(images).image, rtol=0, atol=1e-2)
    assert torch.equal(half.clip.visual.proj, whole.clip.visual.proj.half().float())


def test_without_mean_and_deviation_they_are_openais(tmp_path):
    for preprocessing in ({}, {"mean": PREPROCESSING["mean"], "std": None}):
        backbone = CLIPBackbone.load(write(tmp_path, preprocessing=preprocessing), "")
        mean = preprocessing.get("mean", open_clip.OPENAI_DATASET_MEAN)
        torch.testing.assert_close(backbone.mean.flatten(), torch.tensor(mean), rtol=0, atol=0)
        std = torch.tensor(open_clip.OPENAI_DATASET_STD)
        torch.testing.assert_close(backbone.std.flatten(), std, rtol=0, atol=0)


@pytest.mark.parametrize("file", ["open_clip_pytorch_model.bin", "model.pth"])
def test_other_names_of_a_checkpoint(tmp_path, images, file):
    expected = CLIPBackbone.load(write(tmp_path / "a"), "").encode_image(images).image
    assert torch.equal(CLIPBackbone.load(write(tmp_path / "b", file=file), "").encode_image(images).image, expected)


def test_of_several_checkpoints_open_clips_first_one_counts(tmp_path):
    write(tmp_path, file="pytorch_model.bin", seed=4)
    name = write(tmp_path, seed=3)
    alone = CLIPBackbone.load(write(tmp_path / "alone", seed=3), "")
    assert local_files(name).checkpoint.name == "open_clip_model.safetensors"
    assert CLIPBackbone.load(name, "").weights_hash == alone.weights_hash


def test_tilde_is_the_home(tmp_path, monkeypatch):
    write(tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert CLIPBackbone.load("local-dir:~/mine", "").image_size == 48


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed("vision_cfg", timm_model_name="vit_tiny"), "its image tower is timm's. Supported: open_clip's"),
        (changed("vision_cfg", layers=[1, 1, 1, 1]), "its image tower is a ResNet. Supported"),
        (CONFIG | {"custom_text": True}, "its text tower is of another class. Supported"),
        (changed("text_cfg", hf_model_name="roberta-base"), "its text tower is Hugging Face's. Supported"),
        (changed("text_cfg", hf_tokenizer_name="roberta-base"), "its tokenizer is Hugging Face's. Supported"),
        (changed("text_cfg", tokenizer_kwargs={"clean": "lower"}), "its tokenizer has settings of its own. Supported"),
    ],
)
def test_descriptions_that_are_not_supported(tmp_path, config, message):
    name = write(tmp_path)
    describe(tmp_path, config)
    with pytest.raises(BackboneError, match=message):
        CLIPBackbone.load(name, "")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed("text_cfg", vocab_size=1000), "has 1000 words, the tokenizer 49408. Supported"),
        (changed("text_cfg", pool_type="eos"), "texts end with token 2, the tokenizer's with 49407. Supported"),
        (changed("text_cfg", pool_type="last"), "the text tower pools by 'last'. Supported"),
        (changed("text_cfg", embed_cls=True), "the text tower has a class token. Supported"),
        (changed("text_cfg", proj_type="none", width=20, heads=2), "the text tower has no projection. Supported"),
        (changed("vision_cfg", pool_type="avg"), "the image tower pools by 'avg'. Supported"),
        (changed("vision_cfg", image_size=[48, 64]), "the images or patches are not square. Supported"),
        (changed("vision_cfg", patch_size=[8, 4]), "the images or patches are not square. Supported"),
        (changed("vision_cfg", qk_norm=True), "not a plain residual attention block. Supported"),
    ],
)
def test_towers_that_are_not_supported(tmp_path, config, message):
    with pytest.raises(BackboneError, match=message):
        CLIPBackbone.load(write(tmp_path, config), "")


def test_a_larger_vocabulary_and_eos_that_is_the_tokenizers_are_supported(tmp_path):
    config = changed("text_cfg", vocab_size=50000, pool_type="eos", eos_id=49407)
    backbone = CLIPBackbone.load(write(tmp_path, config), "")
    assert backbone.encode_text(backbone.tokenize(TEXTS)).shape == (2, 20)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{", "open_clip_config.json is no readable JSON"),
        ("[]", "must hold a model_cfg with embed_dim, vision_cfg and text_cfg; got None"),
        (CONFIG, "must hold a model_cfg .* got None"),
        ({"model_cfg": {key: CONFIG[key] for key in ("embed_dim", "vision_cfg")}}, "must hold a model_cfg"),
        ({"model_cfg": CONFIG | {"text_cfg": 3}}, "must hold a model_cfg"),
        (
            {"model_cfg": changed("vision_cfg", colour=1)},
            "describes no CLIP: TypeError: .*unexpected keyword.*'colour'",
        ),
        ({"model_cfg": changed("text_cfg", heads=5)}, "describes no CLIP: "),
        ({"model_cfg": CONFIG, "preprocess_cfg": [0.5]}, "preprocess_cfg must hold mean and std; got .0.5."),
        ({"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5]}}, "cfg.mean must be three numbers; got .0.5."),
        ({"model_cfg": CONFIG, "preprocess_cfg": {"std": [1, 1, 0]}}, "cfg.std must be three numbers above 0; got"),
        ({"model_cfg": changed("vision_cfg", width=64)}, "does not fit the model: visual.class_embedding is .32.*64"),
        ({"model_cfg": changed("vision_cfg", layers=12)}, "does not fit the model: .* is missing"),
    ],
)
def test_descriptions_that_are_wrong(tmp_path, said, message):
    name = write(tmp_path)
    text = said if isinstance(said, str) else json.dumps(said)
    (tmp_path / "open_clip_config.json").write_text(text)
    with pytest.raises(BackboneError, match=message):
        CLIPBackbone.load(name, "")


def test_folders_that_lack_something(tmp_path):
    with pytest.raises(BackboneError, match=r"names a folder that does not exist: /.*gone\."):
        CLIPBackbone.load(f"local-dir:{tmp_path / 'gone'}", "")
    with pytest.raises(BackboneError, match=r"lacks open_clip_config\.json; it holds nothing\."):
        CLIPBackbone.load(f"local-dir:{tmp_path}", "")
    describe(tmp_path)
    with pytest.raises(
        BackboneError, match=r"lacks a checkpoint \(open_clip_model\.safetensors, .* it holds open_clip_c"
    ):
        CLIPBackbone.load(f"local-dir:{tmp_path}", "")


def test_pretrained_must_be_empty(tmp_path):
    with pytest.raises(
        BackboneError, match=r"pretrained must be empty, local-dir:.* brings its own weights; got 'openai'"
    ):
        CLIPBackbone.load(write(tmp_path), "openai")


@pytest.mark.parametrize("quick", [False, True])
def test_the_description_says_the_activation_and_a_word_is_compared_with_it(tmp_path, quick):
    name = write(tmp_path, CONFIG | {"quick_gelu": quick})
    right, wrong = ("quick_gelu", "gelu") if quick else ("gelu", "quick_gelu")
    CLIPBackbone.load(name, "", activation=right)
    with pytest.raises(BackboneError, match=f"activation={wrong} was said, but the open_clip_config.json .* {right}"):
        CLIPBackbone.load(name, "", activation=wrong)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """The cache of the hub, which is out of reach."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_a_repository_that_is_in_the_cache(offline, images):
    folder = offline / "models--who--what"
    write(folder / "snapshots" / "0123")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123")
    backbone = CLIPBackbone.load("hf-hub:who/what", "")
    same = CLIPBackbone.load(f"local-dir:{folder / 'snapshots' / '0123'}", "")
    assert torch.equal(backbone.encode_image(images).image, same.encode_image(images).image)
    assert torch.equal(backbone.mean.flatten(), torch.tensor(PREPROCESSING["mean"]))


def test_a_repository_that_cannot_be_had(offline):
    with pytest.raises(BackboneError) as caught:
        CLIPBackbone.load("hf-hub:who/what", "")
    said = str(caught.value)
    assert said.startswith("Cannot get hf-hub:who/what. Its open_clip_config.json and weights are looked for in ")
    assert f"{offline} (moved by HF_HOME)" in said
    assert (
        "copy both files of https://huggingface.co/who/what into a folder and give local-dir:FOLDER. Reason: " in said
    )


@pytest.mark.parametrize("name", ["hf-hub:what", "hf-hub:who/what/more", "hf-hub:who/"])
def test_a_repository_has_two_parts(name):
    with pytest.raises(BackboneError, match="must be hf-hub:ORG/NAME"):
        CLIPBackbone.load(name, "")


def test_content_is_that_of_both_files_wherever_they_lie(tmp_path):
    name, copied = write(tmp_path / "a"), write(tmp_path / "elsewhere" / "b")
    first = local_digest(name)
    assert first == local_digest(copied)
    (tmp_path / "a" / "README.md").write_text("no part of the model")
    assert local_digest(name) == first
    assert local_digest(write(tmp_path / "a", preprocessing={})) not in (None, first)
    assert local_digest(write(tmp_path / "a", seed=5)) not in (None, first)
    assert local_digest("local-dir:nowhere") is local_digest("hf-hub:who/what") is local_digest("embedded") is None


def test_labels():
    assert model_label("local-dir:/models/vit.v1/", "0123456789") == "vit.v1-01234567"
    assert model_label("local-dir:vit", None) == "vit"
    assert model_label("hf-hub:who/what", None) == "who/what"
