"""`bench data`: lists, fetches, verifies and exports, on twins and from a server on this machine."""

import hashlib
import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import real_twins
import twins

from benchmark.request import registry


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """BTAD's archive as a server of this machine has it."""
    real_twins.write_btad(tmp_path / "served" / "BTech_Dataset_transformed")
    shutil.make_archive(str(tmp_path / "served" / "btad"), "zip", tmp_path / "served", "BTech_Dataset_transformed")
    archive = tmp_path / "served" / "btad.zip"
    facts, real = registry.dataset("btad"), registry.dataset
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "served")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/btad.zip"
        sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
        local = {**vars(facts), "archives": ({"name": "btad.zip", "urls": (url,), "sha256": sha256},), "counts": {}}
        monkeypatch.setattr(registry, "dataset", lambda name: type(facts)(**local) if name == "btad" else real(name))
        yield server
        server.shutdown()


def test_the_list_knows_every_set_and_variant(bench, tmp_path, monkeypatch):
    twins.write_visa(tmp_path / "visa")
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    done = bench("data", "list")
    assert done.code == 0
    lines = {(words[0], words[1]): line for line in done.out.splitlines() if (words := line.split())}
    assert ("real_iad", "single_view") in lines
    assert ("elpv", "mono") in lines
    assert str(tmp_path / "visa") in lines["visa", "standard"]
    assert "8659" in lines["visa", "standard"]
    assert "614 (recalled)" in lines["tn3k", "standard"]


def test_an_archive_is_fetched_unpacked_and_proven(bench, served, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    refused = bench("data", "prepare", "btad")
    assert refused.code == 2
    assert "--yes` says that you accept the licence: CC BY-SA 4.0" in refused.err
    done = bench("data", "prepare", "btad", "--yes")
    assert done.code == 0, done.err
    assert "used: 36 images and 12 masks" in done.out
    assert sorted(path.name for path in (tmp_path / "data").iterdir() if path.is_dir()) == ["btad"]
    assert not (tmp_path / "data" / "btad.zip").exists()
    again = bench("data", "prepare", "btad")  # what is there is not fetched again
    assert again.code == 0
    assert "used: 36 images" in again.out
    proven = bench("data", "verify", "btad")
    assert proven.code == 0, proven.out
    assert "proven, against no published numbers" in proven.out


def test_no_network_is_one_sentence(bench, served, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    served.shutdown()
    served.server_close()
    done = bench("data", "prepare", "btad", "--yes")
    assert done.code == 2
    assert "error: btad.zip cannot be had" in done.err
    assert done.err.count("\n") == 1


def test_what_cannot_be_fetched_is_described(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    done = bench("data", "prepare", "real_iad")
    assert done.code == 2
    assert "Ask for access on that page" in done.err
    assert f"<root> is {tmp_path / 'real_iad'}" in done.err
    assert "licence: CC BY-NC-SA 4.0" in done.out
    monkeypatch.delenv("BENCH_DATA")
    assert "give --root, or set BENCH_DATA" in bench("data", "prepare", "real_iad").err
    assert bench("data", "prepare", "textile").code == 0
    assert "unknown dataset 'visaa'" in bench("data", "prepare", "visaa").err


@pytest.fixture
def part(tmp_path):
    """An own set of one category."""
    twins.write_mvtec_category(tmp_path / "parts" / "nut")
    return tmp_path / "parts"


FAULTS = {
    "a test image without mask": (
        lambda nut: (nut / "ground_truth/a/000_mask.png").unlink(),
        "anomalous image without mask",
    ),
    "an empty mask": (lambda nut: twins.save(twins.mask(0), nut / "ground_truth/a/000_mask.png"), "marks no pixel"),
    "a mask of another size": (
        lambda nut: twins.save(twins.mask().resize((5, 5)), nut / "ground_truth/a/000_mask.png"),
        "is 5x5 pixels",
    ),
    "a file without bytes": (lambda nut: (nut / "test/good/000.png").write_bytes(b""), "cannot be read as an image"),
    "half an image": (
        lambda nut: (nut / "test/good/000.png").write_bytes((nut / "test/good/000.png").read_bytes()[:200]),
        "truncated",
    ),
    "a leak": (lambda nut: shutil.copy(nut / "test/good/000.png", nut / "train/good/9.png"), "has the bytes of"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_a_set_is_named(bench, part, fault):
    assert bench("data", "verify", "folder", "--root", part).code == 0
    break_it, words = FAULTS[fault]
    break_it(part / "nut")
    done = bench("data", "verify", "folder", "--root", part)
    assert done.code == 1, done.out
    assert words in done.out
    assert "WRONG nut: " in done.out
    assert "1 faults" in done.out


def test_numbers_are_those_of_the_publication_where_they_are_confirmed(bench, tmp_path, monkeypatch):
    real_twins.write_btad(tmp_path / "btad")
    done = bench("data", "verify", "btad", "--root", tmp_path / "btad")
    assert done.code == 1
    assert "WRONG 01: 5 train, 3 normal, 4 anomalous; published are 400 train, 21 normal, 49 anomalous" in done.out
    real_twins.write_tn3k(tmp_path / "tn3k")
    recalled = bench("data", "verify", "tn3k", "--root", tmp_path / "tn3k")
    assert recalled.code == 0
    assert "note  thyroid: 0 train, 0 normal, 4 anomalous; published are" in recalled.out
    assert "(unconfirmed)" in recalled.out


def test_exports_read_back(bench, part, tmp_path):
    assert bench("data", "export", "folder", "--root", part, "--format", "folder", "--output", tmp_path / "o").code == 0
    assert (tmp_path / "o" / "nut" / "train" / "good" / "000.png").is_symlink()
    assert bench("data", "export", "folder", "--root", part).code == 0
    assert {*json.loads((part / "meta.json").read_text())} == {"train", "test"}
    assert "exists already" in bench("data", "export", "folder", "--root", part).err
    assert "--format must be meta, or folder" in bench("data", "export", "folder", "--root", part, "--format", "x").err
