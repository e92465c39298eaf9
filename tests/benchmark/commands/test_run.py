"""A whole sweep through the command line on a twin of MVTec AD: what is run, kept, resumed and ranked."""

import json
import signal

import pandas as pd
import pytest
from twins import VISA_ALL, image, save, write_visa

pytestmark = pytest.mark.slow

TOY = ("run", "--methods", "toy_mean", "--shots", "1,2", "--seeds", "0")
TABLES = ("results.csv", "leaderboard.csv", "leaderboard_by_category.csv", "leaderboard.md")


def records(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob("cells/*/attempt-*.json"))]


def test_a_sweep_leaves_records_and_tables_and_runs_only_once(bench, data, cells, tmp_path):
    results = tmp_path / "r"
    first = bench(*TOY, *cells, "--results", results)
    assert first.code == 0, first.err
    assert "4 cells: 4 missing; 4 to run" in first.out
    made = records(results)
    assert len(made) == 4
    for record in made:
        assert record["status"] == "ok"
        assert set(record["seconds"]) == {"load", "fit", "test", "metrics"}
        assert len(record["backbone"]["weights_sha256"]) == 64
        (category,) = record["metrics"]
        assert len(record["data"]["shots"][category]) == record["cell"]["shots"]
        assert record["counts"] == {category: {"normal": 3, "anomalous": 4}}
        assert record["metrics"][category]["image_AUROC"]["value"] == 1.0  # the defect is the brightest thing in view
        assert record["provenance"]["packages"]["torch"]
    wide = pd.read_csv(results / "leaderboard.csv")
    assert list(zip(wide["kind"], wide["shots"], strict=True)) == [("all", 1), ("all", 2), ("object", 1), ("object", 2)]
    assert set(wide["status"]) == {"partial: 2 of 15 category runs", "partial: 2 of 10 category runs"}
    assert "In every row: dataset mvtec_ad, kind all, protocol few_shot(evaluation_size=24), " in first.out
    assert wide["pixel_AUPRO"].between(0.5, 1).all()
    before = {name: (results / name).read_bytes() for name in TABLES}
    second = bench(*TOY, *cells, "--results", results)
    assert second.code == 0
    assert "4 done; 0 to run" in second.out
    assert len(records(results)) == 4
    assert {name: (results / name).read_bytes() for name in TABLES} == before


def test_two_runs_of_one_cell_are_equal_to_the_byte(bench, data, cells, tmp_path):
    for name in ("a", "b"):
        for method in ("toy_mean", "toy_learns"):
            assert (
                bench(
                    "run", "--methods", method, "--shots", "2", "--seeds", "3", *cells, "--results", tmp_path / name
                ).code
                == 0
            )
    one, other = (
        [(r["cell_id"], r["metrics"], r["comparison_id"], r["data"]) for r in records(tmp_path / name)]
        for name in ("a", "b")
    )
    assert one == other


def test_methods_that_learn_are_fitted_on_what_they_declare(bench, data, cells, tmp_path, monkeypatch):
    write_visa(data.parent / "visa", VISA_ALL)
    done = bench(
        "run",
        "--methods",
        "toy_learns,toy_transfers",
        "--shots",
        "2",
        "--seeds",
        "0",
        *cells,
        "--results",
        tmp_path / "r",
    )
    assert done.code == 0, done.out + done.err
    by_method = {record["cell"]["method"]: record for record in records(tmp_path / "r")}
    assert by_method["toy_transfers"]["cell"]["settings"]["protocol"]["auxiliary"] == "visa"
    curves = [pd.read_csv(path) for path in (tmp_path / "r").glob("cells/toy_learns*/attempt-1/metrics.csv")]
    assert curves
    assert all("test/image_AUROC" in curve for curve in curves)


def test_rows_of_two_methods_share_a_comparison_id_and_shots(bench, data, cells, tmp_path):
    bench(
        "run", "--methods", "toy_mean,toy_learns", "--shots", "2", "--seeds", "0,1", *cells, "--results", tmp_path / "r"
    )
    wide = pd.read_csv(tmp_path / "r" / "leaderboard.csv")
    assert list(wide["kind"]) == ["all", "all", "object", "object"]
    assert wide["comparison"].nunique() == 1
    assert set(wide["n_seeds"]) == {2}


