"""Every preset of a paper is planned as the paper has it, and runs: here on twins, a small CLIP and one batch."""

import json

import pytest
import yaml
from steps import shorten_fits
from twins import VISA_ALL, write_visa

from benchmark.request import registry
from benchmark.request.settings import CONFIGS, choices

PAPERS = [name for name in choices("preset") if name.startswith("paper/")]
LONG = ("paper/tables", "paper/april_gan", "paper/anople-v1")  # the last two beside a shorter form of the same
BOTH = 15 + 12  # categories of MVTec AD and VisA
PLANS = {  # cells = models x shots x seeds, and the side in px at which maps are compared
    "paper/af_clip": (BOTH + BOTH * 3, 518),
    "paper/anomalyclip": (BOTH, 518),
    "paper/anople": (2 * 3 * 3, 256),  # one model for a data set
    "paper/anople-v1": (BOTH * 3 * 3, 400),
    "paper/anovl": (BOTH, 240),
    "paper/april_gan": (2 * (BOTH + BOTH * 3), 518),  # two scores
    "paper/coop": (2 * BOTH * 3, 518),  # two methods
    "paper/faprompt": (2 * BOTH, 518),  # two methods
    "paper/faprompt-image-level": (BOTH + 3 + 3 + 6 + 10 + 12 + 4, 518),
    "paper/faprompt-pixel-level": (BOTH + 2 + 3 + 6 + 10 + 12 + 6, 518),
    "paper/finegrainedad": (BOTH * 3 * 5, 400),
    "paper/finegrainedad-released": (BOTH * 3 * 5, 400),
    "paper/linear_heads": (2 * BOTH * 3, 518),  # two methods
    "paper/patchcore": (4 * BOTH * 3 * 5, 240),  # four forms
    "paper/promptad": (BOTH * 3 * 5, 400),
    "paper/promptad-released": (BOTH * 3 * 5, 400),
    # six methods are fitted on another set, two need no seed; eight in few_shot, seven with one model for a data set
    "paper/tables": (6 * BOTH * 3 + 2 * BOTH + 8 * BOTH * 3 * 3 + 7 * 2 * 3 * 3, 518),
    "paper/winclip": (BOTH + BOTH * 3 * 5, 240),  # zero-shot needs no seed
}
RELEASED = {  # what the release does otherwise than its paper, or than is described
    "paper/promptad-released": {
        "suffix_at": "before_name",
        "pairs": "modulo",
        "logit_scale_as": "stored",
        "seg_margin_over": "tokens",
        "tap_point": "next_attention",
        "test_channels": "bgr",
    },
    "paper/finegrainedad-released": {"compat": "released"},
    "paper/anople-v1": {"variant": "v1"},
    "paper/anomalyclip": {"layers": [1.0], "local_weight": 4.0},
    "paper/faprompt": {"layers": [1.0], "local_weight": 4.0},  # of its anomalyclip
}


def read(name):
    return yaml.safe_load((CONFIGS / "preset" / f"{name}.yaml").read_text())


def test_every_paper_is_known():
    assert {*PAPERS} == {*PLANS}


@pytest.mark.parametrize("name", PAPERS)
def test_all_cells_are_planned_without_data_and_weights(name, bench, tmp_path):
    done = bench("run", "--preset", name, "--dry-run", "--results", tmp_path / "r")
    assert done.code == 0, done.err
    cells, side = PLANS[name]
    assert f"{cells} cells: {cells} missing" in done.out
    assert read(name)["protocol"]["evaluation_size"] == side


def test_a_released_form_sets_every_option_that_is_named_after_the_release():
    """A new option of PromptAD whose other value is the release's must be set too, or said to be equal here."""
    facts, preset = registry.method("promptad"), read("paper/promptad-released")["method"]["promptad"]
    told = {key for key, setting in facts.settings.items() if "release" in (setting.meaning or "")}
    assert told - {"states"} <= {*preset} == {*RELEASED["paper/promptad-released"]}  # words cannot be repeated
    plain = {key: setting.default for key, setting in facts.settings.items() if key in preset}
    assert [key for key in preset if preset[key] == plain[key]] == ["logit_scale_as"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.campaign] * (name in LONG)) for name in PAPERS])
def test_one_category_runs(name, bench, data, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    write_visa(data.parent / "visa", VISA_ALL)  # the auxiliary set of MVTec AD
    shorten_fits(monkeypatch)
    done = bench(
        *("run", "--preset", name, "--backbone", "embedded", "--datasets", "mvtec_ad", "--categories", "bottle"),
        *("--shots", "1", "--seeds", "0", "--limit", "3", "protocol.evaluation_size=24", "--results", tmp_path / "r"),
    )
    records = [json.loads(path.read_text()) for path in (tmp_path / "r").glob("cells/*/attempt-1.json")]
    assert done.code == 0, [record["error"] for record in records]
    sweep, forms, cells = read(name)["sweep"], read(name).get("variants", {}), [record["cell"] for record in records]
    assert {record["status"] for record in records} == {"ok"}
    assert sorted((cell["method"], cell["protocol"]) for cell in cells) == sorted(
        (method, protocol)
        for method in sweep["methods"]
        for protocol in sweep["protocols"]
        if protocol in registry.method(method).protocols
        for _ in forms.get(method, "1")
    )
    settings = [cell["settings"]["method"] for cell in cells]
    wanted = RELEASED.get(name, {})
    assert any(wanted.items() <= its.items() for its in settings), settings
