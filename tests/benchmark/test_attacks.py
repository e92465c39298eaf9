"""Faults found by attack: what is hostile, damaged or absent costs one sentence, never a sweep or a user's file."""

import json
import os
import shutil

import pandas as pd
import pytest

from benchmark.commands.columns import plain
from benchmark.commands.status import print_status
from benchmark.records.leaderboard import everything, write_tables
from benchmark.records.store import Store, StoreError, sweep_up

TOY = ("run", "--methods", "toy_mean", "--shots", "1", "--seeds", "0")


@pytest.fixture
def done(bench, data, cells, tmp_path):
    """A results folder with two records."""
    assert bench(*TOY, *cells, "--results", tmp_path / "r").code == 0
    return tmp_path / "r"


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def hostile(value, depth=0):
    """What may stand in the place of a value of JSON."""
    yield from (None, -1, 10**400, "", "x\n[/data/x]\x1b[31m\ud800", [], {}, [[[[]]]], True, 1e308)
    if depth == 0 and isinstance(value, dict):
        yield {"unknown": value}


def mutations(record):
    for key, value in record.items():
        for other in hostile(value):
            if other != value or type(other) is not type(value):
                yield key, {**record, key: other}
        yield key, {name: its for name, its in record.items() if name != key}
    metrics = record["metrics"]
    for bad in (2.0, "0.5", [], {}, -0.1):
        broken = json.loads(json.dumps(metrics))
        broken[next(iter(broken))]["image_AUROC"]["value"] = bad
        yield "metrics", {**record, "metrics": broken}
    for bad in (None, 5, {"bottle": None}, {"bottle": {"image_AUROC": 3}}):
        yield "metrics", {**record, "metrics": bad}


@pytest.mark.slow
@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.campaign)])
def test_no_malformed_record_takes_the_tables_down(bench, done, step):
    from benchmark.records.store import checksum

    good, path = sorted(done.glob("cells/*/attempt-1.json"))
    record = json.loads(path.read_text())
    record.pop("checksum")
    count = 0
    assert bench("leaderboard", done).code == 0
    for key, changed in [*mutations(record)][::step]:
        try:
            text = json.dumps(changed | {"checksum": checksum(changed)})
        except (ValueError, TypeError):
            text = json.dumps(changed | {"checksum": "0"})
        path.write_text(text)
        before = tree(done)
        store = Store(done)
        assert print_status(done) in (0, 1), key
        assert len(write_tables(done, store.all_current()).wide) >= 1, key
        assert len(everything(store.all_records())) >= 1, key
        after = {name: content for name, content in tree(done).items() if name.startswith(("cells/", "sweeps/"))}
        assert after == {name: content for name, content in before.items() if name.startswith(("cells/", "sweeps/"))}
        assert good.exists()
        count += 1
    assert count >= 240 // step


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"cells": 3, "argv": []}', '{"cells": [1], "argv": []}', "[" * 100000, '{"cells": {}}',
                '{"cells": [], "argv": [], "trials": 5}', '{"cells": [], "argv": [], "trials": {"a": {"b": [1]}}}']
)  # fmt: skip
def test_a_malformed_sweep_is_left_out(bench, done, content):
    (done / "sweeps" / "evil.json").write_text(content)
    for command in ("status", "leaderboard"):
        found = bench(command, done)
        assert found.code == 0
        assert "Traceback" not in found.err
    assert "evil.json is no sweep of this suite: left out" in bench("status", done).out


def test_reading_commands_change_nothing(bench, done):
    path = sorted(done.glob("cells/*/attempt-1.json"))[0]
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"schema": 99}))
    path.with_name("attempt-2.json").write_text("damaged")
    (done / ".tmp-mine").write_text("a file of the user")
    before = {name: content for name, content in tree(done).items() if "leaderboard" not in name}
    for command in ("status", "leaderboard"):
        found = bench(command, done)
        assert "corrupt record: " in found.out
        assert "1 records of an older version" in found.out
    assert {name: its for name, its in tree(done).items() if "leaderboard" not in name}.keys() >= before.keys()
    assert path.with_name("attempt-2.json").read_text() == "damaged"


