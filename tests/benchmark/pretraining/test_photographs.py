"""The photographs of the distillation: which files count, in which order, and which are refused."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from benchmark.pretraining import photographs
from benchmark.pretraining.photographs import SOURCES, decode, find, list_hash, missing, read, smooth
from benchmark.pretraining.views import PER_SHARD, shard_of_views
from benchmark.request.registry import ConfigError

MATE, NEXUIZ = "usr/share/backgrounds/mate/nature", "usr/share/games/nexuiz/data"


@pytest.fixture(autouse=True)
def _no_python_packages(monkeypatch):
    monkeypatch.setattr(photographs, "SOURCES", tuple(s for s in SOURCES if s.installer == "apt-get"))


def noisy(seed, height=240, width=300):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def packed(image, kind="png"):
    data = io.BytesIO()
    Image.fromarray(image).save(data, kind)
    return data.getvalue()


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    for folder in (MATE, NEXUIZ):
        (root / folder).mkdir(parents=True)
    files = {"b.png": noisy(0), "a.jpg": noisy(1), "small.png": noisy(2, 200, 300), "drawn.png": noisy(3) // 200 * 0}
    for name, image in files.items():
        (root / MATE / name).write_bytes(packed(image, "jpeg" if name.endswith("jpg") else "png"))
    (root / MATE / "broken.png").write_bytes(b"no image")
    with zipfile.ZipFile(root / NEXUIZ / "textures.pk3", "w") as archive:
        for name, image in (("t/wall.tga", noisy(4)), ("t/wall_norm.tga", noisy(5)), ("t/copy.tga", noisy(4))):
            archive.writestr(name, packed(image, "tga"))
    return root


def test_photographs_are_listed_once_in_one_order(root, tmp_path):
    found = find(root, tmp_path / "index.json")
    names = [(each.package, each.path.rpartition("/")[2]) for each in found]
    assert names == [("mate-backgrounds", "a.jpg"), ("mate-backgrounds", "b.png"), ("nexuiz-textures", "copy.tga")]
    assert [(each.height, each.width) for each in found] == [(240, 300)] * 3
    assert np.array_equal(read(root, found[1]), noisy(0))
    assert np.array_equal(read(root, found[2]), noisy(4))
    assert len({list_hash(found), list_hash(found[::-1]), list_hash(found[:2])}) == 3


def test_the_index_is_read_until_a_file_changes(root, tmp_path, monkeypatch):
    index = tmp_path / "index.json"
    found = find(root, index)
    monkeypatch.setattr(photographs, "decode", lambda data: pytest.fail("decoded again"))
    assert find(root, index) == found
    monkeypatch.undo()
    (root / MATE / "c.png").write_bytes(packed(noisy(9)))
    assert "c.png" in [each.path.rpartition("/")[2] for each in find(root, index)]


def test_what_changed_since_it_was_listed_is_refused(root, tmp_path):
    found = find(root, tmp_path / "index.json")
    (root / MATE / "a.jpg").write_bytes(packed(noisy(7), "jpeg"))
    with pytest.raises(ConfigError, match=r"a\.jpg of mate-backgrounds is no longer"):
        read(root, found[0])


@pytest.mark.parametrize("folder", ["elpv_dataset", "mvtec_ad", "HeadCT", "visa"])
def test_what_the_suite_tests_on_is_refused(root, tmp_path, folder):
    root.rename(tmp_path / folder)
    with pytest.raises(ConfigError, match=f"lies in {folder.lower()}, which the suite tests on"):
        find(tmp_path / folder, tmp_path / "index.json")


def test_a_link_to_a_tested_set_is_seen_through(root, tmp_path):
    root.rename(tmp_path / "btad")
    root.symlink_to(tmp_path / "btad")
    with pytest.raises(ConfigError, match="lies in btad"):
        find(root, tmp_path / "index.json")


def test_nothing_installed_names_the_commands(tmp_path):
    with pytest.raises(ConfigError, match=r"No photographs below .*apt-get install mate-backgrounds lomiri"):
        find(tmp_path, tmp_path / "index.json")


def test_missing_names_what_is_not_there(root):
    (command,) = missing(root)
    assert command.startswith("apt-get install lomiri")
    assert not {"mate-backgrounds", "nexuiz-textures"} & set(command.split())


def test_every_source_is_free():
    for source in SOURCES:
        assert source.licence
        assert "NC" not in source.licence
        assert source.installer in ("apt-get", "pip")


def test_smoothness_against_a_loop():
    image = np.random.default_rng(0).integers(100, 105, (9, 11, 3)).astype(np.uint8)
    padded = np.pad(image.astype(int), ((1, 1), (1, 1), (0, 0)), "edge")
    count = 0
    for row in range(9):
        for column in range(11):
            part = padded[row : row + 3, column : column + 3].reshape(9, 3)
            count += int((part.max(axis=0) - part.min(axis=0)).max() <= 3)
    assert 0 < count < 99
    assert smooth(image) == pytest.approx(count / 99)


def test_a_transparent_part_lies_on_grey():
    image = np.zeros((4, 4, 4), np.uint8)
    image[0] = [10, 20, 30, 255]
    pixels = decode(packed(image))
    assert pixels[0, 0].tolist() == [10, 20, 30]
    assert pixels[3, 3].tolist() == [128, 128, 128]
    assert decode(b"nothing") is None


def test_views_are_a_function_of_their_number(root, tmp_path):
    found = find(root, tmp_path / "index.json")
    first, again, other, reseeded = (
        shard_of_views(root, found, number, 64, seed) for number, seed in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    assert first.shape == (PER_SHARD, 64, 64, 3)
    assert np.array_equal(first, again)
    for another in (other, reseeded):
        assert (first != another).any(axis=(1, 2, 3)).mean() > 0.9
    grey = (first == first[..., :1]).all(axis=(1, 2, 3)).mean()
    assert 0.1 < grey < 0.6
    assert first.reshape(PER_SHARD, -1).std(axis=1).min() > 1
