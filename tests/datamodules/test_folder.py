"""A user's own data in its two layouts."""

import json

import pytest

from datamodules.components.fit_data import FitData
from datamodules.components.reading import SampleImages
from datamodules.components.sample import DataError
from datamodules.folder import Folder


def build(root, categories, layout="auto", **settings):
    config = Folder.Config(layout=layout)
    return Folder(root, categories, image_size=16, config=config, **settings)


def test_categories_are_found(twin):
    assert Folder.find_categories(twin("folder")) == ("blue part", "red_part")
    assert Folder.find_categories(twin("single")) == ("single",)
    assert Folder.find_categories(twin("meta")) == ("part", "scan")


def test_single_category_is_named_by_its_folder_however_it_is_reached(twin, monkeypatch):
    monkeypatch.chdir(twin("single"))
    assert Folder.find_categories(type(twin("single"))(".")) == ("single",)


def test_meta_json_wins_unless_told(twin):
    root = twin("meta")
    assert Folder.find_categories(root, Folder.Config(layout="mvtec")) == ("part",)
    assert len(build(root, ["part"], "mvtec").tests("part")) == len(build(root, ["part"]).tests("part")) == 7


def test_both_readings_of_the_same_files_agree(twin):
    root = twin("meta")
    by_meta, by_folder = build(root, ["part"], "meta"), build(root, ["part"], "mvtec")
    assert sorted(by_meta.tests("part")) == sorted(by_folder.tests("part"))
    assert sorted(by_meta.normals("part")) == sorted(by_folder.normals("part"))
    assert by_meta.fingerprint("part") == by_folder.fingerprint("part")


def test_masks_are_known_per_category(twin):
    data = build(twin("folder"), ["blue part", "red_part"])
    assert (data.masks_known("blue part"), data.masks_known("red_part")) == (True, False)
    assert {category for batch in data.fit_loader(FitData("labelled")) for category in batch.category} == {"blue part"}
    unmarked = [sample for sample in data.test_samples if sample.category == "red_part"]
    assert sum(sample.anomalous for sample in unmarked) == 4
    assert not any(sample.mask for sample in unmarked)
    assert not any(item.mask.any() for item in SampleImages(unmarked, data.root, 16))


def test_one_missing_mask_is_an_error(twin):
    root = twin("folder")
    (root / "blue part/ground_truth/b/001_mask.png").unlink()
    with pytest.raises(DataError, match=r"anomalous image without mask: .*blue part/test/b/001\.png"):
        build(root, ["blue part"]).verify()


def test_other_names_of_normal_are_defects(twin):
    root = twin("folder")
    (root / "blue part/test/ok").rename(root / "blue part/test/nominal")
    with pytest.raises(DataError, match=r"anomalous image without mask: .*test/nominal/000\.png"):
        build(root, ["blue part"]).verify()
    (root / "red_part/train/good").rename(root / "red_part/train/nominal")
    with pytest.raises(DataError, match="'red_part' has 0 normal training images, fewer than the 1 shots"):
        build(root, ["red_part"], shots=1).verify()


def test_no_categories(tmp_path, twin):
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no category below .*flat: expected .* holds a\.png"):
        build(tmp_path / "flat", ["x"])
    with pytest.raises(DataError, match="does not exist"):
        build(tmp_path / "gone", ["x"])
    twin("folder")
    with pytest.raises(DataError, match=r"no category below .* One level deeper, .*/folder holds categories"):
        build(tmp_path, ["x"])


def test_test_only_category_serves_zero_shot(twin):
    root = twin("meta")
    data = build(root, ["scan"])
    data.verify()
    assert data.normals("scan") == []
    assert [len(data.tests("scan")), data.masks_known("scan")] == [4, False]
    with pytest.raises(DataError, match="'scan' has 0 normal training images, fewer than the 1 shots"):
        build(root, ["scan"], shots=1).verify()


