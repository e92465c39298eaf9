"""A record is on disk whole or not at all, and what is broken is set aside, never lost."""

import dataclasses
import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.records.store import Record, Store, StoreError, check_writable, sweep_up, write_atomic
from benchmark.request.cell import Cell, CellSettings, Where
from benchmark.request.groups import BackboneSettings, ProtocolSettings

SETTINGS = CellSettings(
    protocol=ProtocolSettings(evaluation_size=8), backbone=BackboneSettings(name="b", pretrained="w")
)
CELL = Cell("m", "d", "standard", "few_shot", ("c",), 1, 0, None, SETTINGS)


def record(attempt=1, status="ok", cell=CELL, **fields):
    return Record(cell.id, attempt, status, "sweep", ["bench"], cell, "2026-01-01T00:00:00+00:00", **fields)


def read_back(folder):
    store = Store(folder)
    return store.whole(store.current(CELL.id))


def test_what_is_saved_is_read_back(tmp_path):
    saved = record(metrics={"c": {"image_AUROC": {"value": 0.1 + 0.2, "reason": ""}}})
    Store(tmp_path).save(saved)
    assert read_back(tmp_path) == saved


def saved_in(folder, saved):
    store = Store(folder)
    store.save(saved)
    return store.path(saved)


def test_the_last_success_counts_and_else_the_last_attempt(tmp_path):
    store = Store(tmp_path)
    store.save(record(1, "failed"))
    store.save(record(2, "interrupted"))
    assert store.current(CELL.id).status == "interrupted"
    store.save(record(3, "ok"))
    store.save(record(4, "failed"))
    assert Store(tmp_path).current(CELL.id).attempt == 3
    assert Store(tmp_path).attempt_folder(CELL.id)[0] == 5


@pytest.mark.parametrize(("old", "new"), [("0.7", "0.9"), ('"ok"', '"ko"'), ('"seed": 0', '"seed": 1')])
def test_an_edited_record_is_no_measurement(tmp_path, old, new):
    metrics = {"c": {"image_AUROC": {"value": 0.7, "reason": ""}}}
    path = saved_in(tmp_path, record(metrics=metrics))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert Store(tmp_path, mend=True).all_current() == []
    assert path.with_name(f"{path.name}.corrupt").exists()


def test_a_store_holds_what_tables_need_and_reads_the_rest(tmp_path):
    store = Store(tmp_path)
    saved = record(
        provenance={"python": "3"}, data={"shots": {}}, error={"type": "E", "traceback": "long"}, remarks=["x"]
    )
    store.save(saved)
    path = store.path(saved)
    for held in (store.current(CELL.id), Store(tmp_path).current(CELL.id)):
        assert (held.provenance, held.data, held.remarks, held.error, held.cell.where) == (
            {},
            {},
            [],
            {"type": "E"},
            Where(),
        )
        assert (held.cell.id, held.status) == (CELL.id, "ok")
    assert dataclasses.asdict(store.whole(store.current(CELL.id)))["provenance"] == {"python": "3"}
    path.unlink()
    with pytest.raises(StoreError, match="was altered while this command ran"):
        store.whole(store.current(CELL.id))


def test_records_of_an_older_version_stay_and_are_counted(tmp_path):
    path = saved_in(tmp_path, record())
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 1}))
    store = Store(tmp_path)
    assert (store.all_current(), store.outdated, store.set_aside) == ([], 1, [])
    assert path.exists()
    assert store.attempt_folder(CELL.id)[0] == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"cell_id": "x"}', None])
def test_a_corrupt_record_is_set_aside_and_its_number_not_used_again(tmp_path, damage):
    path = saved_in(tmp_path, record())
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage.encode())
    assert Store(tmp_path).set_aside == [path]  # who only reads changes nothing
    store = Store(tmp_path, mend=True)
    assert store.current(CELL.id) is None
    assert [kept.name for kept in store.set_aside] == ["attempt-1.json.corrupt"]
    assert store.set_aside[0].exists()
    assert store.attempt_folder(CELL.id)[0] == 2
    assert Store(tmp_path).set_aside == []


def test_bytes_that_are_no_text_are_set_aside(tmp_path):
    path = saved_in(tmp_path, record())
    path.write_bytes(b"\xff\xfe\x00" * 9)
    assert len(Store(tmp_path, mend=True).set_aside) == 1


def test_a_full_disk_keeps_the_old_content_and_no_part_of_the_new(tmp_path):
    path = tmp_path / "file.json"
    write_atomic(path, "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StoreError, match=r"cannot write .*file.json: File too large. The previous content is kept"):
            write_atomic(path, "new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]


WRITER = """
import sys, itertools
from pathlib import Path
from benchmark.records.store import write_atomic
print("ready", flush=True)
for number in itertools.count():
    write_atomic(Path(sys.argv[1]), f"{number % 10}" * 50_000)
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "file"
    for round_ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], cwd=Path(__file__).parents[3], stdout=subprocess.PIPE
        )
        assert writer.stdout.readline()
        while not path.exists():
            time.sleep(0.001)
        time.sleep(0.03 + 0.011 * round_)
        writer.kill()
        writer.wait()
        text = path.read_text()
        assert text == text[0] * 50_000
    sweep_up(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write .*file/results/.*Not a directory"):
        check_writable(tmp_path / "file" / "results")
