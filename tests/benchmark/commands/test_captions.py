"""`bench captions`: its three commands, the captioner, and what it refuses."""

import subprocess
import sys

import pytest
import yaml

from methods.components.captions.lookup import read_captions, shipped_sets

FORM = """
schema: 1
vocabulary:
  location: {rim: along the rim}
categories:
  wheel:
    foreground: wheels
    number: 2
    background: orange
    relation: null
    components:
      - {entity: spokes, number: multiple, location: center, direction: null, colour: silver, texture: shiny,
         shape: straight}
      - {entity: black tyre, number: 1, location: rim, direction: null, colour: black, texture: rough,
         shape: ring-shaped}
"""
CAPTIONER = """
def describe(image, category):
    assert image.read_bytes() == b"pixels"
    part = {"entity": "hub", "number": 12, "location": "center", "direction": None, "colour": "silver"}
    parts = [{**part, "texture": "shiny", "shape": "round"}]
    return {"foreground": category, "number": 1, "background": None, "relation": None, "components": parts}


def stammers(image, category):
    return {"foreground": category}
"""
LIGHT = """
import sys
from benchmark import cli
sys.argv = ["bench", "captions", "show", "visa", "pcb1"]
try:
    cli.main()
except SystemExit as stop:
    assert not stop.code
assert not {"torch", "open_clip", "pandas"} & {*sys.modules}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "normal.png").write_bytes(b"pixels")
    (tmp_path / "toy_captioner.py").write_text(CAPTIONER)
    (tmp_path / "form.yaml").write_text(FORM)
    yield tmp_path
    sys.modules.pop("toy_captioner", None)


def refused(finished, *messages):
    assert finished.code == 2, finished
    assert all(message in finished.err for message in messages), finished.err
    assert "Traceback" not in finished.err


@pytest.mark.slow
def test_show_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "sensor cans" in done.stdout


def test_show_prints_one_record_or_a_line_for_each(bench):
    shown = yaml.safe_load(bench("captions", "show", "procedural", "zipper").out)["zipper"]
    record = read_captions("procedural").records["zipper"]
    assert shown == {**record._asdict(), "components": [part._asdict() for part in record.components]}
    table = bench("captions", "show", "visa").out
    assert all(category in table for category in read_captions("visa").records)


@pytest.mark.slow
def test_lint_checks_all_sets_or_one(bench):
    out = bench("captions", "lint").out.splitlines()
    assert [line.partition(":")[0] for line in out] == list(shipped_sets())
    assert "mvtec_ad: captions 15, components 30, longest prompt" in bench("captions", "lint", "mvtec_ad").out


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "{rim: along the rim}",
            "{rim: rim}",
            "vocabulary.location.rim: must be a phrase that begins with a preposition",
        ),
        (
            "{rim: along the rim}",
            "{rim: along the rim, hub: in the center}",
            "vocabulary.location.hub: must differ from",
        ),
        (
            "spokes in the center",
            "spokes at the center",
            "components[0].location: must occur in its component's caption",
        ),
        ("Two wheels on", "Two wheels rims on", "wheels.caption: must let a state stand behind 'wheels'"),
        ("Two wheels on", "Two wheels, intact, on", "wheels.caption: must not hold 'intact', which denies or names"),
        ("Two wheels on", "Two wheels, not bent, on", "wheels.caption: must not hold 'not', which denies or names"),
        (
            "Two wheels on",
            "Two wheels, faded, on",
            "wheels.caption: must not hold 'faded', of which the state 'damaged",
        ),
        (
            "  opposites:",
            "  synonyms: {colour: [[silver, beige, blue, brown, gray, green, orange, white, yellow]]}\n  opposites:",
            "wheels.components.colour: must leave 8 words of the vocabulary, one for each state, that are said of no",
        ),
    ],
)
def test_lint_finds_every_kind_of_nonsense(bench, folder, old, new, line):
    done = bench("captions", "new", "form.yaml")
    content = done.out.replace("wheel:", "wheels:")
    content = content.replace("vocabulary:", "vocabulary:\n  opposites: {faded: [damaged]}")
    content = content.replace("location:\n    rim: along the rim", "location: {rim: along the rim}")
    (folder / "own.yaml").write_text(content)
    assert bench("captions", "lint", "own.yaml").code == 0
    assert old in content
    (folder / "own.yaml").write_text(content.replace(old, new))
    refused(bench("captions", "lint", "own.yaml"), "own.yaml, ", line, "; got ")


def test_a_form_becomes_captions_that_lint_accepts(bench, folder):
    done = bench("captions", "new", "form.yaml")
    assert done.code == 0
    (folder / "own.yaml").write_text(done.out)
    wheel = read_captions("own.yaml").records["wheel"]
    assert wheel.caption == "Two wheels on an orange backdrop."
    assert wheel.relation == "The spokes and the black tyre in the usual place."
    assert [part.caption for part in wheel.components] == [
        "Many shiny silver straight spokes in the center.",
        "One rough ring-shaped black tyre along the rim.",
    ]
    assert "own.yaml: captions 1, components 2" in bench("captions", "lint", "own.yaml").out


def test_a_form_says_nothing_that_a_state_denies(bench, folder):
    """A pin row of pcb1 may be crooked, so its pins are not called straight."""
    (folder / "form.yaml").write_text(FORM.replace("wheel:", "pcb1:").replace("spokes", "pins"))
    done = bench("captions", "new", "form.yaml")
    assert done.code == 0
    parts = yaml.safe_load(done.out)["categories"]["pcb1"]["components"]
    assert parts[0]["caption"] == "Many shiny silver pins in the center."
    assert parts[0]["shape"] == "straight"
    (folder / "own.yaml").write_text(done.out)
    assert bench("captions", "lint", "own.yaml").code == 0


def test_an_absent_form_is_written_empty_and_refused_until_it_is_filled_in(bench, folder):
    done = bench("captions", "new", "wheel.yaml")
    assert (done.code, done.out) == (0, "")
    assert "wheel.yaml is empty: fill it in" in done.err
    assert list(yaml.safe_load((folder / "wheel.yaml").read_text())["categories"]) == ["wheel"]
    refused(bench("captions", "new", "wheel.yaml"), "wheel.yaml, wheel.components[0].colour: must be words", "got ''")


def test_a_captioner_fills_in_the_form(bench, folder):
    words = ("captions", "new", "wheel.yaml", "--captioner", "toy_captioner:describe", "--image", "normal.png")
    assert bench(*words).code == 0
    done = bench("captions", "new", "wheel.yaml")
    record = yaml.safe_load(done.out)["categories"]["wheel"]
    assert record["caption"] == "One wheel across the whole view."
    assert record["components"][0]["caption"] == "12 shiny silver round hub in the center."
    refused(bench(*words), "wheel.yaml exists")


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["lint", "absent.yaml"], ["captions must be one of mvtec_ad, procedural,", "got 'absent.yaml'"]),
        (["lint", "form.yaml"], ["form.yaml, wheel: must hold exactly the fields caption, foreground,"]),
        (["show", "vissa"], ["captions must be one of", "got 'vissa'"]),
        (["show", "visa", "pcb5"], ["unknown category of visa 'pcb5'. Did you mean 'pcb"]),
        (["new", "absent/wheel.yaml"], ["cannot write absent/wheel.yaml"]),
        (["new", "normal.png"], ["normal.png, the top level: must hold exactly the fields schema,", "got ['pixels']"]),
        (
            ["new", "w.yaml", "--image", "normal.png"],
            ["--captioner and --image go together; got None and 'normal.png'"],
        ),
        (
            ["new", "w.yaml", "--captioner", "no_such:describe", "--image", "normal.png"],
            ["--captioner must be MODULE:FUNCTION", "got 'no_such:describe'"],
        ),
        (
            ["new", "w.yaml", "--captioner", "toy_captioner:describe", "--image", "absent.png"],
            ["--image must be a file, a normal image of 'w'; got 'absent.png'"],
        ),
        (
            ["new", "w.yaml", "--captioner", "toy_captioner:stammers", "--image", "normal.png"],
            ["toy_captioner:stammers, w: must hold exactly the fields foreground, number,", "got ['foreground']"],
        ),
        (["nonsense"], ["No such command"]),
    ],
    ids=lambda value: " ".join(value)[:50],
)
def test_wrong_input_is_refused_and_writes_nothing(bench, folder, words, messages):
    before = sorted(folder.iterdir())
    refused(bench("captions", *words), *messages)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("colour: silver", "colour: pink", "form.yaml, wheel.components[0].colour: must be a word of the vocabulary"),
        ("relation: null", "relation: All is well.", "wheel.relation: must name an entity, one of spokes, black tyre"),
        ("background: orange", f"background: {'very ' * 70}dark", "wheel.caption: must make prompts of 77 tokens"),
        ("number: 2", "number: few", "form.yaml, wheel.number: must be a whole number from 1 on, or 'multiple'"),
    ],
)
def test_a_form_that_breaks_a_rule_prints_no_captions(bench, folder, old, new, message):
    (folder / "form.yaml").write_text(FORM.replace(old, new))
    done = bench("captions", "new", "form.yaml")
    refused(done, message)
    assert done.out == ""