def test_a_cell_that_raises_is_recorded_and_the_sweep_goes_on(bench, data, cells, tmp_path):
    words = (
        "run",
        "--methods",
        "toy_breaks,toy_mean",
        "--shots",
        "1",
        "--seeds",
        "0",
        *cells,
        "--results",
        tmp_path / "r",
    )
    done = bench(*words)
    assert done.code == 1
    assert "failed toy_breaks mvtec_ad/metal_nut few_shot k=1 seed=0: RuntimeError: broken on purpose" in done.out
    status = {(r["cell"]["method"], r["cell"]["categories"][0]): r["status"] for r in records(tmp_path / "r")}
    assert status["toy_breaks", "metal_nut"] == "failed"
    assert sorted(status.values()) == ["failed", "ok", "ok", "ok"]
    (failed,) = [record for record in records(tmp_path / "r") if record["status"] == "failed"]
    assert 'raise RuntimeError("broken on purpose")' in failed["error"]["traceback"]
    assert "toy_breaks,mvtec_ad" in (tmp_path / "r" / "leaderboard.csv").read_text()
    report = bench("status", tmp_path / "r")
    assert report.code == 1
    assert "3 done, 1 failed, 0 missing of 4" in report.out
    assert "go on with: bench run --methods toy_breaks,toy_mean" in report.out
    assert "1 to run" in bench(*words).out
    kept = bench(*words, "--overwrite", "never")
    assert (kept.code, "0 to run" in kept.out) == (1, True)
    assert "4 to run" in bench(*words, "--overwrite", "always").out


def test_fail_fast_stops_at_the_first_failure(bench, data, cells, tmp_path):
    words = (
        "run",
        "--methods",
        "toy_breaks,toy_mean",
        "--shots",
        "1",
        "--seeds",
        "0",
        "method.toy_breaks.category=bottle",
    )
    assert bench(*words, *cells, "--results", tmp_path / "r", "--fail-fast").code == 1
    assert len(records(tmp_path / "r")) == 1


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan", r"maps must be finite, got NaN or infinity for metal_nut/test/broken_large/000.png"),
        ("shape", r"predict must return a score (7,) and a map (7, h, w), got (7,) and (144, 144)"),
    ],
)
def test_scores_that_are_no_scores_name_the_image(bench, data, cells, tmp_path, how, message):
    words = ("run", "--methods", "toy_breaks", "--shots", "1", "--seeds", "0", f"method.how={how}")
    done = bench(*words, *cells, "--results", tmp_path / "r")
    assert done.code == 1
    assert message in done.out.replace("\n", " ")


@pytest.fixture
def attended():
    """SIGINT as at a terminal: a shell starts jobs in the background with it ignored."""
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, kept)


@pytest.mark.usefixtures("attended")
def test_an_interrupt_is_recorded_and_the_same_command_goes_on(bench, data, cells, tmp_path):
    words = ("run", "--methods", "toy_breaks", "--shots", "1", "--seeds", "0", *cells, "--results", tmp_path / "r")
    handler = signal.getsignal(signal.SIGINT)
    done = bench(*words, "method.how=interrupt")
    assert done.code == 130
    assert [record["status"] for record in records(tmp_path / "r")] == ["ok", "interrupted"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_limit_marks_rows(bench, data, cells, tmp_path):
    assert bench(*TOY, *cells, "--limit", "4", "--results", tmp_path / "r").code == 0
    assert pd.read_csv(tmp_path / "r" / "leaderboard.csv")["status"].str.startswith("limited").all()
    assert all(sum(n.values()) == 4 for record in records(tmp_path / "r") for n in record["counts"].values())


def test_changed_files_make_a_cell_stale(bench, data, cells, tmp_path):
    bench(*TOY, *cells, "--results", tmp_path / "r")
    save(image(99), data / "bottle" / "test" / "good" / "099.png")
    again = bench(*TOY, *cells, "--results", tmp_path / "r")
    assert "2 done, 2 stale; 2 to run" in again.out
    assert records(tmp_path / "r")[-1]["cell"]["categories"]


def test_dry_run_needs_no_data_and_writes_nothing(bench, cells, tmp_path):
    done = bench(*TOY, *cells, "--results", tmp_path / "r", "--dry-run")
    assert done.code == 0
    assert done.out.count("missing  toy_mean-mvtec_ad") == 4
    assert "(data absent)" in done.out
    assert "no data for 'mvtec_ad'" in done.out
    assert not (tmp_path / "r").exists()


def test_multi_class_is_one_cell_with_a_memory_per_category(bench, data, cells, tmp_path):
    words = ("run", "--methods", "toy_mean", "--protocols", "multi_class", "--shots", "1", "--seeds", "0")
    assert bench(*words, *cells, "--results", tmp_path / "r").code == 0
    (record,) = records(tmp_path / "r")
    assert set(record["metrics"]) == {"bottle", "metal_nut"}
    few = bench("run", "--methods", "toy_mean", "--shots", "1", "--seeds", "0", *cells, "--results", tmp_path / "r")
    assert few.code == 0
    single = {
        c: v for r in records(tmp_path / "r") if r["cell"]["protocol"] == "few_shot" for c, v in r["metrics"].items()
    }
    assert single == record["metrics"]


def test_the_tables_can_be_rebuilt_from_the_records(bench, data, cells, tmp_path):
    bench(*TOY, *cells, "--results", tmp_path / "r")
    before = {name: (tmp_path / "r" / name).read_bytes() for name in TABLES}
    for name in TABLES:
        (tmp_path / "r" / name).unlink()
    assert bench("leaderboard", tmp_path / "r").code == 0
    assert {name: (tmp_path / "r" / name).read_bytes() for name in TABLES} == before
