"""Layers merge in order, keys are typed, and each key knows where it came from."""

import pytest

from benchmark.request import registry
from benchmark.request.registry import ConfigError
from benchmark.request.settings import GROUPS, Layer, choices, chosen, compose, parse_words, read_yaml

TOY = Layer("test", {"sweep": {"methods": ["toy_mean"], "datasets": ["mvtec_ad"]}})


def test_later_layers_win_and_origins_follow(tmp_path):
    user = tmp_path / "user.yaml"
    user.write_text("protocol: {evaluation_size: 100, precision: bf16}\nmethod: {toy_mean: {scale: 2}}\n")
    settings = compose([TOY, read_yaml(user), parse_words(["protocol.evaluation_size=64", "method.kind=square"])])
    assert settings["protocol"] == {
        "evaluation_size": 64,
        "precision": "bf16",
        "auxiliary": None,
        "regions": "resized",
        "published_metric": False,
    }
    assert settings["method"]["toy_mean"] == {"scale": 2.0, "sides": [1, 2], "kind": "square", "pause": 0.0}
    assert settings.origins["protocol.evaluation_size"] == "command line"
    assert settings.origins["protocol.precision"] == str(user)
    assert settings.origins["protocol.auxiliary"] == "configs/base.yaml"
    assert settings.origins["method.toy_mean.sides"].endswith("toy_mean.py")


def test_every_key_of_the_schema_has_a_value_from_a_file():
    settings = compose([TOY])
    missing = [
        f"{g}.{k}" for g, keys in GROUPS.items() for k in keys if g != "sweep" and f"{g}.{k}" not in settings.origins
    ]
    assert missing == []


def test_a_word_chooses_a_group_and_keys_refine_it():
    settings = compose([TOY, parse_words(["backbone=vit_l_14_336"]), parse_words(["backbone.image_size=336"])])
    assert settings["backbone"]["name"] == "ViT-L-14-336-quickgelu"
    assert settings["backbone"]["image_size"] == 336
    other = compose([TOY, parse_words(["backbone=ViT-B-16/laion2b_s34b_b88k"])])
    assert other["backbone"]["name"] == "ViT-B-16"
    assert (other["backbone"]["name"], other["backbone"]["pretrained"]) == ("ViT-B-16", "laion2b_s34b_b88k")


@pytest.mark.slow
@pytest.mark.parametrize("name", choices("preset"))
def test_every_preset_composes(name):
    settings = compose([chosen("preset", name)])
    assert set(settings["sweep"]["methods"]) <= set(registry.names("method"))
    assert set(settings["sweep"]["datasets"]) <= set(registry.names("dataset"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["protocol.evalution_size=3"], r"'protocol.evalution_size'.*Did you mean 'protocol.evaluation_size'"),
        (["protocl.x=3"], r"'protocl'.*Did you mean 'protocol'"),
        (["protocol.evaluation_size=abc"], r"protocol.evaluation_size \(command line\) must be int, got 'abc'"),
        (["protocol.precision=fp8"], r"'fp8'.*Allowed: fp32, tf32, bf16, fp16"),
        (["sweep.shots=[1,x]"], r"sweep.shots \(command line\) must be list\[int\], got \[1, 'x'\]"),
        (["method.scale=wide"], r"method.toy_mean.scale \(command line\) must be float, got 'wide'"),
        (["method.scael=1"], r"'method.toy_mean.scael'.*Did you mean 'method.toy_mean.scale'"),
        (["method.kind=cube"], r"'cube'.*Allowed: abs, square"),
        (["method.toy_maen.scale=1"], r"'toy_maen'.*Did you mean 'toy_mean'"),
        (["logger=wandbb"], r"unknown logger 'wandbb'. Did you mean 'wandb'"),
        (["backbone=embeded"], r"unknown backbone 'embeded'. Did you mean 'embedded'"),
        (["nonsense"], r"expected key=value, got 'nonsense'"),
        (["protocol=few_shot"], r"protocol \(command line\) must hold keys"),
    ],
)
def test_wrong_words_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        compose([TOY, parse_words(words)])


def test_a_root_for_several_data_sets_is_ambiguous():
    both = Layer("test", {"sweep": {"methods": ["toy_mean"], "datasets": ["mvtec_ad", "visa"]}})
    with pytest.raises(ConfigError, match=r"dataset.root=/x .* is ambiguous .* write dataset.mvtec_ad.root="):
        compose([both, parse_words(["dataset.root=/x"])])
    settings = compose([both, parse_words(["dataset.visa.root=/v"])])
    assert (settings["dataset"]["visa"]["root"], settings["dataset"]["mvtec_ad"]["root"]) == ("/v", None)


@pytest.mark.parametrize(("text", "message"), [("[1, 2]", "must hold a mapping"), ("a: [", "no readable YAML")])
def test_a_broken_yaml_is_named(tmp_path, text, message):
    path = tmp_path / "user.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_yaml(path)
    with pytest.raises(ConfigError, match=r"no configuration file .*absent.yaml"):
        read_yaml(tmp_path / "absent.yaml")