def change(root, edit):
    meta = json.loads((root / "meta.json").read_text())
    edit(meta)
    (root / "meta.json").write_text(json.dumps(meta))


def first_bad(meta):
    return next(record for record in meta["test"]["part"] if record["anomaly"])


META_FAULTS = {
    "missing image": (
        lambda m: first_bad(m).update(img_path="part/9.png"),
        r"points to .*/part/9\.png, which is no file",
    ),
    "missing mask": (
        lambda m: first_bad(m).update(mask_path="part/9.png"),
        r"points to .*/part/9\.png, which is no file",
    ),
    "no mask": (lambda m: first_bad(m).update(mask_path=""), "anomalous image without mask"),
    "outside": (
        lambda m: first_bad(m).update(img_path="../part/9.png"),
        "must be relative to the root and stay below it",
    ),
    "absolute": (
        lambda m: first_bad(m).update(img_path="/part/9.png"),
        "must be relative to the root and stay below it",
    ),
    "label": (lambda m: first_bad(m).update(anomaly=2), r"test, part, entry \d+: needs .* anomaly \(0 or 1\), got"),
    "key": (
        lambda m: first_bad(m).pop("specie_name"),
        r"test, part, entry \d+: needs img_path, mask_path, specie_name",
    ),
    "record": (lambda m: m["test"]["part"].append("a.png"), r"entry 7: needs .* got 'a\.png'"),
    "leak": (lambda m: m["test"]["part"].append(m["train"]["part"][0]), r"train/good/000\.png is listed twice"),
    "twice": (lambda m: m["test"]["part"].append(m["test"]["part"][0]), "is listed twice"),
    "no tests": (lambda m: m["test"].pop("part"), "no test images of 'part'"),
    "split": (lambda m: m.pop("train"), "one of the two is missing"),
}


@pytest.mark.parametrize("fault", META_FAULTS)
def test_meta_faults(twin, fault):
    root = twin("meta")
    build(root, ["part"]).verify()
    edit, message = META_FAULTS[fault]
    change(root, edit)
    with pytest.raises(DataError, match=message):
        build(root, ["part"]).verify()


def test_meta_is_no_json_or_missing(twin):
    root = twin("meta")
    (root / "meta.json").write_text("{")
    with pytest.raises(DataError, match=r"meta\.json is not JSON"):
        build(root, ["part"])
    (root / "meta.json").unlink()
    with pytest.raises(DataError, match=r"no meta\.json: looked for .* holds categories in MVTec layout: part"):
        build(root, ["part"], "meta")


def test_anomalous_training_records_are_not_normal(twin):
    root = twin("meta")
    change(root, lambda meta: meta["train"]["part"].append(meta["test"]["part"].pop(0)))
    data = build(root, ["part"])
    assert len(data.normals("part")) == 5
    assert len(data.tests("part")) == 6


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("meta", {"normal": ["x"], "masks": "y"}, "normal, masks would not be used: .* is read by meta.json"),
        ("meta", {"split": 0.3}, "split would not be used"),
        ("table", {"abnormal": ["x"]}, r"abnormal would not be used: .* is read by parts\.csv"),
        ("single", {"normal_test": ["x"], "split": 0.3}, "normal_test, split would .* by folders in train and test"),
        ("flat", {"normal_test": ["OK"], "split": 0.3}, "split would .* by folders without train and test"),
        ("flat", {"layout": "flat", "table": "x.csv"}, "table would not be used"),
        ("table", {"split": 0.3}, ""),
        ("meta", {"layout": "mvtec", "normal": ["good"]}, ""),
    ],
)
def test_a_setting_that_nothing_reads_is_refused(twin, name, settings, message):
    root, config = twin(name), Folder.Config(**settings)
    if not message:
        assert Folder.find_categories(root, config)
        return
    with pytest.raises(DataError, match=message):
        Folder.find_categories(root, config)
