"""The recipe of CONTRIBUTING.md, pasted as it stands into a package of one's own, keeps every promise and runs."""

import importlib
import re
from pathlib import Path

import pandas as pd
import pytest

from benchmark.request import inputs

pytestmark = pytest.mark.slow

CONTRIBUTING = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text()


@pytest.fixture
def pasted(tmp_path, monkeypatch):
    """A package that holds the file, and offers it by the lines of the recipe."""
    blocks = re.findall(r'```python\n(""".*?)```', CONTRIBUTING, re.DOTALL)
    (method,) = [block for block in blocks if "(Method)" in block]
    (group, point) = re.search(r'```toml\n\[project.entry-points."(.*?)"\]\n(.*?)\n```', CONTRIBUTING).groups()
    package, told = tmp_path / "my_package", tmp_path / "my_package-1.0.dist-info"
    package.mkdir()
    told.mkdir()
    (package / "__init__.py").touch()
    (package / "patch_to_shots.py").write_text(method)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text(f"[{group}]\n" + point.replace('"', "") + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    inputs.look_again()
    yield
    monkeypatch.undo()
    inputs.look_again()


def test_the_recipe_works_as_it_is_pasted(pasted, bench, data, cells, tmp_path):
    checked = bench("check", "patch_to_shots")
    assert checked.code == 0, checked.out
    lines = re.search(r"\$ bench check patch_to_shots\n(.*?)…", CONTRIBUTING, re.DOTALL)[1].splitlines()
    assert {*lines} <= {*checked.out.splitlines()}
    asked = ("--methods", "patch_to_shots", *cells, "--shots", "1", "--seeds", "0", "--results", tmp_path / "r")
    done = bench("run", *asked)
    assert done.code == 0, done.out + done.err
    assert pd.read_csv(tmp_path / "r" / "leaderboard.csv")["image_AUROC"].between(0, 1).all()
