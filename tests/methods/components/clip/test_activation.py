"""Weights do not tell their activation: a checkpoint given by path must be known or spoken for."""

import copy
import hashlib

import open_clip
import pytest
import torch
from torch import nn

from benchmark.contract.candidates import SMALL
from methods.components.clip import weights
from methods.components.clip.backbone import BackboneError, CLIPBackbone
from methods.components.clip.published_weights import PUBLISHED_FILES, PublishedFile, weights_label

pytestmark = pytest.mark.slow

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
NAMES = {"gelu": "tiny", "quick_gelu": "tiny-quickgelu"}
OTHER = {"gelu": "quick_gelu", "quick_gelu": "gelu"}


@pytest.fixture(autouse=True)
def names(monkeypatch):
    """Two models of open_clip that differ in their activation alone."""
    configs = open_clip.factory._MODEL_CONFIGS
    monkeypatch.setitem(configs, "tiny", copy.deepcopy(SMALL))
    monkeypatch.setitem(configs, "tiny-quickgelu", copy.deepcopy(SMALL) | {"quick_gelu": True})


@pytest.fixture(params=NAMES)
def trained(request, tmp_path):
    """The activation of a model's training, the model and its checkpoint."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        clip = open_clip.CLIP(**SMALL, quick_gelu=request.param == "quick_gelu")
    path = tmp_path / "mine.pt"
    torch.save(clip.state_dict(), path)
    return request.param, CLIPBackbone(clip, open_clip.SimpleTokenizer()), path


@pytest.fixture
def published(trained, monkeypatch):
    """The checkpoint becomes a known one."""
    digest = hashlib.sha256(trained[2].read_bytes()).hexdigest()
    monkeypatch.setitem(PUBLISHED_FILES, digest, PublishedFile("tiny/published", trained[0]))


def assert_same_features(loaded, original):
    assert torch.equal(
        loaded.encode_image(IMAGES, layers=(4,)).patches, original.encode_image(IMAGES, layers=(4,)).patches
    )
    texts = ["a photo of a bottle", "a broken screw"]
    assert torch.equal(loaded.encode_text(loaded.tokenize(texts)), original.encode_text(original.tokenize(texts)))


def test_an_unknown_checkpoint_that_nobody_speaks_for_is_refused(trained):
    _, _, path = trained
    for name in NAMES.values():
        with pytest.raises(BackboneError) as caught:
            CLIPBackbone.load(name, str(path))
        assert f"Nothing in {path} tells" in str(caught.value)
        assert "Say backbone.activation=gelu or backbone.activation=quick_gelu" in str(caught.value)


def test_with_its_activation_said_it_is_the_original(trained):
    activation, original, path = trained
    assert_same_features(CLIPBackbone.load(NAMES[activation], str(path), activation=activation), original)


def test_the_two_activations_differ_so_that_equal_features_prove_one(trained):
    activation, original, path = trained
    other = CLIPBackbone.load(NAMES[OTHER[activation]], str(path), activation=OTHER[activation])
    assert (other.encode_image(IMAGES).image - original.encode_image(IMAGES).image).abs().max() > 1e-4


def test_a_model_with_another_activation_than_was_said_is_refused(trained):
    activation, _, path = trained
    wrong, right = NAMES[OTHER[activation]], NAMES[activation]
    with pytest.raises(BackboneError) as caught:
        CLIPBackbone.load(wrong, str(path), activation=activation)
    assert str(caught.value) == (
        f"backbone.activation={activation} was said, but the model {wrong} has {OTHER[activation]}. "
        f"Give the name {right}."
    )


def test_a_forced_activation_runs_the_weights_in_the_other_model(trained):
    """Both towers, and only by a word of its own: `activation` says what the weights were trained with."""
    activation, original, path = trained
    forced = CLIPBackbone.load(NAMES[activation], str(path), activation=activation, forced_activation=OTHER[activation])
    other = CLIPBackbone.load(NAMES[OTHER[activation]], str(path), activation=OTHER[activation])
    assert_same_features(forced, other)
    assert forced.weights_hash == original.weights_hash
    assert forced.image_tower_hash != original.image_tower_hash
    assert (original.activation, forced.activation) == (activation, OTHER[activation])
    for said, message in (
        (activation, f"backbone.forced_activation={activation} is what {NAMES[activation]} has anyway; leave it out"),
        ("relu", "backbone.forced_activation is one of gelu, quick_gelu; got 'relu'"),
    ):
        with pytest.raises(BackboneError, match=message):
            CLIPBackbone.load(NAMES[activation], str(path), activation=activation, forced_activation=said)


@pytest.mark.usefixtures("published")
def test_a_known_checkpoint_needs_no_word(trained):
    activation, original, path = trained
    assert_same_features(CLIPBackbone.load(NAMES[activation], str(path)), original)
    wrong = NAMES[OTHER[activation]]
    message = f"mine.pt is tiny/published, trained with {activation}, but the model {wrong} has {OTHER[activation]}"
    for said in (None, OTHER[activation]):  # a word does not outweigh what is known
        with pytest.raises(BackboneError, match=message):
            CLIPBackbone.load(wrong, str(path), activation=said)


class Archive(nn.Module):
    """Parameters alone, as in OpenAI's files with three numbers besides."""

    def __init__(self, clip):
        super().__init__()
        for name, part in (*clip.named_children(), *clip.named_parameters(recurse=False)):
            setattr(self, name, part)
        for name in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(name, torch.tensor(1))

    def forward(self, x):
        return x + 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*TorchScript archive")
