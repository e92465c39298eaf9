"""What answers without torch, and what `show`, `list` and `doctor` tell."""

import sys

import pytest
import yaml

from benchmark.request import registry
from benchmark.request.settings import choices

LIGHT = [
    ["--help"],
    ["run", "--help"],
    *(["list", kind] for kind in ("methods", "datasets", "protocols", "backbones", "presets")),
]
LIGHT += [["show", "preset", "smoke"], ["show", "method", "winclip"], ["show", "dataset", "visa"]]
PROBE = """
import sys
from benchmark import cli
sys.argv = ["bench", *{words}]
try:
    cli.main()
except SystemExit as stop:
    code = stop.code
heavy = [name for name in ("torch", "lightning", "pandas", "wandb", "open_clip") if name in sys.modules]
assert not code and not heavy, (code, heavy)
"""


@pytest.mark.slow
@pytest.mark.parametrize("words", LIGHT, ids=" ".join)
def test_light_commands_load_nothing_heavy(words):
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(words=words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.slow
def test_a_finished_sweep_says_so_without_torch(bench, data, cells, tmp_path):
    import os
    import subprocess
    import time

    time.sleep(2.1)  # what was touched a moment ago is not remembered
    words = ["run", "--methods", "toy_mean", *cells, "--shots", "1", "--results", str(tmp_path / "r")]
    assert bench(*words).code == 0  # its fingerprints are taken while cells run
    light, variables = PROBE.replace('"pandas", ', ""), {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", light.format(words=words)], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "6 done; 0 to run" in done.stdout


def test_lists_name_everything(bench):
    for kind in ("method", "dataset"):
        out = bench("list", f"{kind}s").out
        assert all(name in out for name in registry.names(kind))
    assert all(name in bench("list", "presets").out for name in choices("preset"))
    assert all(name in bench("list", "backbones").out for name in choices("backbone"))


def test_show_prints_yaml_and_the_origin_of_each_key(bench):
    out = bench("show", "method", "toy_mean").out
    assert yaml.safe_load(out) == {"method": {"toy_mean": {"scale": 1.0, "sides": [1, 2], "kind": "abs", "pause": 0.0}}}
    assert "toy_mean.py" in comment_of(out, "scale")
    preset = bench("show", "preset", "smoke").out
    values = yaml.safe_load(preset)
    assert values["sweep"]["methods"] == ["winclip", "nearest_patch", "trivial_colour_knn"]
    assert values["protocol"]["evaluation_size"] == 256
    assert "configs/base.yaml" in comment_of(preset, "evaluation_size")
    assert "configs/preset/smoke.yaml" in comment_of(preset, "methods")


def comment_of(text, key):
    """What stands behind a key or, where a line would be long, above it."""
    lines = text.splitlines()
    (i,) = [i for i, line in enumerate(lines) if line.split(":")[0].strip() == key]
    return lines[i].partition("  # ")[2] or lines[i - 1].partition("# ")[2]


@pytest.mark.parametrize("words", [("method", "anople"), ("dataset", "mvtec_ad"), ("preset", "smoke")], ids=" ".join)
def test_show_prints_meaning_and_range_above_each_key_within_80_columns(bench, words):
    out = bench("show", *words).out
    lines = out.splitlines()
    assert isinstance(yaml.safe_load(out)[words[0] if words[0] != "preset" else "sweep"], dict)
    assert all(len(line) <= 80 for line in lines if len(line.split()) > 2)
    keys = [i for i, line in enumerate(lines) if ".py" in line or "configs/" in line]
    assert keys
    assert all(lines[i - 1].lstrip().startswith("# ") for i in keys), [lines[i] for i in keys]


def test_show_says_what_a_setting_may_be_once(bench):
    out = bench("show", "method", "finegrainedad").out
    assert (
        "\n    # shots that an image is compared with. One of per_class, pooled, retrieved.\n    bank: per_class "
        in out
    )
    preset = bench("show", "preset", "smoke").out
    assert '# where AUPRO finds regions: in the "resized" mask' in preset
    assert "One of resized, native" not in preset
    assert "  # configs/base.yaml, >= 8, <= 4096" in preset


def test_doctor_tells_what_is_there_and_what_to_do(bench, data, tmp_path):
    done = bench("doctor", "--results", tmp_path / "r")
    assert done.code == 0
    assert f"mvtec_ad: {data}" in done.out
    assert "no data for 'visa'" in done.out
    assert "BENCH_DATA" in done.out
    (tmp_path / "file").write_text("")
    assert bench("doctor", "--results", tmp_path / "file" / "r").code == 1
