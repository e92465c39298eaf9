"""`bench export --record`: files that run without this package, or one sentence and nothing left behind."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from twins import write_mvtec_ad

from benchmark import cli
from benchmark.commands import export_model
from benchmark.execution import exporting
from benchmark.execution.program import ExportError
from benchmark.records import predictions
from benchmark.records.store import Store, checksum
from datamodules.components import decoding
from datamodules.components.reading import read_image

CELLS = ("--datasets", "mvtec_ad", "--categories", "bottle,metal_nut", "protocol.evaluation_size=24")
pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[3] / "docs" / "export.md"
PROBE = Path(decoding.__file__).parent / "probe"
ALONE = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__'); "
ALONE += "assert not {'torch', 'benchmark', 'methods', 'datamodules'} & {*sys.modules}"


@pytest.fixture(scope="module")
def loader(tmp_path_factory) -> Path:
    """The one program of the page, as it stands there."""
    (text,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    path = tmp_path_factory.mktemp("loader") / "load.py"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Records of a floor: one for each category of the twin, and one of both."""
    root = tmp_path_factory.mktemp("made")
    write_mvtec_ad(root / "data" / "mvtec_ad")
    words = ["run", "--methods", "trivial_pixel_difference", "--protocols", "few_shot,multi_class", "--shots", "1"]
    words += ["--seeds", "0", *CELLS, "--backbone", "embedded_random", "--results", str(root / "r")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_DATA", str(root / "data"))
        patch.setattr(sys, "argv", ["bench", *words])
        with pytest.raises(SystemExit) as done:
            cli.main()
    assert not done.value.code
    return root / "r"


@pytest.fixture
def results(made, data, tmp_path) -> Path:
    """A copy that the test may damage, beside a twin that it may damage."""
    return Path(shutil.copytree(made, tmp_path / "r"))


def cell(results, word) -> Path:
    (found,) = (results / "cells").glob(f"*-{word}-*")
    return found


def left(results) -> list[str]:
    """What an export has left in the results folder."""
    return [path.name for path in results.rglob("*") if "exported" in path.parts or path.name.startswith(".tmp")]


def rewrite(path, change):
    """Edit a record with a checksum that fits."""
    fields = json.loads(path.read_text())
    del fields["checksum"]
    change(fields)
    path.write_text(json.dumps(fields | {"checksum": checksum(fields)}))


def test_the_loader_of_the_page_says_what_the_run_said(bench, results, loader, data):
    record = cell(results, "bottle") / "attempt-1.json"
    done = bench("export", "--record", record)
    assert done.code == 0, done.err
    (folder,) = (results / "exported").iterdir()
    assert {path.name for path in folder.iterdir()} == {"model.pt2", "model.onnx", "model.json"}
    kept = predictions.read(record.with_suffix(".safetensors"))
    images = [data / name for name in kept.names]
    found = subprocess.run(
        [sys.executable, "-c", ALONE, loader, folder, *images], capture_output=True, text=True, cwd=results
    )
    assert found.returncode == 0, found.stderr
    scores = [float(line.split()[0]) for line in found.stdout.splitlines()]
    np.testing.assert_allclose(scores, kept.scores, rtol=0, atol=1e-4)
    assert np.ptp(kept.scores) > 1e-2  # so that equal scores say something
    about = json.loads((folder / "model.json").read_text())
    assert about["record"]["cell_id"] == record.parent.name
    assert about["category"] == "bottle"
    assert about["input"]["shape"] == [1, 3, 144, 144]
    assert about["outputs"]["anomaly_map"]["shape"] == [1, 144, 144]
    proof = about["proof"]
    assert len(proof["images"]) == min(4, len(images))
    assert proof["largest_difference"].keys() == {"model.pt2", "model.onnx"}
    assert 0 <= proof["largest_difference_of_recorded_scores"] < 1e-4


@pytest.fixture(scope="module")
def turned(tmp_path_factory) -> Path:
    """A photograph that was taken upright and stored lying."""
    path = tmp_path_factory.mktemp("turned") / "turned.jpg"
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = 6
    with Image.open(PROBE / "portrait.jpg") as image:
        image.save(path, exif=exif)
    return path


def test_the_loader_reads_images_as_the_suite_does(loader, turned):
    text, names = loader.read_text(), {}
    start = "import numpy as np\nfrom PIL import Image, ImageOps\nside = 64\n"
    exec(start + re.search(r"def read.*?(?=\nfor path)", text, re.DOTALL).group(), names)
    paths = [turned, *(path for path in PROBE.iterdir() if path.stem != "mask")]
    wrong = [path.name for path in paths if not np.array_equal(names["read"](path)[0], read_image(path, 64).numpy())]
    assert len(paths) > 5
    assert wrong == []


def test_the_loader_is_of_twenty_lines(loader):
    assert len([line for line in loader.read_text().splitlines() if line.strip()]) <= 20


@pytest.mark.campaign
def test_several_categories_need_one_and_a_batch_is_taken_at_once(bench, results, data, tmp_path):
    import torch

    folder, record = tmp_path / "out", cell(results, "all")
    refused = bench("export", "--record", record, "--output", folder)
    assert (refused.code, folder.exists()) == (2, False)
    assert "say --category bottle | metal_nut" in refused.err
    assert "Did you mean 'bottle'?" in bench("export", "--record", record, "--category", "botle").err
    done = bench("export", "--record", record, "--category", "metal_nut", "--batch", 3, "--output", folder)
    assert done.code == 0, done.err
    kept = predictions.read(record / "attempt-1.safetensors")
    rows = [row for row, category in enumerate(kept.categories) if category == "metal_nut"][:3]
    images = torch.stack([read_image(data / kept.names[row], 144) for row in rows])
    score, _ = torch.export.load(folder / "model.pt2").module()(images)
    np.testing.assert_allclose(score.numpy(), kept.scores[rows], rtol=0, atol=1e-4)


def test_no_such_record(bench, results):
    for path, why in (
        (results / "cells" / "absent", "unknown cell of"),
        (results, "give DIR/cells/ID/attempt-N.json"),
        (results / "cells" / "a" / "attempt-1.json", "unknown cell of"),
    ):
        done = bench("export", "--record", path)
        assert done.code == 2
        assert why in done.err
    record = cell(results, "bottle") / "attempt-1.json"
    record.write_text(record.read_text()[:-9])
    assert "cannot be read as a record" in bench("export", "--record", record).err


def test_a_record_that_failed(bench, data, cells, tmp_path):
    bench("run", "--methods", "toy_breaks", "--shots", "1", "--seeds", "0", *cells, "--results", tmp_path / "r")
    done = bench("export", "--record", cell(tmp_path / "r", "metal_nut"))
    assert done.code == 2
    assert "has not succeeded: broken on purpose" in done.err
    assert left(tmp_path / "r") == []


def test_a_plug_in_that_is_gone(bench, results):
    record = cell(results, "bottle") / "attempt-1.json"
    rewrite(record, lambda fields: fields["cell"].update(method="toy_gone"))
    done = bench("export", "--record", record)
    assert done.code == 2
    assert "the method toy_gone of this record is not installed" in done.err


def test_an_extra_that_is_not_installed(bench, results, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(export_model, "find_spec", lambda name: None if name == "onnxscript" else real(name))
    done = bench("export", "--record", cell(results, "bottle"))
    assert done.code == 2
    assert "needs the package onnxscript: pip install 'clip-ad-bench[export]'" in done.err


def test_a_folder_that_cannot_be_written(bench, results, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = bench("export", "--record", cell(results, "bottle"), "--output", tmp_path / "file" / "deeper")
    assert done.code == 2
    assert "cannot write to" in done.err


@pytest.mark.parametrize("already", [False, True])
def test_a_failure_leaves_what_was_there(bench, results, tmp_path, monkeypatch, already):
    def fail(*_):
        raise ExportError("no")

    out = tmp_path / "some" / "out"
    if already:
        out.mkdir(parents=True)
        (out / "model.json").write_text("before")
    monkeypatch.setattr(exporting, "trace", fail)
    done = bench("export", "--record", cell(results, "bottle"), "--output", out)
    assert done.code == 2
    assert [path.name for path in (tmp_path / "some").rglob("*")] == (["out", "model.json"] if already else [])


@pytest.fixture
def no_onnx(monkeypatch):
    """An exporter that cannot write an operator, which also spares its time."""

    def fail(*_):
        raise ExportError("torch.onnx.export cannot write it (made up)")

    monkeypatch.setattr(exporting, "save_onnx", fail)


@pytest.mark.usefixtures("no_onnx")
def test_onnx_that_is_refused_is_told_and_the_program_stays(bench, results, tmp_path):
    out = tmp_path / "out"
    (out / ".tmp-export-killed").mkdir(parents=True)
    (out / "model.onnx").write_text("of an earlier export")
    done = bench("export", "--record", cell(results, "bottle"), "--output", out)
    assert done.code == 1
    assert "model.onnx was not written: torch.onnx.export cannot write it (made up)." in done.out
    assert {path.name for path in out.iterdir()} == {"model.pt2", "model.json"}
    assert "made up" in json.loads((out / "model.json").read_text())["refused"]["model.onnx"]


def test_other_shots_than_a_fit_that_was_not_kept_are_refused(bench, results, data):
    next(cell(results, "bottle").glob("*.fit.safetensors")).unlink()
    for path in (data / "bottle" / "train" / "good").iterdir():
        shutil.copy(next((data / "bottle" / "test" / "good").iterdir()), path)
    done = bench("export", "--record", cell(results, "bottle"))
    assert done.code == 2
    assert "has changed since" in done.err
    assert left(results) == []


def test_a_model_that_says_other_scores_than_were_recorded_is_refused(bench, results):
    record = Store(results).current(cell(results, "bottle").name)
    path = predictions.path_of(results, record)
    kept = predictions.read(path)
    predictions.write(path, kept._replace(scores=kept.scores + np.float32(1e-3)))
    done = bench("export", "--record", path.parent)
    assert done.code == 2
    assert "says other scores than were recorded: they differ by up to 0.001" in done.err
    assert left(results) == []


@pytest.mark.usefixtures("no_onnx")
@pytest.mark.parametrize("kept", [True, False])
def test_newer_code_must_reproduce_what_was_kept(bench, results, kept):
    record = cell(results, "bottle") / "attempt-1.json"
    rewrite(record, lambda fields: fields["content"]["code"].update({"methods.trivial_pixel_difference": "other"}))
    if not kept:
        record.with_suffix(".safetensors").unlink()
    done = bench("export", "--record", record)
    assert done.code == (1 if kept else 2)
    if kept:
        about = json.loads(next((results / "exported").rglob("model.json")).read_text())
        assert about["changed_since_the_record"] == ["code: methods.trivial_pixel_difference"]
    else:
        assert "Since then changed: code: methods.trivial_pixel_difference." in done.err


def test_words_of_a_model_do_not_stand_before_another_command(bench):
    done = bench("export", "--category", "x", "wandb-dashboard")
    assert done.code == 2
    assert "stand alone" in done.err
