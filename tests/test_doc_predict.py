"""The Python of docs/predict.md runs as it stands."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PAGE = Path(__file__).parents[1] / "docs" / "predict.md"


def test_the_lines_of_the_page_do_what_they_say(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    (tmp_path / "shots").mkdir()
    for name in ("shots/1.png", "shots/2.png", "shots/3.png", "shots/4.png", "photo.png"):
        Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert (failed, tried) == (0, 11)


@pytest.mark.parametrize("word", ["percentile", "threshold", "anomalous", "predictions.json", "contact_sheet.png"])
def test_the_page_names_what_is_written(word):
    assert f"`{word}`" in PAGE.read_text()
