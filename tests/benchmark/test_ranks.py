"""Two CPU ranks give what one gives: what is learnt, every metric, every count; each test image on one rank, once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.contract.candidates import write_images
from tests.support.ranks import NAMES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What one rank and what two leave behind."""
    folder = tmp_path_factory.mktemp("ranks")
    write_images(folder / "data", turned=False)
    for ranks in (1, 2):
        subprocess.run(
            [sys.executable, "-m", "tests.support.ranks", folder, str(ranks)],
            cwd=ROOT,
            env={**os.environ, "BENCH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"},
            check=True,
            timeout=280,
        )
    return folder


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_give_what_one_gives(folder, name):
    one, two = (read(folder, f"{name}-{ranks}") for ranks in (1, 2))
    assert one == two
    assert {category: sum(its.values()) for category, its in one["counts"].items()} == {"metal_nut": 4, "pcb1": 4}
    assert {f"{category}/image_AUROC" for category in one["counts"]} | {"image_AUROC"} <= one["logged"].keys()


@pytest.mark.parametrize("name", NAMES)
def test_each_test_image_is_read_once_and_a_fit_is_the_same_on_each_rank(folder, name):
    alone, first, second = (read(folder, f"{name}-{rank}-reads") for rank in ("1-0", "2-0", "2-1"))
    assert sorted(first["tested"] + second["tested"]) == alone["tested"] == list(range(8))
    assert (first["tested"], second["tested"]) == ([0, 1, 2, 6, 7], [3, 4, 5])
    assert alone["fitted"] == first["fitted"] == second["fitted"]
    assert bool(alone["fitted"]) == (name != "winclip")
