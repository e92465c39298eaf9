"""The notebook of docs/ runs from its first cell to its last, in a kernel of its own, and is kept without outputs."""

import base64
import io
import os
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs").glob("**/*.ipynb"))


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def said(cell, kind):
    return "".join(output.get("text", "") for output in cell.outputs if output.get("name") == kind)


def shown(cell):
    return "".join(output.data["text/plain"] for output in cell.outputs if output.output_type == "execute_result")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs(path):
    """They would differ between machines, and grow."""
    notebook = nbformat.read(path, as_version=4)
    assert [(cell.outputs, cell.execution_count) for cell in code(notebook)] == [([], None)] * len(code(notebook))
    assert path.stat().st_size < 20_000


@pytest.mark.slow
@pytest.mark.skipif(find_spec("elpv_dataset") is None, reason="the photographs of elpv are not installed: .[elpv]")
def test_the_first_sweep(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(ROOT / "docs" / "first-sweep.ipynb", as_version=4)
    last = nbformat.v4.new_code_cell("import sys\nprint(hasattr(sys, 'ps1'))")  # by which a second interrupt is told
    notebook.cells.append(last)
    NotebookClient(notebook, kernel_name="python3", timeout=200, resources={"metadata": {"path": tmp_path}}).execute()
    _, run, pivot, failed, again, detector, session = code(notebook)
    assert said(run, "stdout") == ""
    progress = said(run, "stderr")
    assert "8 cells: 8 missing; 8 to run; results in results/notebook" in progress
    assert progress.count("ok     nearest_patch elpv/solar_cell few_shot") == 4
    assert not [line for line in progress.splitlines() if "arning" in line or "ipywidgets" in line]
    rows = [line.split() for line in shown(run).splitlines() if " ok" in line]
    assert sorted((row[1], row[2]) for row in rows) == [
        (m, k) for m in ("nearest_patch", "trivial_colour_knn") for k in "14"
    ]
    assert all(0 < float(row[3]) < 1 for row in rows)
    assert "nearest_patch" in shown(pivot)
    assert said(failed, "stdout").startswith(
        "[]\nunknown method 'nearest_pach'. Did you mean 'nearest_patch'? Allowed: "
    )
    assert "[4 rows x " in shown(again)
    (picture,) = [output for output in detector.outputs if output.output_type == "execute_result"]
    assert "Result(" in picture.data["text/plain"]
    with Image.open(io.BytesIO(base64.b64decode(picture.data["image/png"]))) as seen:
        assert seen.size == (300, 300)
    assert said(session, "stdout") == "True\n"
    assert (tmp_path / "results/notebook/leaderboard.html").is_file()
