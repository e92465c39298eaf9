"""`trainer.devices=2` on CPUs: torchrun's two processes come to the record of one, with an uneven last batch."""

import json

import pytest
from twins import VISA_ALL, write_visa

from benchmark.records.predictions import read

BOTH = ("metrics", "counts", "regions", "leaks", "comparison_id", "cell_id", "data")
METHODS = {"toy_learns": ("--shots", "1"), "toy_transfers": ("protocol.auxiliary=visa",)}


def finish(process):
    out, _ = process.communicate(timeout=270)
    return process.returncode, out


def record(folder):
    (path,) = folder.glob("cells/*/attempt-1.json")
    return json.loads(path.read_text())


@pytest.mark.campaign
@pytest.mark.timeout(280)
@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_measure_what_one_process_does(bench_process, data, cells, tmp_path, method):
    write_visa(data.parent / "visa", VISA_ALL)
    root = {"BENCH_DATA": str(data.parent), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    words = ("run", "--methods", method, *METHODS[method], "--seeds", "0", *cells, "trainer.batch_size=2")
    found = {}
    for ranks in (1, 2):
        one = ("--categories", "bottle", f"trainer.devices={ranks}", "--results", tmp_path / str(ranks))
        words = [word for word in words if word not in ("--categories", "bottle,metal_nut")]
        code, out = finish(bench_process(*words, *one, **root))
        assert code == 0, out
        found[ranks] = record(tmp_path / str(ranks))
    for key in BOTH:
        assert found[1][key] == found[2][key]
    one, both = (read(path) for ranks in "12" for path in tmp_path.glob(f"{ranks}/cells/*/attempt-1.safetensors"))
    assert one[:3] == both[:3]
    assert (one.scores.tolist(), one.maps.tolist()) == (both.scores.tolist(), both.maps.tolist())
    assert found[2]["counts"] == {"bottle": {"normal": 3, "anomalous": 4}}  # the last of 4 batches holds one image
    assert (tmp_path / "2" / "cells" / found[2]["cell_id"] / "attempt-1" / "ranks.log").is_file()


@pytest.mark.campaign
@pytest.mark.timeout(280)
def test_a_rank_that_fails_fails_the_cell(bench_process, data, cells, tmp_path):
    words = ("run", "--methods", "toy_breaks", "--shots", "1", "--seeds", "0", "method.how=killed")
    root = {"BENCH_DATA": str(data.parent), "CUDA_VISIBLE_DEVICES": ""}
    batch = ("trainer.devices=2", "trainer.batch_size=2")
    code, out = finish(bench_process(*words, *batch, *cells, "--results", tmp_path / "r", **root))
    assert code == 1, out
    failed = [json.loads(path.read_text()) for path in tmp_path.glob("r/cells/*-metal_nut-*/attempt-1.json")]
    assert "torchrun ended with exit code" in failed[0]["error"]["message"]
