"""A method whose needs the backbone or a category does not meet is refused by the plan, with what mends it."""

from dataclasses import replace

import pytest

from benchmark.request import registry
from benchmark.request.cell import CellSettings
from benchmark.request.groups import BackboneSettings
from benchmark.request.needs import check_needs
from benchmark.request.plan import make_plan
from benchmark.request.registry import ConfigError, MethodFacts
from benchmark.request.settings import Layer, compose, parse_words
from benchmark.request.source import Setting
from methods.components.captions.fields import CaptionError

SETTINGS = {
    "states": Setting(str, "specific", ("specific", "generic")),
    "states_file": Setting(str | None, None),
    "map": Setting(bool, True),
}
TOKENS_ALONE = BackboneSettings(offers=("patch_tokens",))


def plan(methods, datasets=("mvtec_ad",), words=(), **sweep):
    layer = Layer("test", {"sweep": {"methods": methods, "datasets": list(datasets), **sweep}})
    return make_plan(compose([layer, parse_words(words)]), {"folder": ("a", "b")})


def check(*needs, backbone=BackboneSettings(), categories=("bottle",), settings=SETTINGS, **values):  # noqa: B008
    facts = MethodFacts("toy", "toy", None, "", settings, "", "", ("toy",), "", ("few_shot",), needs=needs)
    values = {key: setting.default for key, setting in settings.items()} | values
    check_needs(facts, CellSettings(method=values, backbone=backbone), categories)


def refused(message, *needs, **changes):
    with pytest.raises(ConfigError, match=message):
        check(*needs, **changes)


def test_what_is_offered_is_no_error():
    check("text_tower", "patch_tokens", "category", "defect_words if states=specific")
    check("patch_tokens", backbone=TOKENS_ALONE)
    check()


def test_a_tower_that_the_backbone_lacks_is_named_with_what_it_offers():
    message = r"toy needs text_tower, but the backbone embedded offers patch_tokens \(backbone.offers\): choose another"
    refused(message, "text_tower", backbone=TOKENS_ALONE)
    refused("offers nothing", "patch_tokens", backbone=BackboneSettings(offers=()))


def test_a_need_with_a_condition_counts_where_the_condition_holds():
    refused("toy needs text_tower if map=true", "text_tower if map=true", backbone=TOKENS_ALONE)
    check("text_tower if map=true", backbone=TOKENS_ALONE, map=False)
    mend = r"choose another --backbone, or set method.toy.states=generic\.$"
    refused(mend, "text_tower if states=specific", backbone=TOKENS_ALONE)


def test_a_category_without_defect_words_is_named_with_what_mends_it(tmp_path):
    need = "defect_words if states=specific"
    message = (
        r"toy needs defect_words if states=specific, but the category widget has no list in promptad_states.json: "
        r"give method.toy.states_file=FILE, or set method.toy.states=generic\."
    )
    refused(message, need, categories=("bottle", "widget"))
    check(need, categories=("widget",), states="generic")
    file = tmp_path / "mine.json"
    file.write_text('{"widget": ["with rust"], "bolt": []}')
    check(need, categories=("widget",), states_file=str(file))
    refused(r"category bottle has no list in mine.json: give method.toy.states_file=FILE", need, states_file=str(file))
    refused(
        r"mine\.json, field 'bolt' must be a list.*or set states=generic",
        need,
        categories=("bolt",),
        states_file=str(file),
    )
    refused("nowhere.json must be a JSON object", need, states_file="nowhere.json")
    refused("leave widget out with --categories", "defect_words", categories=("widget",), settings={})


def test_texts_of_the_nearest_shot_are_refused_where_no_shots_are_shown():
    message = (
        r"^winclip needs shots if text=retrieved, but zero_shot shows none: choose another of its --protocols, or set "
        r"method.winclip.text=known or argmax\.$"
    )
    with pytest.raises(ConfigError, match=message):
        plan(["winclip"], words=["method.winclip.text=retrieved"])
    assert plan(["winclip"], words=["method.winclip.text=retrieved"], protocols=["few_shot"]).cells
    assert plan(["winclip"], words=["method.winclip.text=argmax"]).cells


@pytest.mark.parametrize("method", ["promptad", "finegrainedad"])
def test_own_categories_do_with_the_generic_states_and_the_plan_says_so(method, tmp_path):
    generic = (f"{method}: no defect words for a, b: generic states",)
    assert plan([method], ["folder"]).notes == generic
    assert not plan([method], ["folder"], [f"method.{method}.states=generic"]).notes
    assert not plan([method]).notes
    file = tmp_path / "mine.json"
    file.write_text('{"b": ["with rust"]}')
    words = [f"method.{method}.states_file={file}"]
    assert plan([method], ["folder"], words).notes == (f"{method}: no defect words for a: generic states",)
    assert not plan([method], ["folder"], words, categories=["b"]).notes
    message = f"category a has no list in mine.json: .*, or set method.{method}.states=auto or generic"
    with pytest.raises(ConfigError, match=message):
        plan([method], ["folder"], [*words, f"method.{method}.states=specific"])
    file.write_text('{"b": "with rust"}')
    with pytest.raises(ConfigError, match=r"optional_defect_words if states=auto, but .*field 'b' must be a list"):
        plan([method], ["folder"], words)


def test_own_captions_are_read_before_anything_runs(tmp_path):
    with pytest.raises(CaptionError, match=r"captions must be one of .*, or the path of a YAML file; got 'nowhere'"):
        plan(["finegrainedad"], words=["method.finegrainedad.captions=nowhere"])
    file = tmp_path / "mine.yaml"
    file.write_text("captions: {}\n")
    with pytest.raises(CaptionError, match=r"mine\.yaml"):
        plan(["finegrainedad"], words=[f"method.finegrainedad.captions={file}"])
    assert plan(["finegrainedad"], words=["method.finegrainedad.captions=visa"]).cells


@pytest.mark.parametrize(
    ("need", "message"),
    [
        ("text_towr", "unknown need of toy 'text_towr'. Did you mean 'text_tower'"),
        ("text_tower if colour=red", "a need of toy must be NAME, or NAME if KEY=VALUE .*states, states_file, map"),
        ("text_tower if states", "got 'text_tower if states'"),
    ],
)
def test_a_need_that_is_none_is_refused(need, message):
    refused(message, need)


def test_the_plan_refuses_before_anything_runs(monkeypatch):
    facts = replace(registry.method("toy_mean"), needs=("text_tower", "defect_words"))
    monkeypatch.setattr(registry, "method", lambda name: facts)
    assert plan(["toy_mean"]).cells
    with pytest.raises(ConfigError, match="toy_mean needs text_tower"):
        plan(["toy_mean"], words=["backbone.offers=[patch_tokens]"])
    with pytest.raises(ConfigError, match="the category a has no list"):
        plan(["toy_mean"], ["folder"])


def test_needs_are_shown(bench, monkeypatch):
    facts = replace(registry.method("toy_mean"), needs=("patch_tokens", "category"))
    monkeypatch.setattr(registry, "method", lambda name: facts)
    assert "# needs: patch_tokens, category" in bench("show", "method", "toy_mean").out
    assert "patch_" in bench("list", "methods").out
