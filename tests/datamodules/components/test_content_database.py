"""The database of digests, shared, damaged, locked or out of reach: it costs time and never a right digest."""

import hashlib
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.components import content
from datamodules.components.content import file_digest, folder_digest

ROOT = Path(__file__).parents[3]
HASHES_ALL = """
import sys, random
from pathlib import Path
from datamodules.components import content
content.QUIET, content.BATCH = -10**12, 7
files = sorted(Path(sys.argv[1]).iterdir())
random.Random(int(sys.argv[2])).shuffle(files)
print("ready", flush=True)
sys.stdin.readline()
for file in files:
    content.file_digest(file)
store, = content._stores.values()
assert store.usable and "torch" not in sys.modules
"""


def plain(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.slow
def test_processes_write_at_once(digests, later, reads, tmp_path):
    files = [put(tmp_path / "data" / f"{i}", random.Random(i).randbytes(50)) for i in range(300)]
    command = [sys.executable, "-c", HASHES_ALL, str(tmp_path / "data")]
    workers = [
        subprocess.Popen([*command, str(i)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for i in range(3)
    ]
    try:
        assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * 3
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for worker in workers:
            worker.communicate(timeout=60)
        assert [worker.returncode for worker in workers] == [0] * 3
    finally:
        for worker in workers:
            worker.kill()
    assert [file_digest(file) for file in files] == [plain(file.read_bytes()) for file in files]
    assert reads == []


def other_columns(base: Path) -> None:
    with sqlite3.connect(base) as rows:
        rows.execute("CREATE TABLE digests (folder TEXT)")


def cut(base: Path) -> None:
    base.write_bytes(base.read_bytes()[:5000])


def mixed_up(base: Path) -> None:
    data = bytearray(base.read_bytes())
    data[4096:] = random.Random(0).randbytes(len(data) - 4096)
    base.write_bytes(data)


@pytest.mark.parametrize(
    ("filled", "damage"),
    [
        (False, lambda base: base.write_bytes(b"no database at all " * 99)),
        (False, lambda base: base.write_bytes(b"")),
        (False, other_columns),
        (True, cut),
        (True, mixed_up),
    ],
    ids=["garbage", "empty", "other columns", "cut", "mixed up"],
)
def test_a_damaged_database_is_made_anew(digests, later, reads, restart, tmp_path, filled, damage):
    files = [put(tmp_path / "data" / f"{i}", b"%d" % i) for i in range(60)]
    digests.parent.mkdir()
    if filled:
        folder_digest(tmp_path / "data")
        restart()
    damage(digests)
    for _ in range(2):
        assert [file_digest(file) for file in files] == [plain(b"%d" % i) for i in range(60)]
        restart()
    reads.clear()
    assert [file_digest(file) for file in files] == [plain(b"%d" % i) for i in range(60)]
    assert reads == []


@pytest.mark.parametrize("column", ["name", "stamp", "digest", "proof"])
@pytest.mark.parametrize("value", ["'{}'".format("0" * 64), "7", "x'ff'", "NULL"])
def test_a_row_that_the_disk_altered_is_not_believed(digests, later, restart, tmp_path, column, value):
    file = put(tmp_path / "a", b"1")
    file_digest(file)
    restart()
    with sqlite3.connect(digests) as rows:
        if column == "name" and value == "NULL":
            value = "''"  # a key must not be NULL
        assert rows.execute(f"UPDATE digests SET {column} = {value}").rowcount == 1
    assert file_digest(file) == plain(b"1")


def test_a_locked_datadigests_is_no_error(digests, later, monkeypatch, restart, tmp_path):
    monkeypatch.setattr(content, "WAIT", 0.05)
    file = put(tmp_path / "a", b"1")
    file_digest(file)
    restart()
    other = sqlite3.connect(digests, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert file_digest(file) == plain(b"1")
    restart()
    other.close()
    assert file_digest(file) == plain(b"1")


@pytest.mark.parametrize("blocked", ["folder", "datadigests"])
def test_a_cache_that_cannot_be_written_is_no_error(digests, later, reads, restart, tmp_path, blocked):
    """Root may write wherever the mode forbids it, so what stands in the way is of the wrong kind."""
    if blocked == "folder":
        put(digests.parent, b"a file in place of the folder")
    else:
        digests.mkdir(parents=True)
    file = put(tmp_path / "a", b"1")
    for _ in range(2):
        assert [file_digest(file) for _ in range(3)] == [plain(b"1")] * 3
        restart()
    assert len(reads) == 2  # memory still serves
