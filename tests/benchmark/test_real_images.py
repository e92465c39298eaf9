"""Real photographs, where BENCH_REAL_DATA names a folder that holds mvtec_ad/screw and headct."""

import os
from pathlib import Path

import pytest
from PIL import Image

from datamodules.components.reading import read_image
from datamodules.elpv import ELPV
from datamodules.head_ct import HeadCT
from datamodules.mvtec_ad import MVTecAD

REAL = os.environ.get("BENCH_REAL_DATA", "")
needs_images = pytest.mark.skipif(not REAL, reason="BENCH_REAL_DATA names no folder of real images.")


@needs_images
def test_screw_is_grey_square_and_whole():
    data = MVTecAD(Path(REAL) / "mvtec_ad", ["screw"], image_size=64, shots=4)
    data.verify()
    tests = data.tests("screw")
    assert (sum(not s.anomalous for s in tests), sum(s.anomalous for s in tests)) == (41, 119)
    with Image.open(tests[0].image) as image:
        assert (image.mode, image.size) == ("L", (1024, 1024))
    assert read_image(tests[0].image, 64).unique(dim=0).shape[0] == 1  # three equal channels


@needs_images
def test_head_ct_has_a_blank_in_its_header_and_twelve_images_with_alpha():
    data = HeadCT(Path(REAL) / "headct", ["head"], image_size=64, config=HeadCT.Config(variant="quarter"))
    data.verify()
    tests = data.tests("head")
    numbers = len(data.normals("head")), sum(not s.anomalous for s in tests), sum(s.anomalous for s in tests)
    assert numbers == HeadCT.counts["quarter"]["head"]
    modes = [Image.open(path).mode for path in sorted((data.root / "head_ct").iterdir())]
    assert (modes.count("RGB"), modes.count("RGBA")) == (188, 12)


@needs_images
@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "part"), [("mvtec_ad", "screw"), ("head_ct", "head")])
def test_a_cell_of_real_images(bench, tmp_path, dataset, part):
    root = {"mvtec_ad": "mvtec_ad", "head_ct": "headct"}[dataset]
    words = ("--methods", "nearest_patch", "--datasets", dataset, "--categories", part, "--shots", "1", "--seeds", "0")
    where = (f"dataset.{dataset}.root={Path(REAL) / root}", "--results", tmp_path / "r", "--limit", "8")
    variant = ("dataset.head_ct.variant=quarter",) if dataset == "head_ct" else ()
    done = bench("run", *words, *where, *variant)
    assert done.code == 0, done.out + done.err


@pytest.mark.parametrize("variant", ["both", "mono", "poly"])
def test_the_package_of_solar_cells_holds_what_is_published(variant):
    pytest.importorskip("elpv_dataset", reason="elpv-dataset is not installed: pip install clip-ad-bench[elpv].")
    data = ELPV(None, ["solar_cell"], image_size=32, config=ELPV.Config(variant=variant))
    tests = data.tests("solar_cell")
    numbers = len(data.normals("solar_cell")), sum(not s.anomalous for s in tests), sum(s.anomalous for s in tests)
    assert numbers == ELPV.counts[variant]["solar_cell"]
    assert {Image.open(sample.image).size for sample in tests[:20]} == {(300, 300)}
