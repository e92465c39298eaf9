"""Published lists of shots on twins: what a number means, and what is refused."""

import hashlib
import json
import shutil

import pytest

from datamodules.components.published_shots import LIST_FILE, LIST_RULE, NAMES_RULE, read_list, read_names
from datamodules.components.sample import DataError
from datamodules.components.shots import SHOT_RULE
from datamodules.folder import Folder
from datamodules.mvtec_ad import MVTecAD
from datamodules.visa import VisA

GOOD = "bottle/train/good"
NORMAL = "candle/Data/Images/Normal"  # 0000, 0007, 0014, 0021, 0028 are for training; 0035 and two more are tests


@pytest.fixture
def write(tmp_path):
    """Writes the list of one category and returns the folder of lists."""

    def call(category, text):
        file = tmp_path / "lists" / category / LIST_FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return tmp_path / "lists"

    return call


def build(kind, root, categories, shots, shot_list, numbers="agreed", seed=0):
    config = kind.Config(shot_list=None if shot_list is None else str(shot_list), shot_numbers=numbers)
    return kind(root, categories, image_size=16, shots=shots, seed=seed, config=config)


def names(data):
    return [entry["path"] for entry in data.manifest()[data.chosen[0]]]


@pytest.mark.parametrize("numbers", ["agreed", "name", "position"])
def test_mvtec_numbers_are_its_names_in_the_order_of_the_list(twin, write, numbers):
    root, lists = twin("mvtec_ad"), write("bottle", "#1: 004\n#2: 003 000\n#4: 002 001 004 000\n")
    for shots, expected in ((1, [4]), (2, [3, 0]), (4, [2, 1, 4, 0])):
        data = build(MVTecAD, root, ["bottle"], shots, lists, numbers)
        data.verify()
        assert names(data) == [f"{GOOD}/{number:03}.png" for number in expected]
        assert data.shot_rule == LIST_RULE != SHOT_RULE


def test_shots_and_training_batches_are_those_of_the_list(twin, write):
    data = build(MVTecAD, twin("mvtec_ad"), ["bottle"], 2, write("bottle", "#2: 3 0"))
    first = data.manifest()["bottle"][0]
    assert first["sha256"] == hashlib.sha256((data.root / GOOD / "003.png").read_bytes()).hexdigest()
    (batch,) = data.train_dataloader()
    assert sorted(batch.path) == [f"{GOOD}/000.png", f"{GOOD}/003.png"]
    rows = [batch.path.index(f"{GOOD}/{name}.png") for name in ("003", "000")]
    assert data.shot_images("bottle").equal(batch.image[rows])


def test_every_seed_takes_the_same(twin, write):
    root, lists = twin("mvtec_ad"), write("bottle", "#2: 003 000\n")
    assert len({tuple(names(build(MVTecAD, root, ["bottle"], 2, lists, seed=seed))) for seed in range(5)}) == 1


@pytest.mark.parametrize("shots", [0, 2])
def test_without_a_list_or_without_shots_names_decide(twin, shots):
    root = twin("mvtec_ad")
    plain = MVTecAD(root, ["bottle"], image_size=16, shots=shots)
    for shot_list in (None, root / "nowhere")[: 1 if shots else 2]:
        data = build(MVTecAD, root, ["bottle"], shots, shot_list, numbers="position")
        assert data.manifest() == plain.manifest()
        assert data.shot_rule == plain.shot_rule == SHOT_RULE
        assert data.fingerprint("bottle") == plain.fingerprint("bottle")


@pytest.mark.parametrize(("numbers", "expected"), [("name", ["0014", "0007"]), ("position", ["0000", "0021"])])
def test_visa_numbers_need_a_decision(twin, write, numbers, expected):
    root = twin("visa")
    lists = write("candle", "#2: 0014 0007\n" if numbers == "name" else "#2: 0000 0003\n")
    assert names(build(VisA, root, ["candle"], 2, lists, numbers)) == [f"{NORMAL}/{name}.JPG" for name in expected]


@pytest.mark.parametrize(
    ("number", "as_name", "as_position"),
    [("0003", "none", rf"\['{NORMAL}/0021.JPG'\]"), ("0014", rf"\['{NORMAL}/0014.JPG'\]", "none")],
)
def test_visa_numbers_are_ambiguous(twin, write, number, as_name, as_position):
    data = build(VisA, twin("visa"), ["candle"], 1, write("candle", f"#1: {number}\n"))
    message = (
        rf"lists {int(number)}, which is no certain image of 5: read as a name it is {as_name}, as a position in the "
        rf"sorted listing {as_position}, and the released code does not sort. Allowed: shot_numbers=name or "
        r"shot_numbers=position.* shot_list=null"
    )
    with pytest.raises(DataError, match=message):
        data.verify()


def test_a_gap_in_mvtec_makes_what_follows_ambiguous(twin, write):
    root = twin("mvtec_ad")
    (root / GOOD / "001.png").unlink()
    build(MVTecAD, root, ["bottle"], 1, write("bottle", "#1: 000\n")).verify()
    with pytest.raises(DataError, match=r"lists 2, .*name it is \['bottle/train/good/002.png'\], .*/003.png'\]"):
        build(MVTecAD, root, ["bottle"], 1, write("bottle", "#1: 002\n")).verify()


