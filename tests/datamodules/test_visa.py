"""VisA's split file and its masks."""

import pytest
import torch
import twins

from datamodules.components.fit_data import FitData
from datamodules.components.sample import DataError
from datamodules.visa import VisA

CSV = "split_csv/1cls.csv"


def build(root, category="candle"):
    return VisA(root, [category], image_size=16)


def rewrite(root, old, new):
    file = root / CSV
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


@pytest.mark.slow
def test_split_is_the_csv_and_not_the_folder(twin):
    root = twin("visa")
    rewrite(
        root,
        "candle,train,normal,candle/Data/Images/Normal/0000.JPG",
        "candle,test,normal,candle/Data/Images/Normal/0000.JPG",
    )
    data = build(root)
    assert sorted(s.image.name for s in data.normals("candle")) == ["0007.JPG", "0014.JPG", "0021.JPG", "0028.JPG"]
    assert len(data.tests("candle")) == 8


@pytest.mark.slow
def test_small_class_ids_are_masks(twin):
    data = build(twin("visa"))
    masks = torch.cat([batch.mask[batch.label] for batch in data.fit_loader(FitData("labelled"))])
    assert len(masks) == 4
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[6:11, 3:7] = True  # rows 8..13 of 20 and columns 4..9 of 24, by the halves that they cover, on 16
    expected[6, 6] = False  # the defect reaches 0.58 into its row and 0.67 into its column, 0.39 in all
    assert all(torch.equal(mask, expected) for mask in masks)


def test_licence():
    assert VisA.licence == "CC BY 4.0"


def test_a_byte_order_mark_and_carriage_returns_are_read(twin):
    root = twin("visa")
    text = (root / CSV).read_text()
    (root / CSV).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    build(root).verify()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("object,split", "class,split", r"1cls\.csv lacks the columns \['object'\]: needs .* has \['class', 'split'"),
        ("Normal/0007.JPG", "Normal/7.JPG", r"line 3, points to .*/candle/Data/Images/Normal/7\.JPG, which is no file"),
        ("Masks/Anomaly/001.png", "Masks/Anomaly/01.png", r"points to .*/Masks/Anomaly/01\.png, which is no file"),
        (
            "candle,train,normal",
            "candle,train,good",
            r"line 2: split must be .*'normal', 'anomaly'.* got 'train' and 'good'",
        ),
        ("candle,test", "candle,valid", "got 'valid' and 'normal'"),
        (",candle/Data/Masks/Anomaly/002.png", ",", r"anomalous image without mask: .*Anomaly/002\.JPG"),
        (
            "Normal/0042.JPG,",
            "Normal/0042.JPG,candle/Data/Masks/Anomaly/000.png",
            r"0042\.JPG is normal but has the mask",
        ),
        ("Normal/0007.JPG", "Normal/0042.JPG", r"Normal/0042\.JPG is listed twice for 'candle'"),
        ("candle/Data/Images/Normal/0000.JPG,", "", r"line 2, points to .*which is no file"),
    ],
)
def test_faults(twin, old, new, message):
    root = twin("visa")
    rewrite(root, old, new)
    with pytest.raises(DataError, match=message):
        build(root).verify()


def test_no_rows(twin):
    root = twin("visa")
    with pytest.raises(DataError, match="has no row of the object 'fryum'"):
        build(root, "fryum").verify()
    (root / CSV).write_text((root / CSV).read_text().replace("pcb1,train", "pcb1,test"))
    with pytest.raises(DataError, match="no normal training images of 'pcb1'"):
        build(root, "pcb1").verify()


def test_csv_missing(twin):
    root = twin("visa")
    (root / CSV).unlink()
    with pytest.raises(DataError, match=r"split file of VisA is missing: looked for .*split_csv/1cls\.csv"):
        build(root).verify()


def test_prepared_copy_is_recognised(twin):
    root = twin("visa").parent / "VisA_pytorch"
    twins.write_mvtec_category(root / "1cls" / "candle")
    with pytest.raises(
        DataError, match=r"One level deeper, .*1cls holds categories in MVTec layout: candle.*data set `folder`"
    ):
        build(root).verify()
