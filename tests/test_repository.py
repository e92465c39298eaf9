"""Habits of the repository that a reader relies on."""

import ast
import csv
import inspect
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from benchmark.request import source
from benchmark.request.cell import DEMO_NOTE
from benchmark.request.protocols import PROTOCOL_VERSION
from datamodules.components.base import AnomalyDataModule
from methods.components.base import Method

ROOT = Path(__file__).parents[1]
#: Packages that are imported by another name than they are installed by.
DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python-headless", "open_clip": "open_clip_torch"} | {
    "mlflow": "mlflow-skinny",
    "wandb_workspaces": "wandb-workspaces",
}
TOPS = ("benchmark", "methods", "datamodules", "configs", "tests")
PYTHON = [ROOT / "clip_ad_bench.py", *sorted(path for top in TOPS for path in (ROOT / top).rglob("*.py"))]


def test_changelog_ends_at_the_protocol_version():
    versions = [int(number) for number in re.findall(r"^- (\d+):", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)]
    assert sorted(versions) == list(range(1, PROTOCOL_VERSION + 1))


def test_every_dependency_has_a_reason():
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    extras = project["optional-dependencies"]
    for requirement in (*project["dependencies"], *extras["dev"], *extras["docs"]):
        (line,) = [line for line in text.splitlines() if line.strip().startswith(f'"{requirement}"')]
        assert len(line.partition("#")[2].strip()) > 10, f"{requirement} has no reason beside it"


def test_every_imported_package_is_a_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [requirement for its in project["optional-dependencies"].values() for requirement in its]
    declared = {re.split(r"[<>=]", requirement)[0] for requirement in (*project["dependencies"], *extras)}
    imported = set()
    for path in PYTHON:
        if path.relative_to(ROOT).parts[0] != "tests":
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                imported |= {name.partition(".")[0] for name in names}
    foreign = imported - set(sys.stdlib_module_names) - {"benchmark", "methods", "datamodules", "configs"}
    assert {DISTRIBUTIONS.get(name, name) for name in foreign} <= declared


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 400


def test_the_workflow_and_ci_run_make_test():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    assert {"run": "make test"}.items() <= workflow["jobs"]["test"]["steps"][-1].items()
    assert (ROOT / ".ci/run").read_text().strip().endswith("make test")


def test_the_workflow_runs_every_python_that_is_declared():
    matrix = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]["test"]["strategy"]["matrix"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [each.rpartition(" ")[2] for each in project["classifiers"]] == matrix["python"]
    assert project["requires-python"] == f">={matrix['python'][0]}"


@pytest.mark.parametrize(("base", "required"), [(Method, ("paper", "protocols")), (AnomalyDataModule, ("categories",))])
def test_a_recipe_is_a_file_that_loads(tmp_path, base, required):
    blocks = re.findall(r'```python\n(""".*?)```', (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if f"({base.__name__})" in block]
    file = tmp_path / "recipe.py"
    file.write_text(block)
    assert source.read_source(file, required).summary
    names: dict[str, object] = {"__name__": "recipe"}
    exec(compile(block, str(file), "exec"), names)
    (kind,) = [each for each in names.values() if isinstance(each, type) and each.__module__ == "recipe"]
    assert issubclass(kind, base)
    assert not inspect.isabstract(kind)


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.md")), ids=lambda path: path.stem)
def test_a_template_says_what_it_is_for(path):
    head = yaml.safe_load(path.read_text().split("---")[1])
    assert head["name"]
    assert head["about"]


def test_the_table_of_the_readme_is_part_of_the_committed_leaderboard():
    """All rows of 4 shots over all categories: data set, method and four means."""
    with (ROOT / "results/smoke/leaderboard.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["kind"], row["shots"]) == ("all", "4")]
    text = (ROOT / "README.md").read_text()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    head, _, *shown = lines[: next(i for i, line in enumerate(lines) if line[0] == "I want to")]
    means = [name.replace(" ", "_") for name in head[2:]]
    percent = [[f"{100 * float(row[name]):.1f}" if row[name] else "–" for name in means] for row in rows]
    assert shown == [[row["dataset"], row["method"], *them] for row, them in zip(rows, percent, strict=True)]
    assert 0 < len(shown) <= 10
    assert {row["note"] for row in rows} == {DEMO_NOTE}
    assert "not comparable with any published result" in text


def test_the_readme_is_short_and_shows_a_result_first():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) < 700
    assert text.count("![") == 1
    assert re.findall(r"^make [a-z]+", text, re.MULTILINE) == ["make demo", "make test"]
    assert text.index("![") < text.index("make demo") < text.index("| dataset |") < text.index("| I want to |")
