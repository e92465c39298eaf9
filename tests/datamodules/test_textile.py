"""The simulated textile of the real package."""

import sys
from importlib.metadata import version

import pytest
from PIL import Image

from datamodules.components.sample import DataError
from datamodules.textile import Textile


def build(root=None, **config):
    return Textile(root, ["textile"], image_size=32, config=Textile.Config(**config))


def test_package_is_the_pinned_one():
    assert Textile.source.endswith(f"=={version('conformal-clip-data')}")


def test_split():
    data = build()
    training = sorted(data.relative(s.image) for s in data.normals("textile"))
    assert training == [f"nominal/textile_{i:04}.jpg" for i in range(1, 501)]
    names = {
        kind: sorted(data.relative(s.image) for s in data.tests("textile") if s.defect_type == kind)
        for kind in ("good", "local", "global")
    }
    assert names["good"] == [f"nominal/textile_{i:04}.jpg" for i in range(501, 1001)]
    assert names["local"] == [f"local/textile_{i:04}.jpg" for i in range(1, 501)]
    assert names["global"] == [f"global/textile_{i:04}.jpg" for i in range(1, 501)]
    assert {s.anomalous == (s.defect_type != "good") for s in data.tests("textile")} == {True}


def test_fewer_test_images_are_the_first_of_each_kind_and_the_training_images_stay():
    few, whole = build(per_kind=3), build()
    assert sorted(few.relative(s.image) for s in few.tests("textile")) == [
        *(f"global/textile_000{i}.jpg" for i in (1, 2, 3)),
        *(f"local/textile_000{i}.jpg" for i in (1, 2, 3)),
        *(f"nominal/textile_050{i}.jpg" for i in (1, 2, 3)),
    ]
    assert few.normals("textile") == whole.normals("textile")
    assert few.fingerprint("textile") != whole.fingerprint("textile")


@pytest.mark.parametrize("count", [0, 501])
def test_a_number_of_test_images_out_of_range_is_refused(count):
    with pytest.raises(DataError, match=f"per_kind must be 1 to 500, got {count}"):
        build(per_kind=count).verify()


def test_limit_sees_both_defects():
    data = Textile(None, ["textile"], image_size=32, limit=8)
    folders = [data.relative(sample.image).split("/")[0] for sample in data.test_samples]
    assert sum(len(batch.indices) for batch in data.test_dataloader()) == 8
    assert sorted(folders) == ["global"] * 2 + ["local"] * 2 + ["nominal"] * 4


def test_package_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "conformal_clip_data", None)
    with pytest.raises(DataError, match=r"not installed: pip install conformal-clip-data==0\.1\.4"):
        build()


def test_incomplete_package(tmp_path):
    (tmp_path / "nominal").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "nominal" / "textile_0001.jpg")
    with pytest.raises(DataError, match=r"nominal must hold 1000 images, since the split counts them; it holds 1\."):
        build(tmp_path).verify()
