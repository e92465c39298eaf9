"""Words of one command mean the same in any order, each key is said once, and what does not run is not set."""

import re
from itertools import permutations

import pytest

from benchmark.request.compose import AXES, read_request
from benchmark.request.registry import ConfigError
from benchmark.request.settings import Layer, compose, parse_words

TOY = Layer("test", {"sweep": {"methods": ["toy_mean"], "datasets": ["mvtec_ad"]}})
WORDS = (
    "backbone=vit_b_16_plus_240",
    "backbone.image_size=480",
    "backbone={position_resize: open_clip}",
    "method.scale=2",
    "method.toy_mean={scale: 3, kind: square}",
)


def request(words=(), backbone=None, limit=None, config=None, **axes):
    asked = {"methods": "toy_mean", "datasets": "mvtec_ad"} | axes
    return read_request(None, config, {axis: asked.get(axis) for axis in AXES}, backbone, limit, list(words))


@pytest.mark.slow
def test_every_order_of_words_gives_the_same_settings():
    every = [compose([TOY, parse_words(words)]) for words in permutations(WORDS)]
    first = every[0]
    assert first["backbone"]["name"] == "ViT-B-16-plus-240"
    assert first["backbone"]["image_size"] == 480
    assert first["backbone"]["position_resize"] == "open_clip"
    assert first["method"]["toy_mean"] == {"scale": 3.0, "sides": [1, 2], "kind": "square", "pause": 0.0}
    assert first.origins["backbone.name"] == "configs/backbone/vit_b_16_plus_240.yaml"
    assert first.origins["backbone.image_size"] == "command line"
    assert len(every) == 120
    assert all((each.values, each.origins) == (first.values, first.origins) for each in every)


@pytest.mark.parametrize("words", list(permutations(["logger=wandb", "logger.mode=offline", "logger.project=mine"])))
def test_a_logger_and_its_keys_hold_in_any_order(words):
    made = compose([TOY, parse_words(words)])["logger"]
    assert made == {"name": "wandb", "project": "mine", "entity": None, "mode": "offline", "worst": 8}


def test_an_option_and_a_word_below_it_both_hold():
    asked = request(["backbone.image_size=240", "sweep.seeds=[7]"], backbone="vit_b_16_plus_240", shots="2", limit=3)
    assert asked.settings["backbone"]["name"] == "ViT-B-16-plus-240"
    assert asked.settings["backbone"]["image_size"] == 240
    assert asked.settings["sweep"] | {"seeds": [7], "shots": [2], "limit": 3} == asked.settings["sweep"]


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        (["method.scale=1", "method.scale=2"], {}, r"method.scale=1 and method.scale=2 both set method.scale"),
        (["method.scale=1", "method.scale=1"], {}, r"method.scale=1 and method.scale=1 both set method.scale"),
        (["method={scale: 1}", "method.scale=2"], {}, r"method=\{scale: 1\} and method.scale=2 both set method.scale"),
        (["sweep.shots=[2]"], {"shots": "1"}, r"--shots 1 and sweep.shots=\[2\] both set sweep.shots"),
        (["sweep.methods=[toy_learns]"], {}, r"--methods toy_mean and sweep.methods=\[toy_learns\] both"),
        (["sweep.limit=3"], {"limit": 2}, r"--limit 2 and sweep.limit=3 both set sweep.limit"),
        (
            ["backbone=embedded_random"],
            {"backbone": "embedded"},
            r"--backbone embedded and backbone=embedded_random both set backbone: keep one",
        ),
        (["logger=csv", "logger=wandb"], {}, r"logger=csv and logger=wandb both set logger"),
        (["backbone=5", "backbone.image_size=64"], {}, r"backbone=5 and backbone.image_size=64 both set backbone"),
        (["backbone.image_size=64", "backbone=5"], {}, r"backbone.image_size=64 and backbone=5 both set backbone"),
        (["trainer=cpu", "trainer.num_workers=1"], {}, r"trainer=cpu and trainer.num_workers=1 both set trainer"),
        (["method.toy_mean=3", "method.toy_mean.scale=1"], {}, r"both set method.toy_mean: keep one"),
    ],
)
def test_what_is_said_twice_is_refused_by_both_words(words, options, said):
    for ordered in permutations(words):
        with pytest.raises(ConfigError, match=said if list(ordered) == words else "both set"):
            request(ordered, **options)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("method={}", r"'method=\{\}' sets no key"),
        ("method.toy_mean={}", r"'method.toy_mean=\{\}' sets no key"),
        ("backbone=null", r"'backbone=null' sets no key"),
        ("method.sides=[1", r"cannot read 'method.sides=\[1' as key=value: "),
        ("method={scale: 1, scale: 2}", r"cannot read .* found duplicate key scale"),
        ("method.scale=${method.pause}", r"cannot read .* Interpolation key 'method.pause' not found"),
        ("method.scale=???", r"method.toy_mean.scale \(command line\) must be float, got '\?\?\?'"),
        ("method.sides=[1,'???']", r"method.toy_mean.sides \(command line\) must be list\[int\], got \[1, '\?\?\?'\]"),
        (
            "variants.toy_mean={a: {kind: abs}, b: {scale: 2}}",
            r"variants are ordered, so they must be given in a YAML.*--config",
        ),
        ("method.toy_learns.batch_size=4", r"method.toy_learns.batch_size \(command line\) sets a method .* toy_mean"),
        ("dataset.visa.root=/v", r"dataset.visa.root \(command line\) sets a dataset that does not run.* mvtec_ad"),
        ("method.batch_size=4", r"unknown configuration key \(command line\) 'method.toy_mean.batch_size'"),
    ],
)
def test_a_word_that_cannot_hold_is_refused(word, message):
    with pytest.raises(ConfigError, match=message):
        request([word])


