"""Tiles are cut once per content of the originals; damaged or half-made ones are cut again."""

import numpy as np
import pytest
import real_twins
from PIL import Image

from datamodules.aitex import AITEX
from datamodules.components.sample import DataError
from datamodules.ksdd import KSDD


@pytest.fixture
def opened(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))

    def build(kind, root):
        data = kind(root, kind.categories, image_size=16)
        data.prepare_data()
        return data

    return build


def test_a_third_is_anomalous_where_its_label_is_marked(opened, tmp_path):
    data = opened(KSDD, real_twins.write_ksdd(tmp_path / "ksdd"))
    anomalous = [sample for sample in data.tests("commutator") if sample.anomalous]
    assert [sample.image.name for sample in anomalous] == [f"kos{folder:02}-Part3-01.png" for folder in range(1, 5)]
    marks = np.array(Image.open(anomalous[0].mask))
    assert marks.shape == (20, 24)
    assert (np.argwhere(marks).min(0), np.argwhere(marks).max(0)) == (pytest.approx((8, 4)), pytest.approx((13, 9)))


def test_squares_of_two_masks_and_of_none(opened, tmp_path):
    data = opened(AITEX, real_twins.write_aitex(tmp_path / "aitex"))
    anomalous = sorted(s.image.name for s in data.tests("fabric") if s.anomalous)
    stems = ("0000_002_02-00", "0001_019_02-01", "0001_019_02-03", "0002_030_02-02")
    assert anomalous == [f"Defect_images-{stem}.png" for stem in stems]
    assert {s.defect_type for s in data.tests("fabric") if s.anomalous} == {"broken_end", "fuzzyball", "nep"}
    normal = [*data.normals("fabric"), *(s for s in data.tests("fabric") if not s.anomalous)]
    assert all(sample.image.name.startswith("NODefect") for sample in normal)


def test_what_was_altered_is_cut_again_and_other_originals_lie_elsewhere(opened, tmp_path):
    root = real_twins.write_ksdd(tmp_path / "ksdd")
    data = opened(KSDD, root)
    before, tile = data.fingerprint("commutator"), data.tests("commutator")[0].image
    tile.write_bytes(b"damaged")
    assert opened(KSDD, root).fingerprint("commutator") == before
    tile.unlink()
    assert opened(KSDD, root).fingerprint("commutator") == before
    (root / "kos01" / "Part0.jpg").write_bytes((root / "kos02" / "Part0.jpg").read_bytes())
    other = opened(KSDD, root)
    assert other.root != data.root
    assert other.fingerprint("commutator") != before


def test_originals_that_do_not_fit(opened, tmp_path):
    root = real_twins.write_ksdd(tmp_path / "ksdd")
    (root / "kos01" / "Part0_label.bmp").unlink()
    with pytest.raises(DataError, match=r"image without label: .*Part0.jpg needs Part0_label.bmp beside it"):
        opened(KSDD, root)
    strips = real_twins.write_aitex(tmp_path / "aitex")
    Image.new("L", (10, 10)).save(strips / "Mask_images" / "0000_002_02_mask.png")
    with pytest.raises(DataError, match=r"the mask .*0000_002_02_mask.png is \(10, 10\), but its image"):
        opened(AITEX, strips)