def test_only_own_partial_files_are_swept_up(tmp_path):
    mine = [".tmp-notes", ".tmp-12", "cells/.tmp-1-x", "deep/er/.tmp-3-attempt-1.json", "cells/a/attempt-1/.tmp-4-x"]
    own = [".tmp-1-results.csv", "cells/a/.tmp-77-attempt-1.json", "sweeps/.tmp-5-s.json", "fits/.tmp-6-k.safetensors"]
    for name in (*mine, *own):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    sweep_up(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*mine}


@pytest.mark.parametrize("remark", [float("nan"), object(), {1, 2}])
def test_a_record_that_cannot_be_written_is_a_failed_one(bench, data, cells, tmp_path, monkeypatch, remark):
    from benchmark.execution import attempt as attempting

    real = attempting.run_cell
    monkeypatch.setattr(attempting, "run_cell", lambda *a: real(*a)._replace(remarks=[remark]))
    found = bench(*TOY, *cells, "--results", tmp_path / "r")
    assert found.code == 1
    assert "UnwritableRecord: the record cannot be kept" in found.out


def test_markup_surrogates_and_escapes_in_a_message(bench, data, cells, tmp_path, monkeypatch):
    from benchmark.execution import attempt as attempting

    def fail(*arguments):
        raise RuntimeError("[/data/x] [red]\x1b[31m \ud800")

    monkeypatch.setattr(attempting, "run_cell", fail)
    found = bench(*TOY, *cells, "--results", tmp_path / "r")
    assert found.code == 1
    assert found.out.count("[/data/x] [red]\\x1b[31m \\ud800") >= 2
    assert "\x1b[31m" not in bench("status", tmp_path / "r").out
    assert plain("a\tb\u202e") == "a\\tb\\u202e"


def test_a_folder_that_is_removed_or_replaced_is_noticed(done):
    store = Store(done)
    record = store.whole(store.all_current()[0])
    other = done.with_name("other")
    other.mkdir()
    shutil.rmtree(done)
    with pytest.raises(StoreError, match="was removed or replaced while this command ran"):
        store.save(record)
    other.rename(done)
    with pytest.raises(StoreError, match="was removed or replaced"):
        store.save(record)


def test_formulas_do_not_reach_a_spreadsheet(bench, data, cells, tmp_path):
    words = {"variants": {"toy_mean": {"=cmd|' /C calc'!A0": {}, "@x": {"pause": 0.001}}}}
    (tmp_path / "v.yaml").write_text(json.dumps(words))
    assert bench(*TOY, *cells, "--config", tmp_path / "v.yaml", "--results", tmp_path / "r").code == 0
    for path in (tmp_path / "r").glob("*.csv"):
        table = pd.read_csv(path, keep_default_na=False, dtype=str)
        assert not any(str(each).startswith(("=", "@")) for each in table.to_numpy().ravel()), path


@pytest.mark.parametrize("where", ["yaml", "word"])
def test_the_environment_does_not_reach_a_record(bench, cells, tmp_path, monkeypatch, where):
    monkeypatch.setenv("SECRET", "hunter2")
    (tmp_path / "a.yaml").write_text("logger:\n  project: ${oc.env:SECRET}\n")
    said = ("--config", tmp_path / "a.yaml") if where == "yaml" else ("logger.project=${oc.env:SECRET}",)
    found = bench(*TOY, *cells, *said, "--results", tmp_path / "r")
    assert found.code == 2
    assert "logger.project (" in found.err
    assert "must be a value, got '${oc.env:SECRET}'" in found.err
    assert "hunter2" not in found.err


@pytest.mark.parametrize("what", ["cache", "features"])
def test_a_place_that_cannot_be_written(bench, tmp_path, monkeypatch, what):
    (tmp_path / "file").write_text("no folder")
    words = ["--datasets", "procedural", "--categories", "gear", "--results", tmp_path / "r"]
    if what == "cache":
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "file"))
    else:
        words += ["features.enabled=true", f"features.folder={tmp_path / 'file'}"]
    found = bench(*TOY, *words)
    assert found.code == 2
    assert found.err.count("\n") == 1
    assert str(tmp_path / "file") in found.err


def test_killed_drawings_are_swept(tmp_path, monkeypatch):
    from datamodules.components.rendering.cache import Counts, materialise

    old, young = tmp_path / ".set-abc", tmp_path / ".set-def"
    for place in (old, young):
        place.mkdir()
    os.utime(old, (1, 1))
    materialise(tmp_path / "set", size=32, counts=Counts(1, 1, 1), categories=("gear",))
    assert not old.exists()
    assert young.exists()
