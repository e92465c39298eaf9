"""One process can claim an attempt; a claim whose process is gone is known as such, and is never half written."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmark.records import claims
from benchmark.records.store import StoreError


@pytest.fixture
def claim(tmp_path):
    return tmp_path / "cells" / "x" / "attempt-1.started"


def test_one_of_many_gets_it(claim):
    with ThreadPoolExecutor(8) as several:
        assert sum(several.map(lambda _: claims.take(claim), range(50))) == 1
    assert [path.name for path in claim.parent.iterdir()] == [claim.name]
    assert claims.holder(claim).pid == os.getpid()
    assert claims.claims_of(claim.parents[2]) == [claim]
    claims.release(claim)
    assert claims.holder(claim) is None
    assert claims.take(claim)


def test_a_process_that_is_gone_holds_nothing(claim):
    code = "import sys; from pathlib import Path; from benchmark.records import claims; claims.take(Path(sys.argv[1]))"
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code, str(claim)], cwd=root, check=True)
    assert claims.read(claim) is not None
    assert claims.holder(claim) is None
    assert not claims.take(claim)  # until what it has left is recorded


def test_a_number_that_another_process_has_by_now_is_not_believed(claim):
    claims.take(claim)
    said = json.loads(claim.read_text())
    claim.write_text(json.dumps(said | {"born": "1"}))
    assert claims.holder(claim) is None


def test_another_host_is_believed_while_it_beats(claim):
    claims.take(claim)
    claim.write_text(json.dumps(json.loads(claim.read_text()) | {"host": "elsewhere"}))
    assert claims.holder(claim).host == "elsewhere"
    os.utime(claim, (1, 1))
    assert claims.holder(claim) is None
    claims.beat(claim)
    assert claims.holder(claim).host == "elsewhere"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 1}'])
def test_a_damaged_claim_counts_for_a_while(claim, content):
    claim.parent.mkdir(parents=True)
    claim.write_text(content)
    assert claims.holder(claim) is not None
    os.utime(claim, (1, 1))
    assert claims.holder(claim) is None


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="cannot write"):
        claims.take(tmp_path / "file" / "attempt-1.started")


def test_progress_is_words(claim):
    claims.take(claim)
    assert claims.progress(claim) == ""
    folder = claim.with_suffix("")
    folder.mkdir()
    for told, words in (
        ({"phase": "fit", "batch": 3, "batches": 9, "loss": 0.25}, ": fit 3/9, loss 0.25"),
        ({"phase": "test", "batch": 1, "batches": None, "loss": None}, ": test 1/?"),
        ("damaged", ""),
    ):
        (folder / claims.PROGRESS).write_text(json.dumps(told))
        assert claims.progress(claim) == words
