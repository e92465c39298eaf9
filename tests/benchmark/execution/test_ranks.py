"""Two CPU ranks give what one gives: what is learnt, every metric, every count; each test image on one rank, once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.contract.candidates import write_images
from tests.support.ranks import BATCH, NAMES

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What one rank and what two leave behind."""
    folder = tmp_path_factory.mktemp("ranks")
    write_images(folder / "data", turned=False)
    seeded = "PL_GLOBAL_SEED"  # of another test's seed_everything: Lightning would seed again where ranks begin
    environment = {key: value for key, value in os.environ.items() if key != seeded}
    for ranks in (1, 2):
        subprocess.run(
            [sys.executable, "-m", "tests.support.ranks", folder, str(ranks)],
            cwd=ROOT,
            env=environment | {"BENCH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"},
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
    assert {sum(its.values()) for its in one["counts"].values()} == {4}
    assert {f"{category}/image_AUROC" for category in one["counts"]} | {"image_AUROC"} <= one["logged"].keys()


@pytest.mark.parametrize("name", NAMES)
def test_each_test_image_is_read_once_and_a_fit_is_the_same_on_each_rank(folder, name):
    alone, first, second = (read(folder, f"{name}-{rank}-reads") for rank in ("1-0", "2-0", "2-1"))
    places = alone["tested"]
    assert places == list(range(4 if len(places) == 4 else 8))  # one category, or two
    assert [first["tested"], second["tested"]] == [[i for i in places if i // BATCH % 2 == rank] for rank in (0, 1)]
    assert alone["fitted"] == first["fitted"] == second["fitted"]
    assert bool(alone["fitted"]) == (name != "winclip")
