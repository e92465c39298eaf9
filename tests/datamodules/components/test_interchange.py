"""What is written for other code holds the same images, labels and masks, by content, as what it was made of."""

import hashlib
import json
import shutil

import pytest

from datamodules.components.interchange import export_folder, write_meta
from datamodules.components.sample import DataError
from datamodules.folder import Folder


def digest(path):
    return path and hashlib.sha256(path.read_bytes()).hexdigest()


def content(data):
    """Category, split, label and the bytes of every image and mask: what a fingerprint holds but names."""
    lists = {
        (c, split): samples(c)
        for c in data.chosen
        for split, samples in (("train", data.normals), ("test", data.tests))
    }
    return sorted(
        (*key, s.anomalous, s.defect_type, digest(s.image), digest(s.mask) or "")
        for key, found in lists.items()
        for s in found
    )


@pytest.fixture
def data(case, root, tmp_path):
    """The twin of a case in a folder that may be written to."""
    if root is None:
        pytest.skip("the files of the installed package must not be changed")
    return case.build(shutil.copytree(root, tmp_path / "data" / root.name), shots=min(2, case.normals))


def drawn(data):
    return {category: [entry["sha256"] for entry in entries] for category, entries in data.manifest().items()}


def test_folders_of_links_read_back(data, tmp_path):
    target = export_folder(data, tmp_path / "out")
    back = Folder(target, data.chosen, image_size=16, shots=data.shots)
    back.verify()
    assert content(back) == content(data)
    assert drawn(back) == drawn(data)
    assert {category: back.masks_known(category) for category in back.chosen} == {
        category: data.masks_known(category) for category in data.chosen
    }
    assert all(path.is_symlink() or path.is_dir() for path in target.rglob("*"))
    assert back.describe_use().ignored == {}


def test_meta_reads_back(data):
    expected, shots = content(data), drawn(data)
    lists = {category: (data.normals(category), data.tests(category)) for category in data.chosen}
    data.normals, data.tests = (lambda category: lists[category][0]), (lambda category: lists[category][1])
    if (data.root / "meta.json").exists():
        with pytest.raises(DataError, match=r"meta\.json exists already"):
            write_meta(data, data.root)
        (data.root / "meta.json").unlink()
    file = write_meta(data, data.root)
    back = Folder(data.root, data.chosen, image_size=16, shots=data.shots)
    assert back.list_files == (data.root / "meta.json",) == (file,)
    assert content(back) == expected
    assert drawn(back) == shots


def test_masks_sort_like_their_images(twin, tmp_path):
    """anomalib pairs by position among the sorted names, for which 10_mask comes before 1_mask."""
    root = twin("mvtec_ad") / "bottle"
    for old, new in (("000", "1"), ("001", "10")):
        (root / f"test/contamination/{old}.png").rename(root / f"test/contamination/{new}.png")
        (root / f"ground_truth/contamination/{old}_mask.png").rename(
            root / f"ground_truth/contamination/{new}_mask.png"
        )
    target = export_folder(Folder(root, ["bottle"], image_size=16), tmp_path / "out") / "bottle"
    images = sorted(str(p.relative_to(target / "test")) for p in (target / "test").glob("[bc]*/*.png"))
    masks = sorted(str(p.relative_to(target / "ground_truth")) for p in (target / "ground_truth").glob("*/*.png"))
    assert images == masks
    assert len(masks) == 4


def test_what_cannot_be_exported(twin, tmp_path):
    root = twin("meta")
    data = Folder(root, ["part"], image_size=16)
    with pytest.raises(DataError, match="must be a new or an empty folder"):
        export_folder(data, root)
    (root / "meta.json").rename(root / "old.json")
    meta = json.loads((root / "old.json").read_text())
    for kind, message in (("../..", "cannot name a kind of anomaly"), ("OK", "a name of normal ones")):
        meta["test"]["part"][0].update(specie_name=kind, anomaly=1, mask_path=meta["test"]["part"][1]["mask_path"])
        (root / "meta.json").write_text(json.dumps(meta))
        with pytest.raises(DataError, match=message):
            export_folder(data, tmp_path / kind.strip("./") / "out")
    (root / "meta.json").unlink()
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(DataError, match="does not lie below"):
        write_meta(data, tmp_path / "elsewhere")
    shutil.copy(root / "part/train/good/000.png", root / "part/test/a/000.jpg")
    shutil.rmtree(root / "part/ground_truth")
    shutil.copy(root / "part/test/a/000.png", root / "part/test/a/000.bmp")
    export_folder(data, tmp_path / "formats")  # without masks, equal stems are two images
    assert len(Folder(tmp_path / "formats", ["part"], image_size=16).tests("part")) == 9
