"""What `bench list` and `bench show` tell, in words and as JSON."""

import json
import re

import pytest

from benchmark.commands import listing
from benchmark.request import registry


@pytest.mark.parametrize("kind", [*listing.LISTS])
def test_a_list_as_json_names_what_the_table_names(bench, kind):
    done = bench("list", kind, "--json")
    items = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    lines = bench("list", kind).out.splitlines()[1:]
    names = [line.split("\t")[0] for line in lines]
    assert [item["name"] for item in items] == names[: len(items)]
    assert len({tuple(item) for item in items}) == 1  # the same keys
    assert len(names) - len(items) == (3 if kind == "backbones" else 0)


def test_json_says_of_a_broken_file_why_it_is(bench, tmp_path, monkeypatch):
    (tmp_path / "bad.py").write_text("def broken(:\n")
    monkeypatch.setitem(registry._modules("method"), "toy_bad", [registry.Claim("bad", tmp_path / "bad.py")])
    items = {item["name"]: item for item in json.loads(bench("list", "methods", "--json").out)}
    assert "line 1" in items["toy_bad"]["broken"]
    assert items["toy_bad"]["protocols"] is None
    assert items["winclip"]["broken"] is None
    assert items["winclip"].keys() == items["toy_bad"].keys()


def test_show_as_json_knows_of_each_setting_what_the_file_says(bench):
    told = json.loads(bench("show", "method", "winclip", "--json").out)
    assert told["settings"]["method.winclip.temperature"] == {
        "value": 0.01,
        "default": 0.01,
        "type": "float",
        "meaning": "divisor of the logits of the softmax.",
        "detail": (
            "0.01 is what CLIP's training ends with, its logit scale being capped at 100 (arXiv:2103.00020, section "
            "2.5; so in caoyunkang/WinClip). anomalib and zqhang/Accurate-WinCLIP-pytorch take 0.07, the value that "
            "training starts from."
        ),
        "range": "> 0",
        "choices": None,
        "origin": "methods/winclip.py",
        "paper": {},
    }
    assert told["facts"]["presets"] == ["paper/winclip"]
    preset = json.loads(bench("show", "preset", "anople-ablation", "--json").out)
    assert preset["settings"]["sweep.methods"]["origin"] == "configs/preset/anople-ablation.yaml"
    assert preset["settings"]["protocol.regions"]["choices"] == ["resized", "native"]
    assert preset["variants"]["anople"][0]["label"] == "full"


def test_show_tells_the_paper_s_value_the_declaring_file_and_words_of_the_line(bench):
    told = json.loads(bench("show", "method", "anople", "method.anople.map_size=99", "--json").out)["settings"]
    size = told["method.anople.map_size"]
    assert (size["value"], size["default"], size["origin"]) == (99, 256, "command line")
    assert size["paper"] == {"paper/anople-v1": 400}
    assert told["method.anople.depth"]["origin"] == "methods/anople/settings.py"  # not method.py, which inherits it
    text = bench("show", "method", "anople", "method.anople.map_size=99").out
    assert "paper/anople-v1 sets 400." in " ".join(text.replace("#", " ").split())
    assert "map_size: 99" in text
    assert "# command line, >= 1, default 256" in text
    assert bench("show", "method", "anople", "method.winclip.bank=pooled").code == 2


def test_show_explains_the_own_data_set_of_the_line(bench, tmp_path):
    told = json.loads(bench("show", "dataset", f"parts={tmp_path}", "--json").out)["settings"]
    assert told["dataset.folder-parts.root"]["value"] == str(tmp_path)
    assert "own_folders.py" in told["dataset.folder-parts.split"]["origin"]


@pytest.mark.parametrize("name", registry.names("method"))
def test_every_mark_of_a_setting_is_explained(bench, name):
    told = " ".join(line.strip().removeprefix("# ") for line in bench("show", "method", name).out.splitlines())
    head, _, settings = told.partition(" method: ")
    marks = set(re.findall(r"\[[a-z]\]", settings))
    assert set(re.findall(r"\[[a-z]\]", head)) == marks
    assert marks or name not in ("coop", "anople", "linear_heads")
