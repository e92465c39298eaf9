"""`bench show synthesis`: a picture of the data set's own images, and what it refuses."""

import json
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmark.commands import synthesis_sheet

pytestmark = pytest.mark.slow

SHOW = ("show", "synthesis", "mvtec_ad", "--categories", "bottle,metal_nut")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(synthesis_sheet, "SIDE", 64)
    monkeypatch.setattr(synthesis_sheet, "TOKENS", 4)


def pictures(sheet):
    """The pictures of a sheet by row and column."""
    step, picture = synthesis_sheet.PICTURE + synthesis_sheet._GAP, synthesis_sheet.PICTURE
    tops = range(synthesis_sheet._HEAD, sheet.shape[0], step)
    lefts = range(synthesis_sheet._MARGIN, sheet.shape[1], step)
    return [[sheet[top : top + picture, left : left + picture] for left in lefts] for top in tops]


def test_the_sheet_shows_every_category_and_the_same_twice(bench, data, tmp_path):
    for name in ("one", "two"):
        done = bench(*SHOW, "--output", tmp_path / name / "sheet.png")
        assert done.code == 0, done.err
        assert done.out == f"{tmp_path / name / 'sheet.png'}\n"
    first, second = ((tmp_path / name / "sheet.png").read_bytes() for name in ("one", "two"))
    assert first == second
    rows = pictures(cv2.imdecode(np.frombuffer(first, np.uint8), cv2.IMREAD_COLOR))
    assert len(rows) == 2
    for row in rows:
        normal, *edited = row
        assert len(edited) == 7
        assert all((picture != normal).any() for picture in edited)
    assert (rows[0][0] != rows[1][0]).any()


def test_the_default_place_is_the_report_folder(bench, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert bench(*SHOW).out == "results/report/synthesis.png\n"
    assert (tmp_path / "results/report/synthesis.png").is_file()


def test_textures_of_a_folder_take_the_place_of_another_category(bench, data, tmp_path):
    (tmp_path / "dtd" / "dotted").mkdir(parents=True)
    Image.new("RGB", (9, 9), (0, 255, 0)).save(tmp_path / "dtd" / "dotted" / "green.png")
    with_other, with_green = tmp_path / "other.png", tmp_path / "green.png"
    bench(*SHOW, "--output", with_other)
    assert bench(*SHOW, "--output", with_green, "--textures", tmp_path / "dtd").code == 0
    one, other = (pictures(cv2.imread(str(path)))[0] for path in (with_green, with_other))
    differing = [column for column, pair in enumerate(zip(one, other, strict=True)) if (pair[0] != pair[1]).any()]
    assert differing == [2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["synthesis", "mvtec_da"], r"unknown dataset 'mvtec_da'\. Did you mean 'mvtec_ad'"),
        (["synthesis", "visa"], r"no data for 'visa'"),
        (["synthesis", "mvtec_ad", "--categories", "botle"], r"unknown category 'botle'\. Did you mean 'bottle'"),
        (["synthesis", "mvtec_ad"], r"no folder of category 'cable'"),
        ([*SHOW[1:], "--textures", "absent"], r"textures must be a folder of images; absent is not a folder"),
        ([*SHOW[1:], "--textures", "empty"], r"textures must be a folder of images .*; empty holds no image"),
        ([*SHOW[1:], "--output", "file/sheet.png"], r"cannot write file/sheet\.png"),
        ([*SHOW[1:], "--output", "empty"], r"cannot write empty"),
        (["synthesys"], r"unknown kind 'synthesys'\. Did you mean 'synthesis'"),
        (["method"], r"`bench show method` needs a name of `bench list methods`, got none"),
        (["method", "winclip", "--textures", "x"], r"--textures belong to `bench show synthesis`, not to 'method'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_input_is_refused_and_writes_nothing(bench, data, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    done = bench("show", *words)
    assert done.code == 2, done
    assert re.search(message, done.err), done.err
    assert "Traceback" not in done.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("words", ["folder dataset.folder.root={}", "parts={}"])
def test_own_images_are_shown_where_the_words_say_they_lie(bench, data, tmp_path, monkeypatch, words):
    monkeypatch.delenv("BENCH_DATA")
    sheet = tmp_path / "sheet.png"
    done = bench("show", "synthesis", *words.format(data).split(), "--output", sheet, "--json")
    assert json.loads(done.out) == {"file": str(sheet)}
    assert len(pictures(cv2.imread(str(sheet)))) == 2
    (data / "bottle" / "train").rename(data / "bottle" / "elsewhere")  # those were the images
    assert bench("show", "synthesis", *words.format(data).split(), "--output", sheet).code == 2


def test_a_wrong_setting_of_the_shown_set_is_refused(bench, data):
    done = bench("show", "synthesis", "mvtec_ad", "dataset.mvtec_ad.roof=/x")
    assert (done.code, "Did you mean 'dataset.mvtec_ad.root'" in done.err) == (2, True)
