"""A metric is one line of the table: what is computed, stored and printed follows from it alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pixel_oracle import fill, random_maps

from benchmark.metrics import table
from benchmark.metrics.accumulate import ImageMetrics
from benchmark.metrics.table import IMAGES, PIXELS, Metric, UndefinedError, evaluate, metric_names, metrics

ROOT = Path(__file__).parents[3]
LABELS = torch.tensor([True, False, True, False])


def test_the_names_and_their_order():
    order = ["image_AUROC", "image_AP", "image_F1Max", "pixel_AUROC", "pixel_AP", "pixel_F1Max", "pixel_AUPRO"]
    assert [name for name in metric_names() if name in order] == order
    assert set(metric_names()) == {*metric_names("image"), *metric_names("pixel")}
    assert "pixel_PRO@200steps" in set(metric_names("pixel", published=True)) - set(metric_names("pixel"))


def test_every_line_says_what_it_needs_in_the_words_of_its_level():
    assert len({line.name for line in table.TABLE}) == len(table.TABLE)
    for line in table.TABLE:
        assert line.name.startswith(f"{line.level}_")
        assert line.needs
        assert {need.split()[1] for need in line.needs} == {line.level}


def test_the_table_loads_no_heavy_library():
    code = "import sys, benchmark.metrics.table; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'cv2')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


@pytest.fixture
def two_more(monkeypatch):
    """A metric at each level, added by one line each."""

    def normals(ranking):
        return 1 / ranking.normals

    more = (Metric("image_New", "image", normals, ("normal image",)), Metric("pixel_New", "pixel", normals, PIXELS))
    monkeypatch.setattr(table, "TABLE", (*table.TABLE, *more))


@pytest.mark.usefixtures("two_more")
def test_one_line_is_enough_for_a_metric_to_be_measured():
    image = ImageMetrics()
    image.update(torch.rand(4), LABELS)
    assert image.compute()["image_New"] == (0.5, "")
    maps, masks = random_maps(0)
    assert fill(maps, masks).compute()["pixel_New"].value == 1 / np.count_nonzero(~masks)
    assert fill(maps, masks & False).compute()["pixel_New"] == (None, "no anomalous pixel")


@pytest.mark.usefixtures("two_more")
def test_each_metric_is_undefined_by_its_own_needs():
    image = ImageMetrics()
    image.update(torch.rand(2), torch.tensor([False, False]))
    found = image.compute()
    assert found.pop("image_New") == (0.5, "")
    assert set(found.values()) == {(None, "no anomalous image")}


def test_a_ranking_is_made_once_and_only_if_a_metric_can_use_it():
    made = []

    def rank():
        made.append(1)
        return "ranking"

    def refuse(ranking):
        raise UndefinedError(f"not of this {ranking}")

    lines = tuple(Metric(name, "image", lambda ranking: len(ranking) / 10, IMAGES) for name in "ab")
    lines += (Metric("c", "image", refuse, IMAGES),)
    nothing = evaluate(lines, {"anomalous image": 3, "normal image": 0}, rank)
    assert (nothing, made) == (dict.fromkeys("abc", (None, "no normal image")), [])
    values = evaluate(lines, {"anomalous image": 3, "normal image": 1}, rank)
    assert values == {"a": (0.7, ""), "b": (0.7, ""), "c": (None, "not of this ranking")}
    assert made == [1]


def test_other_errors_of_a_function_are_not_taken_for_an_undefined_value():
    line = Metric("a", "image", lambda ranking: 1 / 0, IMAGES)
    with pytest.raises(ZeroDivisionError):
        line.measure(None)


@pytest.mark.parametrize("published", [True, False])
def test_lines_of_published_code_are_there_where_asked_for(published):
    assert any(line.published for line in metrics(published=published)) == published
