"""Whatever runs a sweep, its records and tables are the same, to the bit on a CPU with as many threads."""

import json

import pytest
from twins import VISA_ALL, write_visa

TABLES = ("leaderboard.csv", "leaderboard_by_category.csv", "leaderboard.md")
KEYS = ("cell_id", "comparison_id", "metrics", "counts", "regions", "leaks", "content", "fit", "knows", "remarks")
WORDS = ("run", "--methods", "toy_learns,toy_transfers,winclip", "--shots", "1", "--seeds", "0,1", "executor.cores=1")
EXECUTORS = {
    "pool": ("executor=pool", "executor.workers=2"),
    "ray": ("executor=ray",),
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(290)]


def finish(process):
    out, _ = process.communicate(timeout=280)
    return process.returncode, out


def records(folder):
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("cells/*/attempt-*.json"))]
    return [{key: record[key] for key in KEYS} for record in found]


@pytest.fixture
def start(bench_process, data, cells, tmp_path):
    write_visa(data.parent / "visa", VISA_ALL)

    def begin(*words, folder):
        root = {"BENCH_DATA": str(data.parent), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        return bench_process(*WORDS, *words, *cells, "--results", tmp_path / folder, **root)

    return begin


@pytest.mark.campaign
@pytest.mark.parametrize("others", [("pool", "shards"), ("ray",)], ids="-".join)
def test_every_executor_and_two_shards_at_once_come_to_the_same(start, bench, tmp_path, others):
    code, out = finish(start(folder="local"))
    assert code == 0, out
    assert len(records(tmp_path / "local")) == 4 + 4 + 2  # winclip fits nothing: one seed
    for name in others:
        ways = [EXECUTORS[name]] if name in EXECUTORS else [("--shard", f"{index}/2") for index in (0, 1)]
        for process in [start(*words, folder=name) for words in ways]:
            code, out = finish(process)
            assert code == 0, out
        assert bench("leaderboard", tmp_path / name).code == 0
        assert records(tmp_path / name) == records(tmp_path / "local")
        for table in TABLES:
            assert (tmp_path / name / table).read_bytes() == (tmp_path / "local" / table).read_bytes()
        assert len(list((tmp_path / name / "fits").glob("*.safetensors"))) == 2  # a seed each, never twice
        fitted = [json.loads(path.read_text()) for path in (tmp_path / name).glob("cells/toy_transfers-*/*.json")]
        reused = [record["data"]["auxiliary"]["reused"] for record in fitted]
        assert reused.count(False) == (2 if name == "shards" else 0)  # elsewhere a job of its own makes a shared fit


def test_a_shard_that_is_none(bench):
    for wrong in ("2/2", "1", "-1/2", "a/b"):
        done = bench(*WORDS, "--datasets", "mvtec_ad", "--shard", wrong)
        words = f"error: --shard must be i/n with i from 0 to n - 1, as in 0/8; got {wrong!r}.\n"
        assert (done.code, done.err) == (2, words)
