"""Archives: whole or nothing, and nothing outside of the folder."""

import io
import tarfile
import zipfile

import pytest

from datamodules.components.sample import DataError
from datamodules.components.unpacking import unpack


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                archive.addfile(info)
    return path


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tree(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


FILES = {"a/train/good/0.png": b"0", "b/test/good/1.png": b"1", "licence.txt": b"free"}
KINDS = {
    "set.tar": lambda path, members: write_tar(path, members),
    "set.tar.xz": lambda path, members: write_tar(path, members, "w:xz"),
    "set.zip": write_zip,
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("inside", ["", "VisA_20220922/"])
def test_a_folder_around_everything_becomes_the_root(tmp_path, name, inside):
    archive = KINDS[name](tmp_path / name, {inside + key: content for key, content in FILES.items()})
    root = tmp_path / "root"
    root.mkdir()
    unpack(archive, root)
    assert tree(root) == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root", name]


HOSTILE = {
    "an absolute path": {"/etc/x": b"1"},
    "a way out": {"a/../../x": b"1"},
    "a way out of Windows": {"a\\..\\..\\x": b"1"},
    "a drive": {"C:/x": b"1"},
}
LINKS = {
    "a link": (tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link": (tarfile.LNKTYPE, "a"),
    "a device": (tarfile.CHRTYPE, ""),
    "a pipe": (tarfile.FIFOTYPE, ""),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("name", KINDS)
def test_names_that_lead_elsewhere(tmp_path, name, what):
    archive = KINDS[name](tmp_path / name, {"good.png": b"0", **HOSTILE[what]})
    with pytest.raises(DataError, match="leads out of its folder: it is not unpacked"):
        unpack(archive, tmp_path / "deep" / "root")
    assert not (tmp_path / "deep" / "root").exists()
    assert not list(tmp_path.rglob("x"))


@pytest.mark.parametrize("what", LINKS)
def test_what_is_no_file(tmp_path, what):
    archive = write_tar(tmp_path / "set.tar", {"a": b"0", "evil": LINKS[what]})
    with pytest.raises(DataError, match="'evil', which is no regular file: it is not unpacked"):
        unpack(archive, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_link_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        link = zipfile.ZipInfo("evil")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="holds the link 'evil'"):
        unpack(tmp_path / "set.zip", tmp_path / "root")


@pytest.mark.parametrize("name", ["set.tar.xz", "set.zip"])
def test_a_bomb(tmp_path, name):
    archive = KINDS[name](tmp_path / name, {"zeros": bytes(20_000_000)})
    with pytest.raises(DataError, match="would grow to more than 100 times its size"):
        unpack(archive, tmp_path / "root")
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize("name", KINDS)
def test_a_truncated_archive(tmp_path, name):
    noise = bytes((i * i * 31 + i) % 251 for i in range(50_000))
    archive = KINDS[name](tmp_path / name, {"a": noise, "b": noise[::-1]})
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 3])
    with pytest.raises(DataError, match="damaged or no archive"):
        unpack(archive, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_flipped_bit_in_a_zip(tmp_path):
    archive = write_zip(tmp_path / "set.zip", {"a": bytes(range(256)) * 50})
    content = bytearray(archive.read_bytes())
    content[60] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        unpack(archive, tmp_path / "root")


def test_what_is_there_is_not_overwritten(tmp_path):
    archive = write_zip(tmp_path / "set.zip", FILES)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "mine.png").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"root must be missing or empty for set\.zip"):
        unpack(archive, tmp_path / "root")
    assert tree(tmp_path / "root") == {"mine.png": b"mine"}
    with pytest.raises(DataError, match="damaged or no archive"):
        unpack(tmp_path / "root" / "mine.png", tmp_path / "other")
