"""Another package with the name of one of the suite's is named before an import fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clip_ad_bench import PACKAGES

ROOT = Path(__file__).parents[1]


@pytest.fixture
def list_protocols(tmp_path):
    """`bench list protocols` where Python looks into `tmp_path` before it looks into the suite."""

    def call(*program: str):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
        command = [sys.executable, *program, "list", "protocols"]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    return call


@pytest.mark.slow
@pytest.mark.parametrize("place", ["{}/__init__.py", "{}.py"])
@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_that_shadows_is_named_with_its_place(list_protocols, tmp_path, name, place):
    foreign = tmp_path / place.format(name)
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("raise RuntimeError('imported')\n")
    done = list_protocols("-m", "clip_ad_bench")
    assert done.returncode == 2
    assert not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: the package {name!r} of clip-ad-bench is shadowed")
    assert f"find {ROOT / name / '__init__.py'}, it finds {foreign}." in line


def test_all_that_shadow_are_named_at_once(list_protocols, tmp_path, monkeypatch):
    for name in PACKAGES:
        (tmp_path / f"{name}.py").touch()
    assert len(list_protocols("-m", "clip_ad_bench").stderr.splitlines()) == len(PACKAGES)
    monkeypatch.setenv("_BENCH_COMPLETE", "complete_bash")
    assert list_protocols("-m", "clip_ad_bench").stderr == ""  # would stand between the words that are typed


@pytest.mark.slow
def test_folders_that_are_no_packages_shadow_nothing(list_protocols, tmp_path):
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").touch()
    done = list_protocols("-m", "clip_ad_bench")
    assert (done.returncode, done.stderr) == (0, "")
    assert "few_shot" in done.stdout


def test_bench_starts_there():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"bench": "clip_ad_bench:main"}
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(packages) == sorted([*PACKAGES, "clip_ad_bench.py"])
