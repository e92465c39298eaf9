"""A backbone of a folder in a request: what is said, what identifies it, what it is called, and a run with it."""

import dataclasses
import json
import shutil

import pytest
from described_model import CONFIG, write

from benchmark.request.cell import CellSettings, from_json
from benchmark.request.groups import BackboneSettings
from benchmark.request.inputs import named_files
from benchmark.request.plan import make_plan
from benchmark.request.registry import ConfigError
from benchmark.request.settings import Layer, chosen, compose, parse_words, read_yaml
from methods.components.clip.model_files import local_digest

pytestmark = pytest.mark.slow

AXES = {"methods": ["toy_mean"], "datasets": ["mvtec_ad"], "categories": ["bottle"], "shots": [1], "seeds": [0]}
TOY = Layer("test", {"sweep": AXES})


def cell(*words):
    return make_plan(compose([TOY, parse_words(words)]), {}).cells[0]


@pytest.mark.parametrize("name", ["local-dir:/models/vit", "hf-hub:who/what"])
def test_three_ways_to_say_it(tmp_path, name):
    path = tmp_path / "user.yaml"
    path.write_text(f"backbone: {{name: '{name}'}}\n")
    said = [read_yaml(path), parse_words([f"backbone.name={name}"]), parse_words([f"backbone={name}"])]
    for layer in said:
        backbone = compose([TOY, layer])["backbone"]
        assert (backbone["name"], backbone["pretrained"], backbone["image_size"]) == (name, "", None)


def test_weights_beside_those_of_the_folder_are_refused():
    with pytest.raises(
        ConfigError, match=r"pretrained=openai \(command line\) must be empty: .*hf-hub:a/b brings its own"
    ):
        cell("backbone.name=hf-hub:a/b", "backbone.pretrained=openai")
    with pytest.raises(ConfigError, match=r"pretrained=openai \(command line\) must be empty"):
        cell("backbone=hf-hub:a/b", "backbone.pretrained=openai")


@pytest.mark.parametrize("name", ["local-dir:", "hf-hub:", "local-file:x", "vit"])
def test_what_is_no_backbone(name):
    with pytest.raises(ConfigError, match=r"NAME/PRETRAINED of open_clip, hf-hub:ORG/NAME, local-dir:PATH"):
        chosen("backbone", name)


def test_a_folder_counts_by_its_content_wherever_it_lies(tmp_path):
    name, moved = write(tmp_path / "one" / "vit"), f"local-dir:{tmp_path / 'two' / 'vit'}"
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    first, second = cell(f"backbone.name={name}"), cell(f"backbone={moved}")
    assert first.files == {"backbone.name": local_digest(name)}
    assert (first.id, first.setup, first.words) == (second.id, second.setup, second.words)
    assert first.backbone_label == f"vit-{local_digest(name)[:8]}"
    assert str(tmp_path) not in first.id + first.backbone_label + json.dumps(first.by_content)
    write(tmp_path / "two" / "vit", CONFIG, preprocessing={})
    changed = cell(f"backbone={moved}")
    assert (changed.id != first.id, changed.setup != first.setup) == (True, True)
    assert changed.backbone_label != first.backbone_label
    assert from_json(json.loads(json.dumps(dataclasses.asdict(first)))).id == first.id


def test_a_repository_counts_by_its_name():
    found = cell("backbone=hf-hub:who/what", "backbone.image_size=64")
    assert (found.files, found.backbone_label, found.note) == ({}, "who/what 64px", "")
    assert found.id != cell("backbone=hf-hub:who/else", "backbone.image_size=64").id


def test_a_folder_that_is_not_there_is_left_to_whoever_opens_it():
    settings = CellSettings(backbone=BackboneSettings(name="local-dir:nowhere", pretrained=""))
    assert named_files("toy_mean", "mvtec_ad", settings) == {}


def test_what_a_backbone_offers_is_said_and_changes_no_identity():
    both = cell()
    assert both.settings.backbone.offers == ("text_tower", "patch_tokens")
    for words in ("[patch_tokens]", "[]"):
        assert cell(f"backbone.offers={words}").id == both.id
    assert cell("backbone.offers=[patch_tokens]").settings.backbone.offers == ("patch_tokens",)
    with pytest.raises(ConfigError, match=r"backbone.offers.*'captions'.*Allowed: text_tower, patch_tokens"):
        cell("backbone.offers=[captions]")


@pytest.mark.usefixtures("protocol_4")
def test_ids_of_requests_of_before_stand():
    """Written down under protocol 4, before the schemas and `offers` were there, and WinCLIP's setting `text`."""
    sweep = AXES | {"methods": ["winclip", "faprompt"], "categories": ["screw"]}
    cells = make_plan(compose([Layer("test", {"sweep": sweep})]), {}).cells
    for each in cells:
        each.settings.method.pop("text", None)
    assert [each.id for each in cells] == [
        "winclip-mvtec_ad-zero_shot-screw-k0-s0-7044557f42",
        "faprompt-mvtec_ad-zero_shot-screw-k0-s0-8f56025bfc",
    ]


def test_a_run(bench, data, cells, tmp_path):
    name, results = write(tmp_path / "vit"), tmp_path / "r"
    words = ("run", "--methods", "nearest_patch", "--shots", "1", "--seeds", "0", *cells, "--results", results)
    first = bench(*words, "--backbone", name)
    assert first.code == 0, first.err
    assert "2 cells: 2 missing; 2 to run" in first.out
    record = json.loads(next(results.glob("cells/*/attempt-*.json")).read_text())
    assert record["backbone"]["label"] == f"vit-{local_digest(name)[:8]}"
    assert record["backbone"]["image_size"] == 48
    assert "2 done; 0 to run" in bench(*words, f"backbone.name={name}").out
    write(tmp_path / "vit", seed=9)
    assert "2 missing; 2 to run" in bench(*words, "--backbone", name).out


def test_a_run_with_a_folder_that_is_not_there_says_so(bench, data, cells, tmp_path):
    words = ("run", "--methods", "nearest_patch", "--shots", "1", "--seeds", "0", *cells, "--results", tmp_path / "r")
    found = bench(*words, "--backbone", f"local-dir:{tmp_path / 'gone'}")
    assert found.code != 0
    assert "names a folder that does not exist" in " ".join((found.out + found.err).split())
