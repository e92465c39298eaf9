"""Digests against hashlib on the bytes themselves: whatever was remembered, they are those of what lies there now."""

import hashlib
import os
import socket
import sqlite3
import time
from pathlib import Path

import pytest

from datamodules.components import content
from datamodules.components.content import file_digest, folder_digest
from datamodules.components.sample import DataError

ROOT = Path(__file__).parents[3]


def plain(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_file_is_read_once_even_in_the_next_process(digests, later, reads, restart, tmp_path):
    files = {put(tmp_path / f"d{i % 3}" / f"{i}.bin", bytes([i]) * i): plain(bytes([i]) * i) for i in range(20)}
    for _ in range(3):
        assert {file: file_digest(file) for file in files} == files
        restart()
    assert len(reads) == 20


def test_digests_are_written_in_batches_without_a_flush(digests, later, monkeypatch, tmp_path):
    monkeypatch.setattr(content, "BATCH", 4)
    for i in range(7):
        file_digest(put(tmp_path / f"{i}", b"x"))
    with sqlite3.connect(digests) as rows:
        assert rows.execute("SELECT count(*) FROM digests").fetchone() == (4,)


@pytest.mark.parametrize("restarted", [False, True])
def test_other_bytes_of_the_same_size_and_time_are_noticed(digests, later, reads, restart, tmp_path, restarted):
    file = put(tmp_path / "a", b"before")
    old = file.stat()
    assert file_digest(file) == plain(b"before")
    if restarted:
        restart()
    time.sleep(0.05)  # the grain of the clock
    file.write_bytes(b"after!")
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
    new = file.stat()
    assert (new.st_size, new.st_mtime_ns, new.st_ino) == (old.st_size, old.st_mtime_ns, old.st_ino)
    assert file_digest(file) == plain(b"after!")
    assert reads == ["a", "a"]


@pytest.mark.parametrize("part", range(4))
def test_each_part_of_the_stamp_counts(digests, later, monkeypatch, tmp_path, part):
    file = put(tmp_path / "a", b"1")
    file_digest(file)
    stamp = content._stamp
    words = stamp(file.stat()).split()
    words[part] += b"0"
    monkeypatch.setattr(content, "_stamp", lambda found: b" ".join(words))
    monkeypatch.setattr(content, "_read", lambda path: (content._Known(b"", b"read again"), False))
    assert file_digest(file) == "read again"


def test_a_file_replaced_by_another_is_noticed(digests, later, tmp_path):
    file, other = put(tmp_path / "a", b"before"), put(tmp_path / "b", b"after!")
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    assert file_digest(file) == plain(b"before")
    other.rename(file)
    assert file_digest(file) == plain(b"after!")


def test_a_link_that_points_elsewhere_is_noticed(digests, later, tmp_path):
    one, two, link = put(tmp_path / "one", b"1"), put(tmp_path / "two", b"2"), tmp_path / "link"
    link.symlink_to(one)
    assert file_digest(link) == plain(b"1")
    link.unlink()
    link.symlink_to(two)
    assert file_digest(link) == plain(b"2")


@pytest.mark.parametrize(("age", "kept"), [(0.0, False), (1.9, False), (2.1, True), (-3600.0, False)])
def test_what_was_just_written_is_not_remembered(digests, monkeypatch, reads, restart, tmp_path, age, kept):
    file = put(tmp_path / "a", b"1")
    touched = max(file.stat().st_mtime_ns, file.stat().st_ctime_ns)
    monkeypatch.setattr(content.time, "time_ns", lambda: touched + int(age * 1e9))
    assert [file_digest(file) for _ in range(2)] == [plain(b"1")] * 2
    restart()
    assert file_digest(file) == plain(b"1")
    assert len(reads) == (1 if kept else 3)


def test_a_time_in_the_future_is_not_remembered(digests, later, reads, tmp_path):
    file = put(tmp_path / "a", b"1")
    os.utime(file, (time.time() + 3600, time.time() + 3600))
    file_digest(file)
    file_digest(file)
    assert len(reads) == 2


def test_what_changes_while_it_is_read_is_read_again(digests, later, monkeypatch, tmp_path):
    file = put(tmp_path / "a", b"before")
    time.sleep(0.05)  # the grain of the clock
    real = hashlib.file_digest

    def slow(opened, name):
        digest = real(opened, name)
        file.write_bytes(b"after!")
        return digest

    monkeypatch.setattr(content.hashlib, "file_digest", slow)
    file_digest(file)
    monkeypatch.setattr(content.hashlib, "file_digest", real)
    assert file_digest(file) == plain(b"after!")


def test_a_folder_is_its_names_and_contents(digests, later, tmp_path):
    names = {
        "b.png": b"1",
        "a/z": b"2",
        "a/.hidden": b"3",
        ".git/config": b"4",
        "ä/é": b"5",
        os.fsdecode(b"\xff"): b"6",
    }
    folder = tmp_path / "one"
    for name, data in names.items():
        put(folder / name, data)
    (folder / "empty").mkdir()
    (elsewhere := put(tmp_path / "elsewhere" / "x", b"7")).touch()
    (folder / "linked").symlink_to(elsewhere.parent)
    (folder / "file").symlink_to(elsewhere)
    whole = names | {"linked/x": b"7", "file": b"7"}
    pairs = sorted((os.fsencode(name), plain(data).encode()) for name, data in whole.items())
    assert folder_digest(folder) == plain(b"".join(name + b"\0" + digest + b"\n" for name, digest in pairs))


def test_each_change_of_a_folder_shows(digests, tmp_path, monkeypatch):
    put(tmp_path / "data" / "a" / "x", b"1")
    seen = [folder_digest(tmp_path / "data")]
    put(tmp_path / "data" / "a" / "x", b"2")
    seen.append(folder_digest(tmp_path / "data"))
    put(tmp_path / "data" / "y", b"")
    seen.append(folder_digest(tmp_path / "data"))
    (tmp_path / "data" / "y").rename(tmp_path / "data" / "a" / "y")
    seen.append(folder_digest(tmp_path / "data"))
    assert len(set(seen)) == 4
    (tmp_path / "data").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert folder_digest(Path("moved")) == seen[-1]


def test_what_cannot_be_read_is_named(digests, tmp_path):
    with pytest.raises(DataError, match=r"gone\.png cannot be read: No such file"):
        file_digest(tmp_path / "gone.png")
    with pytest.raises(DataError, match="cannot be read: it is no regular file"):
        file_digest(tmp_path)
    with pytest.raises(DataError, match=r"the folder .*gone cannot be read: No such file"):
        folder_digest(tmp_path / "gone")
    put(tmp_path / "file", b"")
    with pytest.raises(DataError, match=r"the folder .*file cannot be read: Not a directory"):
        folder_digest(tmp_path / "file")


def test_links_that_lead_nowhere_or_round_are_named(digests, tmp_path):
    data = put(tmp_path / "data" / "deep" / "x", b"1").parents[1]
    (data / "deep" / "round").symlink_to(data)
    with pytest.raises(DataError, match=r"leads back to a folder around it .*deep/round"):
        folder_digest(data)
    (data / "deep" / "round").unlink()
    (data / "dead").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"No such file or directory .*data/dead"):
        folder_digest(data)


def test_what_is_no_file_does_not_count(digests, tmp_path, monkeypatch):
    put(tmp_path / "data" / "x", b"1")
    before = folder_digest(tmp_path / "data")
    monkeypatch.chdir(tmp_path / "data")  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("s")
        assert folder_digest(tmp_path / "data") == before