@pytest.mark.parametrize(
    ("words", "message"),
    [(["method=3"], r"no methods requested"), (["dataset=3"], r"dataset \(command line\) must hold")],
)
def test_a_group_that_is_no_mapping_is_refused_where_nothing_is_requested(bench, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    done = bench("run", *words)
    assert done.code == 2
    assert re.search(message, done.err)


def test_the_data_set_that_a_method_is_fitted_on_can_be_set():
    made = request(["dataset.visa.root=/v"], methods="toy_transfers").settings
    assert made["dataset"]["visa"]["root"] == "/v"
    words = ["protocol.auxiliary=procedural_auxiliary", "dataset.procedural_auxiliary.size=64"]
    assert request(words, methods="toy_transfers").settings["dataset"]["procedural_auxiliary"]["size"] == 64
    with pytest.raises(ConfigError, match=r"sets a dataset that does not run: used are mvtec_ad, procedural_auxiliary"):
        request([*words, "dataset.visa.root=/v"], methods="toy_transfers")


def test_a_file_may_hold_settings_of_more_than_runs(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("method: {toy_learns: {batch_size: 4}}\ndataset: {visa: {root: /v}}\n")
    assert request(config=path).settings["method"].keys() == {"toy_mean"}


def test_an_option_that_stands_twice_is_refused(bench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = bench("run", "--methods", "toy_mean", "--methods=toy_learns", "--datasets", "mvtec_ad")
    assert (done.code, list(tmp_path.iterdir())) == (2, [])
    assert "--methods is said twice" in done.err


def layers(*values):
    """A preset, a YAML and a command line, or the last of them."""
    return [TOY, *(Layer(name, value) for name, value in zip(("preset", "mine.yaml", "words"), values, strict=False))]


def test_a_key_said_before_the_choice_holds_if_no_other_file_was_chosen():
    made = compose(layers({"backbone": {"image_size": 240}}, {}, {"backbone": "vit_l_14_336"}))["backbone"]
    assert (made["name"], made["image_size"]) == ("ViT-L-14-336-quickgelu", 240)
    made = compose(layers({"logger": {"mode": "offline", "name": "csv"}}, {}, {"logger": "wandb"}))["logger"]
    assert (made["name"], made["mode"]) == ("wandb", "offline")
    again = layers({"backbone": "vit_l_14_336"}, {"backbone": {"image_size": 700}}, {"backbone": "vit_l_14_336"})
    assert compose(again)["backbone"]["image_size"] == 700


def test_a_choice_takes_the_place_of_the_weights_said_before_it():
    named = {"backbone": {"name": "ViT-B-32", "pretrained": "openai"}}
    made = compose(layers(named, {}, {"backbone": "vit_b_16_plus_240"}))
    assert made["backbone"] == compose(layers({"backbone": "vit_b_16_plus_240"}))["backbone"]
    assert made.origins["backbone.name"] == "configs/backbone/vit_b_16_plus_240.yaml"
    shown = {"backbone": compose(layers({"backbone": "embedded"}))["backbone"]}  # as `bench show preset` prints it
    assert compose(layers(shown, {}, {"backbone": "vit_b_16_plus_240"}))["backbone"] == made["backbone"]
    beside = Layer("words", {"backbone": {"pretrained": "/mine.pt"}}, {"backbone": "vit_b_16_plus_240"})
    assert compose([TOY, beside])["backbone"]["pretrained"] == "/mine.pt"


@pytest.mark.parametrize(
    "before",
    [
        ({"backbone": "vit_l_14_336"}, {"backbone": {"image_size": 700}}),
        ({"backbone": {"name": "ViT-L-14", "pretrained": "openai", "image_size": 700}}, {}),
        ({"backbone": {"pretrained": "/mine.pt"}}, {"backbone": {"image_size": 700}}),
    ],
)
def test_a_key_said_of_another_backbone_is_refused_unless_it_is_said_again(before):
    message = (
        r"backbone.image_size=700 \((preset|mine.yaml)\) was set for another backbone than embedded \(words\): "
        r"set backbone.image_size=… beside embedded too, or remove it"
    )
    with pytest.raises(ConfigError, match=message):
        compose(layers(*before, {"backbone": "embedded"}))
    beside = Layer("words", {"backbone": {"image_size": 64}}, {"backbone": "embedded"})
    made = compose([*layers(*before), beside])
    assert (made["backbone"]["pretrained"], made["backbone"]["image_size"]) == ("demo", 64)
