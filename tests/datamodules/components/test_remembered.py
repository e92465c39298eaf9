"""What is remembered of a folder goes with anything that is touched in it."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from datamodules.components.remembered import Remembered


@pytest.fixture
def root(digests, later, tmp_path) -> Path:
    for name in ("a/1.png", "a/2.png", "b/c/3.png"):
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "root"


def ask(root: Path, question: str = "q") -> bool:
    """Whether the answer is still there; gives it where it is not."""
    known = Remembered(question)
    there = "a" in known.answers
    if not there:
        known.look_at([root])
        known.keep("a", 1)
    return there


def overwrite_and_restore_the_time(root):
    file = root / "a" / "1.png"
    old = file.stat()
    time.sleep(0.05)  # the grain of the clock
    file.write_bytes(b"A/1.PNG")
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))


def replace_by_a_link(root):
    (root / "b" / "c").rename(root.parent / "away")
    (root / "b" / "c").symlink_to(root.parent / "away")
    return root.parent / "away" / "3.png"


CHANGES = {
    "other bytes of equal length and time": overwrite_and_restore_the_time,
    "a new file": lambda root: (root / "a" / "9.png").write_bytes(b""),
    "a new folder": lambda root: (root / "d").mkdir(),
    "a file less": lambda root: (root / "b" / "c" / "3.png").unlink(),
    "another name": lambda root: (root / "a" / "1.png").rename(root / "a" / "0.png"),
    "two names exchanged": lambda root: [
        (root / "a" / old).rename(root / "a" / new) for old, new in (("1.png", "x"), ("2.png", "1.png"), ("x", "2.png"))
    ],
    "a folder less": lambda root: shutil.rmtree(root / "a"),
    "no folder": shutil.rmtree,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=[*CHANGES])
def test_a_change_is_seen(root, change):
    assert [ask(root), ask(root)] == [False, True]
    change(root)
    assert not ask(root)


def test_a_change_behind_a_link_is_seen(root):
    behind = replace_by_a_link(root)
    assert [ask(root), ask(root)] == [False, True]
    time.sleep(0.05)
    behind.write_bytes(b"other")
    assert not ask(root)


def test_another_question_has_another_answer(root):
    ask(root)
    assert not ask(root, "with other settings")


def test_other_folders_make_earlier_answers_void(root, tmp_path):
    (tmp_path / "other").mkdir()
    ask(root)
    known = Remembered("q")
    known.look_at([tmp_path / "other"])
    assert known.answers == {}


def test_what_was_touched_a_moment_ago_is_not_remembered(digests, tmp_path):
    (tmp_path / "root" / "a").mkdir(parents=True)
    assert [ask(tmp_path / "root"), ask(tmp_path / "root")] == [False, False]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"state": 1}', "\0"])
def test_a_damaged_answer_is_none(root, tmp_path, content):
    ask(root)
    (file,) = (tmp_path / "cache" / "answers").iterdir()
    file.write_text(content)
    assert [ask(root), ask(root)] == [False, True]


def test_a_flipped_answer_is_none(root, tmp_path):
    ask(root)
    (file,) = (tmp_path / "cache" / "answers").iterdir()
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"answers": {"a": 2}}))
    assert not ask(root)


def test_one_does_without_a_cache(digests, later, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "cache").write_text("no folder")
    assert [ask(tmp_path / "root"), ask(tmp_path / "root")] == [False, False]
