"""Each fault is put into a twin for real, and `verify` must name it before anything runs."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from datamodules.components.checks import check_name
from datamodules.components.sample import DataError
from datamodules.folder import Folder
from datamodules.mvtec_ad import MVTecAD


def noise(path, kind=np.uint8, shape=(20, 24, 3), high=256):
    Image.fromarray(np.random.default_rng(0).integers(0, high, shape).astype(kind)).save(path)


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


FAULTS = {
    "category": (lambda c: shutil.rmtree(c), r"no folder of category 'bottle': looked for .*/bottle\. .*metal_nut"),
    "no normals": (
        lambda c: shutil.rmtree(c / "train/good"),
        r"no normal training images of 'bottle': .*/bottle/train/good",
    ),
    "no tests": (
        lambda c: shutil.rmtree(c / "test") or shutil.rmtree(c / "ground_truth"),
        "no test images of 'bottle'",
    ),
    "empty tests": (
        lambda c: [p.unlink() for part in ("test", "ground_truth") for p in (c / part).rglob("*.png")],
        "no test images of 'bottle'",
    ),
    "mask without image": (
        lambda c: (c / "test/contamination/001.png").unlink(),
        r"mask without image: .*contamination/001_mask\.png has no test image with the stem '001'",
    ),
    "masks of a defect without images": (
        lambda c: shutil.rmtree(c / "test/contamination"),
        r"mask without image: .*ground_truth/contamination/000_mask\.png",
    ),
    "masks of an unknown defect": (
        lambda c: (c / "ground_truth/contamination").rename(c / "ground_truth/typo"),
        r"anomalous image without mask: .*contamination/000\.png needs 000_mask\.png or 000\.png in .*contamination",
    ),
    "image without mask": (
        lambda c: (c / "ground_truth/broken_large/000_mask.png").unlink(),
        r"anomalous image without mask: .*broken_large/000\.png needs 000_mask\.png",
    ),
    "no masks": (lambda c: shutil.rmtree(c / "ground_truth"), "anomalous image without mask"),
    "mask size": (
        lambda c: noise(c / "ground_truth/contamination/001_mask.png", shape=(24, 20)),
        r"mask .*contamination/001_mask\.png is 20x24 pixels, but its image 001\.png is 24x20",
    ),
    "mask of swapped sides": (
        lambda c: noise(c / "ground_truth/contamination/000_mask.png", shape=(24, 20), high=2),
        "000_mask.png is 20x24 pixels, but its image 000.png is 24x20 .width x height.",
    ),
    "empty mask": (
        lambda c: noise(c / "ground_truth/contamination/001_mask.png", shape=(20, 24), high=1),
        r"the mask .*contamination/001_mask\.png marks no pixel, but its image 001\.png is anomalous",
    ),
    "truncated png": (lambda c: cut(c / "train/good/003.png", 400), r"train/good/003\.png is truncated: .*IEND"),
    "png without its end": (lambda c: cut(c / "test/good/001.png", -12), r"test/good/001\.png is truncated: .*IEND"),
    "truncated mask": (lambda c: cut(c / "ground_truth/contamination/000_mask.png", 60), r"000_mask\.png is truncated"),
    "truncated jpeg": (
        lambda c: (noise(c / "train/good/900.jpg"), cut(c / "train/good/900.jpg", 700)),
        r"train/good/900\.jpg cannot be read as an image: .*truncated",
    ),
    "empty file": (
        lambda c: cut(c / "test/contamination/000.png", 0),
        r"contamination/000\.png cannot be read as an image",
    ),
    "no image": (
        lambda c: (c / "train/good/000.png").write_text("<html>"),
        r"good/000\.png cannot be read as an image",
    ),
    "float beyond one": (
        lambda c: noise(c / "test/good/009.tif", np.float32, (20, 24)),
        r"good/009\.tif holds values from .*: F must lie in \[0, 1\]",
    ),
    "two images of a stem": (
        lambda c: noise(c / "test/contamination/000.jpg"),
        r"contamination/000\.jpg and 000\.png share a stem, so their masks cannot be told apart",
    ),
    "two masks of a stem": (
        lambda c: noise(c / "ground_truth/contamination/000.png"),
        r"two masks for one image: .*000\.png and 000_mask\.png both belong to .*test/contamination/000\.png",
    ),
}


def build(root, **settings):
    return MVTecAD(root, ["bottle"], image_size=8, **settings)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(twin, fault):
    root = twin("mvtec_ad")
    build(root).verify()
    damage, message = FAULTS[fault]
    damage(root / "bottle")
    with pytest.raises(DataError, match=message):
        build(root).verify()


def test_faults_of_categories_not_chosen_do_not_count(twin):
    root = twin("mvtec_ad")
    shutil.rmtree(root / "metal_nut")
    build(root).verify()


def test_root_missing(tmp_path):
    with pytest.raises(
        DataError, match=r"data root .*/gone does not exist or is no folder. Expected <root>/<category>.*mvtec\.com"
    ):
        build(tmp_path / "gone").verify()
    with pytest.raises(DataError, match="MVTecAD needs a root: <root>/<category>"):
        build(None)


def test_root_empty(tmp_path):
    with pytest.raises(DataError, match=r"the data root .* is empty\. Expected <root>/<category>"):
        build(tmp_path).verify()


def test_root_one_level_too_high(twin):
    root = twin("mvtec_ad")
    with pytest.raises(
        DataError, match=r"One level deeper, .*/mvtec_ad holds categories in MVTec layout: bottle, metal_nut"
    ):
        build(root.parent).verify()


def test_root_one_level_too_deep(twin):
    root = twin("mvtec_ad")
    with pytest.raises(DataError, match=rf"a single category in MVTec layout: its parent {root} may be the root"):
        build(root / "bottle").verify()


def test_root_of_another_layout(twin):
    root = twin("visa")
    with pytest.raises(DataError, match="holds the raw layout of VisA"):
        build(root).verify()
    with pytest.raises(DataError, match=r"One level deeper, .*/visa holds the raw layout of VisA"):
        build(root.parent).verify()


def test_too_few_normals_says_how_many(twin):
    with pytest.raises(DataError, match="'bottle' has 5 normal training images, fewer than the 6 shots"):
        build(twin("mvtec_ad"), shots=6).verify()


@pytest.mark.parametrize("unpaired", ["nothing", "hidden files", "notes", "good masks"])
def test_harmless_files_are_left_alone(twin, unpaired):
    category = twin("mvtec_ad") / "bottle"
    if unpaired == "hidden files":
        (category / "train/good/._000.png").write_bytes(b"apple")
        (category / ".cache").mkdir()
    elif unpaired == "notes":
        (category / "test/good/readme.txt").write_text("notes")
    elif unpaired == "good masks":
        (category / "ground_truth/good").mkdir()
        noise(category / "ground_truth/good/000_mask.png")
    build(category.parent).verify()
    assert len(build(category.parent).tests("bottle")) == 7


def test_masks_pair_by_stem_whatever_the_order(twin):
    """Numbers of two widths: by position, or by sorted number, 10 and 9 would swap."""
    root = twin("mvtec_ad")
    images, masks = root / "bottle/test/contamination", root / "bottle/ground_truth/contamination"
    for old, new in (("000", "9"), ("001", "10")):
        (images / f"{old}.png").rename(images / f"{new}.png")
        (masks / f"{old}_mask.png").rename(masks / (f"{new}_mask.png" if new == "9" else f"{new}.png"))
    pairs = {s.image.name: s.mask.name for s in build(root).tests("bottle") if s.defect_type == "contamination"}
    assert pairs == {"9.png": "9_mask.png", "10.png": "10.png"}


def test_damage_that_verify_cannot_see_is_named_by_the_loader(twin):
    root = twin("mvtec_ad")
    path = root / "bottle/test/good/001.png"
    data = bytearray(path.read_bytes())
    start = data.index(b"IDAT") + 12
    data[start : start + 200] = bytes(200)
    path.write_bytes(data)
    build(root).verify()
    with pytest.raises(DataError, match=r"test/good/001\.png cannot be read as an image"):
        list(build(root).test_dataloader())
    with pytest.raises(DataError, match=r"test/good/001\.png cannot be read as an image"):
        list(build(root, num_workers=1).test_dataloader())


def test_masks_that_look_black_mark_something(twin):
    """Class ids of 1 and 2, a dark blue, and one single pixel."""
    root = twin("mvtec_ad")
    masks = sorted((root / "bottle/ground_truth").rglob("*.png"))
    for path, value in zip(masks, (1, 2, (0, 0, 1), None), strict=True):
        pixels = np.zeros((20, 24, 3) if isinstance(value, tuple) else (20, 24), np.uint8)
        pixels[(slice(0, 9), slice(0, 9)) if value else (19, 23)] = value or 1
        Image.fromarray(pixels).save(path)
    build(root).verify()


def test_a_mask_that_was_emptied_after_a_first_look_is_seen(twin):
    root = twin("mvtec_ad")
    build(root).verify()
    mask = root / "bottle/ground_truth/contamination/001_mask.png"
    os.utime(mask, (1, 1))
    build(root).verify()
    noise(mask, shape=(20, 24), high=1)
    with pytest.raises(DataError, match="marks no pixel"):
        build(root).verify()


NAMES = ("../out", "a/b", "a\\b", "..", ".", "", " a", "a\n", "a\x00b", "a\x1b[2J", "\u202eb", "a" * 101)


@pytest.mark.parametrize("name", NAMES)
def test_names_that_leave_the_results_are_refused(tmp_path, name):
    """In a meta.json, a table and a folder alike, before a category is chosen."""
    with pytest.raises(DataError, match=r"cannot name a category: .* Rename it"):
        check_name(name, "category", tmp_path)
    entry = {"img_path": "a.png", "mask_path": "", "specie_name": "x", "anomaly": 1}
    meta = tmp_path / "meta.json"
    meta.write_text(json.dumps({"train": {}, "test": {name: [entry]}}))
    with pytest.raises(DataError, match="cannot name a category"):
        Folder.find_categories(tmp_path)
    meta.unlink()
    if name.strip() == name and "\n" not in name and "\x00" not in name:  # what a table strips or cannot hold
        (tmp_path / "t.csv").write_text(f"path,label,category\na.png,1,{name}\n", encoding="utf-8")
        with pytest.raises(DataError, match="cannot name a category"):
            Folder.find_categories(tmp_path)
        (tmp_path / "t.csv").unlink()
    if not {*name} & {"/", "\x00"} and name not in ("", ".", ".."):
        (tmp_path / name / "test").mkdir(parents=True)
        with pytest.raises(DataError, match="cannot name a category"):
            Folder.find_categories(tmp_path)


@pytest.mark.parametrize("name", ["blue part", "größe", "部品", "a.b", "..a", "a" * 100, "01", "x:y", "-a"])
def test_other_names_are_fine(tmp_path, name):
    check_name(name, "category", tmp_path)