@pytest.mark.parametrize("known", [False, True])
def test_code_within_a_checkpoint_runs_only_if_it_is_known(trained, monkeypatch, known):
    """OpenAI's files are TorchScript."""
    activation, original, path = trained
    torch.jit.save(torch.jit.trace(Archive(original.clip), torch.zeros(1)), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if known:
        monkeypatch.setitem(PUBLISHED_FILES, digest, PublishedFile("tiny/published", activation))
        assert_same_features(CLIPBackbone.load(NAMES[activation], str(path)), original)
    else:
        with pytest.raises(BackboneError, match=r"Cannot read .*no TorchScript"):
            CLIPBackbone.load(NAMES[activation], str(path), activation=activation)


@pytest.mark.parametrize(
    ("name", "pretrained", "activation", "message"),
    [
        ("embedded", "demo", "quick_gelu", "the model embedded has gelu. There is no embedded with quick_gelu"),
        ("ViT-B-16-plus-240", "laion400m_e32", "quick_gelu", "There is no ViT-B-16-plus-240 with quick_gelu"),
        ("ViT-L-14-336-quickgelu", "openai", "gelu", "has quick_gelu. Give the name ViT-L-14-336."),
        ("embedded", "demo", "relu", "backbone.activation is one of gelu, quick_gelu; got 'relu'"),
    ],
)
def test_what_is_said_must_be_true_of_every_model(name, pretrained, activation, message):
    with pytest.raises(BackboneError, match=message):
        CLIPBackbone.load(name, pretrained, activation=activation)


def test_the_embedded_model_has_one_activation(tmp_path):
    path = tmp_path / "other.pt"
    torch.save(CLIPBackbone.load("embedded", "random").clip.state_dict(), path)
    for said in (None, "gelu"):
        assert not CLIPBackbone.load("embedded", str(path), activation=said).clip.visual.training


def test_published_files_agree_with_open_clip():
    """Its addresses of OpenAI's files hold their digests."""
    for digest, file in PUBLISHED_FILES.items():
        name, tag = file.label.split("/")
        listed = open_clip.get_pretrained_cfg(name, tag)
        assert listed["url"].split("/")[-2] == digest
        assert listed["quick_gelu"] == (file.activation == "quick_gelu")
        assert weights.model_config(f"{name}-quickgelu")["quick_gelu"]
    assert len(PUBLISHED_FILES) == 4


def test_label_of_a_checkpoint():
    digest = next(iter(PUBLISHED_FILES))
    assert weights_label("any/where/copy.pt", digest) == PUBLISHED_FILES[digest].label
    assert weights_label("any/where/copy.pt", "0a1b2c3d" * 8) == "copy-0a1b2c3d"
