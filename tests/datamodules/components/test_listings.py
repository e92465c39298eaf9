"""Tables as they come from spreadsheets and other people's code; meta.json is looked at in test_folder.py."""

import pytest
import twins

from datamodules.components.listings import ANOMALOUS_LABELS, NORMAL_LABELS
from datamodules.components.sample import DataError
from datamodules.folder import Folder


@pytest.fixture
def write(tmp_path):
    """Writes a table beside four images and a mask and returns the root."""

    def call(text, name="parts.csv"):
        for i in range(4):
            twins.save(twins.image(i, defect=i > 1), tmp_path / f"data/{i}.png")
        twins.save(twins.mask(), tmp_path / "data/m.png")
        (tmp_path / "data" / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / "data"

    return call


def build(root, category="data", **settings):
    return Folder(root, [category], image_size=16, config=Folder.Config(**settings))


def test_spreadsheets_as_they_are(twin):
    data = build(twin("table"), "table")
    data.verify()
    assert [len(data.normals("table")), len(data.tests("table"))] == [5, 7]
    assert {s.image.stem: s.mask and s.mask.stem for s in data.tests("table") if s.anomalous} == {
        f"{i}": f"{i}" for i in range(100, 104)
    }
    assert data.describe_use().ignored == {}


@pytest.mark.parametrize("label", [*NORMAL_LABELS, *ANOMALOUS_LABELS, " Good ", "ABNORMAL"])
def test_words_of_labels(write, label):
    (sample,) = build(write(f"path,label,split\n0.png,{label},test\n")).tests("data")
    assert sample.anomalous == (
        label.strip().casefold() in {"bad", "anomaly", "anomalous", "abnormal", "defect", "ng", "1", "true"}
    )


def test_categories_and_missing_splits(write):
    root = write("Category,LABEL,path\nb,0,0.png\nb,0,1.png\na,1,2.png\n\n")
    assert Folder.find_categories(root) == ("a", "b")
    assert [len(build(root, "b").normals("b")), len(build(root, "b").tests("b"))] == [1, 1]
    assert [len(build(root, "b", split=1).normals("b")), len(build(root, "a").tests("a"))] == [2, 1]


def test_anomalous_training_rows_are_left_out_and_named(write):
    data = build(write("path,label,split\n0.png,0,train\n2.png,1,train\n3.png,1,test\n"))
    assert len(data.normals("data")) == len(data.tests("data")) == 1
    assert data.describe_use().ignored == {"not in the list": ["1.png", "2.png", "m.png"]}


HEAD = "path,label,mask,split\n"
FAULTS = {
    "label": (f"{HEAD}0.png,faulty,,\n", r"line 2: label must be one of good, ok, .* got 'faulty'"),
    "no label": (f"{HEAD}0.png\n", r"line 2: label must be one of .* got ''"),
    "split": (f"{HEAD}0.png,0,,val\n", "line 2: split must be train, test or empty, got 'val'"),
    "absolute": (f"{HEAD}/0.png,0,,test\n", r"line 2 points to '/0\.png': paths must be relative"),
    "outside": (f"{HEAD}a/../../0.png,0,,test\n", "line 2 points to .* stay below it"),
    "mask outside": (f"{HEAD}2.png,1,../m.png,test\n", r"line 2 points to '\.\./m\.png'"),
    "missing": (f"{HEAD}9.png,0,,test\n", r"line 2 points to .*/9\.png, which is no file"),
    "empty path": (f"{HEAD},0,,test\n", r"line 2 points to ''"),
    "twice": (
        f"{HEAD}0.png,0,,train\n1.png,0,,test\n./0.png,0,,test\n",
        r"line 4: \./0\.png is listed twice, .*line 2",
    ),
    "no mask": (f"{HEAD}2.png,1,m.png,test\n3.png,1,,test\n", r"anomalous image without mask: .*3\.png"),
    "headers": (" id, hemorrhage\n0,1\n", r"lacks the columns \['path', 'label'\]: .* has \['id', 'hemorrhage'\]"),
    "semicolons": ("path;label\n0.png;0\n", r"separated by commas; has \['path;label'\]"),
    "no UTF-8": ("path,label,größe\n0.png,0,1\n".encode("latin-1"), "no comma-separated text in UTF-8"),
    "category": ("path,label,category\n0.png,1,../x\n", r"'\.\./x' in .* cannot name a category"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(write, fault):
    text, message = FAULTS[fault]
    with pytest.raises(DataError, match=message):
        build(write(text), layout="csv").verify()


def test_one_of_two_tables_must_be_named(write):
    root = write("path,label\n0.png,0\n")
    write("path,label\n2.png,1\n", "other.csv")
    with pytest.raises(DataError, match=r"must hold one table .* it holds \['other\.csv', 'parts\.csv'\]"):
        build(root)
    assert [s.anomalous for s in build(root, table="other.csv").tests("data")] == [True]
    with pytest.raises(DataError, match=r"no table: looked for .*gone\.csv"):
        build(root, table="gone.csv")


def test_other_tables_beside_folders_are_left_alone(twin):
    root = twin("flat")
    (root / "notes.csv").write_text("who,when\n")
    assert Folder.find_categories(root) == ("part",)
    assert build(root, "part").describe_use().ignored == {"not an image format": ["notes.csv"]}