def test_two_files_of_one_number_are_no_name(twin, write):
    root = twin("mvtec_ad")
    shutil.copy(root / GOOD / "004.png", root / GOOD / "0004.png")
    with pytest.raises(DataError, match=r"lists 4, .*0004\.png', .*/004\.png'\]"):
        build(MVTecAD, root, ["bottle"], 1, write("bottle", "#1: 4\n"), "name").verify()


@pytest.mark.parametrize("numbers", ["agreed", "name", "position"])
def test_a_number_out_of_range(twin, write, numbers):
    with pytest.raises(DataError, match=r"lists 5, which is no certain image of 5: read as a name it is none, .* none"):
        build(MVTecAD, twin("mvtec_ad"), ["bottle"], 1, write("bottle", "#1: 005\n"), numbers).verify()


def test_a_list_is_asked_for_each_category(twin, write):
    root, lists = twin("mvtec_ad"), write("bottle", "#1: 000\n")
    with pytest.raises(
        DataError, match=r"no list of shots: looked for .*lists/metal_nut/selected.*<category>/selected"
    ):
        build(MVTecAD, root, ["bottle", "metal_nut"], 1, lists).verify()
    with pytest.raises(DataError, match=r"no list of shots: looked for .*nowhere/bottle/selected"):
        build(MVTecAD, root, ["bottle"], 1, root / "nowhere").verify()


def test_a_number_of_shots_without_a_line(twin, write):
    data = build(MVTecAD, twin("mvtec_ad"), ["bottle"], 3, write("bottle", "#1: 000\n#2: 001 002\n"))
    with pytest.raises(DataError, match=r"lists shots for these k: 1, 2; got k = 3\. shot_list=null samples shots"):
        data.verify()


@pytest.mark.parametrize(
    ("text", "line"),
    [("#1: 000 001\n", 1), ("#1: 000\n#2: 001\n", 2), ("#2: 001 001\n", 1), ("#1: 000\n\n#1: 001\n", 3),
     ("#1: 000.png\n", 1), ("0-1: 000\n", 1), ("#1:\n", 1), ("#1: -1\n", 1), ("#0: \n", 1)],
)  # fmt: skip
def test_lines_of_another_form(write, text, line):
    file = write("bottle", text) / "bottle" / LIST_FILE
    with pytest.raises(DataError, match=rf'line {line}: must be "#k: " and k different numbers, once for each k, got'):
        read_list(file)


def test_a_last_line_without_its_end_loses_no_digit(write):
    """As the released parser would, which cuts the last character of a line (datasets/mvtec.py:64)."""
    assert read_list(write("bottle", "#1: 131\r\n#2: 101 048") / "bottle" / LIST_FILE) == {1: (131,), 2: (101, 48)}


@pytest.fixture(params=["lines", "JSON"])
def name_list(request, tmp_path):
    """Writes a list of files in either form."""

    def call(lists):
        lines = "\n\n".join(f"{category}:  {name}" for category, names in lists.items() for name in names)
        file = tmp_path / "shots.any"
        file.write_text("\ufeff" + (lines if request.param == "lines" else json.dumps(lists)))
        return file

    return call


def test_a_list_of_files_is_taken_in_its_order(twin, name_list):
    files = [f"{GOOD}/{stem}.png" for stem in ("003", "000", "004")]
    lists = name_list({"bottle": files, "other": ["x"]})
    root = twin("mvtec_ad")
    for shots in (1, 2, 3):
        data = build(MVTecAD, root, ["bottle"], shots, lists, seed=shots)
        data.verify()
        assert names(data) == files[:shots]
        assert data.shot_rule == NAMES_RULE not in (LIST_RULE, SHOT_RULE)
    assert build(MVTecAD, root, ["bottle"], 0, lists).shot_rule == SHOT_RULE


@pytest.mark.parametrize(
    ("files", "message"),
    [([f"{GOOD}/003.png"], "lists 1 shots of 'bottle', fewer than 2"), ([], "lists 0 shots of 'bottle'"),
     ([f"{GOOD}/003.png", "bottle/test/good/000.png"], "'bottle/test/good/000.png', which is no normal training image"),
     (["003.png", "004.png"], r"relative to .*, such as bottle/train/good/000\.png"),
     ([f"{GOOD}/003.png"] * 2, "'bottle' must list different paths")],
)  # fmt: skip
def test_a_list_of_files_that_does_not_fit(twin, name_list, files, message):
    with pytest.raises(DataError, match=message):
        build(MVTecAD, twin("mvtec_ad"), ["bottle"], 2, name_list({"bottle": files})).verify()


@pytest.mark.parametrize(
    ("text", "message"),
    [("bottle\n", r'line 1: must be "category: path", got'), ("a: b\n: c\n", "line 2"), ("a:\n", "line 1"),
     ("[1]", r"must be \{category: \[path"), ('{"a": "b"}', r"must be \{category"), ('{"a": [1]}', "'a' must list")],
)  # fmt: skip
def test_files_that_are_no_list(tmp_path, text, message):
    (tmp_path / "shots").write_text(text)
    with pytest.raises(DataError, match=message):
        read_names(tmp_path / "shots")


def test_own_folders_take_a_list_of_files(twin, name_list):
    root = twin("single")
    config = Folder.Config(shot_list=str(name_list({"single": ["train/good/002.png"]})))
    data = Folder(root, ["single"], image_size=16, shots=1, config=config)
    data.verify()
    assert names(data) == ["train/good/002.png"]
