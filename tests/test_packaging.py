"""What a release holds, and that its version stands in one place."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import numpy
import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("benchmark", "methods", "datamodules", "configs")
UNUSED = {".pyc"}


def built(root: Path, folder: Path, kind: str) -> Path:
    """The wheel or sdist of a source tree, without an environment of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stdout + done.stderr
    (file,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return file


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return built(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    return built(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


def files_of(root: Path) -> set[str]:
    """The files of the four packages, and the module that starts them."""
    found = {path for package in PACKAGES for path in (root / package).rglob("*") if path.is_file()}
    kept = {path for path in found if path.suffix not in UNUSED and "__pycache__" not in path.parts}
    return {path.relative_to(root).as_posix() for path in kept} | {"clip_ad_bench.py"}


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.slow
def test_a_wheel_holds_every_file_of_the_packages_and_no_other(wheel):
    held = {name for name in contents(wheel) if ".dist-info/" not in name}
    assert held == files_of(ROOT)
    assert {
        "methods/components/clip/embedded.safetensors",
        "configs/base.yaml",
        "configs/published/papers.csv",
        "benchmark/records/page/page.css",
    } <= held


@pytest.mark.slow
def test_a_wheel_made_of_the_sdist_is_the_same(wheel, sdist, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (root,) = tmp_path.iterdir()
    again = contents(built(root, tmp_path / "again", "wheel"))
    first = contents(wheel)
    assert again == first
    assert {"Makefile", "tests", "docs", "CHANGELOG.md", "CITATION.cff"} <= {path.name for path in root.iterdir()}


@pytest.mark.slow
def test_bench_starts_from_the_files_of_a_wheel_in_an_empty_folder(wheel, tmp_path):
    place, home = tmp_path / "elsewhere", tmp_path / "wheel"
    place.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(home)
    command = [
        sys.executable,
        "-m",
        "clip_ad_bench",
        "run",
        "--preset",
        "smoke",
        "--datasets",
        "procedural",
        "--dry-run",
    ]
    done = subprocess.run(command, cwd=place, env={"PYTHONPATH": str(home)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "nearest_patch" in done.stdout


@pytest.mark.slow
def test_code_behind_a_number_is_the_same_where_the_suite_is_installed(wheel, tmp_path):
    """Packages that lie beside it in `site-packages` are no part of it."""
    home = tmp_path / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(home)
    (home / "numpy").symlink_to(Path(numpy.__file__).parent)
    asked = (
        "from benchmark.request import code as c; print(c.ROOT, c.code_of([c.MEASURING, 'methods.winclip']), sep='\\n')"
    )
    said = [
        subprocess.run([sys.executable, "-c", asked], cwd=tmp_path, env={"PYTHONPATH": str(place)}, capture_output=True)
        for place in (home, ROOT)
    ]
    (root, code), (_, expected) = (each.stdout.decode().splitlines() for each in said)
    assert root == str(home)
    assert code == expected


def test_the_version_stands_in_pyproject_and_agrees_with_citation_and_changelog():
    version = PROJECT["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    changes = (ROOT / "CHANGELOG.md").read_text().split("## API")[1].split("## Numbers")[0]
    assert str(citation["version"]) == version
    assert citation["license"] == PROJECT["license"]
    assert re.findall(r"^### (\S+)$", changes, re.MULTILINE)[0] == version
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assigned = [
        path for path in sources if re.search(rf"version.*[\"']{re.escape(version)}[\"']", path.read_text(), re.I)
    ]
    assert not assigned


def test_the_workflow_tries_the_package_and_builds_the_documentation():
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]
    said = {name: [step.get("run") for step in job["steps"]] for name, job in jobs.items()}
    assert "make release-check" in said["package"]
    assert "make docs" in said["docs"]
    targets = (ROOT / "Makefile").read_text()
    assert re.search(r"^release-check:.*\n(?:.*\n)*?.*-m tests\.release$", targets, re.MULTILINE)
    assert re.search(r"^docs:.*\n.*mkdocs build --strict -f docs/site/mkdocs\.yml$", targets, re.MULTILINE)


def test_dependabot_looks_after_packages_and_actions_but_not_after_pinned_data():
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    assert {each["package-ecosystem"] for each in updates} == {"pip", "github-actions"}
    pinned = {
        each.split("==")[0]
        for each in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["elpv"])
        if "==" in each
    }
    (pip,) = [each for each in updates if each["package-ecosystem"] == "pip"]
    assert {each["dependency-name"] for each in pip["ignore"]} == pinned
