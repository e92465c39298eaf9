"""W&B without a key: offline runs, one per cell and one for the leaderboard, read back with W&B's own reader."""

import json

import pandas as pd
import pytest
from kept import predicted_of
from wandb_files import runs, table

from benchmark.commands import dashboard
from benchmark.execution.loggers.reach import decide
from benchmark.records.store import Store
from benchmark.request.groups import LoggerSettings

RUN = ("run", "--methods", "toy_learns,toy_breaks", "--shots", "1", "--seeds", "0", "logger=wandb", "logger.worst=3")


@pytest.fixture
def found(bench, data, cells, tmp_path, kept):
    """What a sweep said and left; toy_breaks fails for one of two categories."""
    done = bench(*RUN, *cells, "--results", tmp_path / "r")
    assert done.code == 1
    return done, runs(tmp_path / "r"), tmp_path / "r"


@pytest.mark.slow
def test_a_sweep_without_a_key_is_read_back_whole(found):
    done, by_type, folder = found
    sentence = f"note: no key for W&B was found: runs are written offline; `wandb sync {folder}/wandb/offline-run-*`"
    assert done.out.count(sentence) == 1
    assert [len(by_type["cell"]), len(by_type["leaderboard"])] == [4, 1]
    (group,) = {run["run_group"] for its in by_type.values() for run in its}
    assert (folder / "sweeps" / f"{group}.json").is_file()
    assert sorted(run["exit_code"] for run in by_type["cell"]) == [0, 0, 0, 1]
    store = Store(folder)
    for run in by_type["cell"]:
        record = store.whole(store.current(run["config"]["cell"]))
        assert record.remarks == []
        check_request(run, record)
        if record.status == "ok":
            check_metrics(run, record)
            check_images(run, record)
        else:
            assert not any(key.startswith(("test/", "cost/")) for key in run["summary"])
    check_curve([run for run in by_type["cell"] if run["config"]["method"]["name"] == "toy_learns"], folder)
    check_leaderboard(by_type["leaderboard"][0], folder)
    check_dashboard(by_type)


def check_request(run, record):
    cell, config = record.cell, run["config"]
    assert {cell.method, "mvtec_ad", "shots:1", "protocol:few_shot", "backbone:embedded-demo"} == set(run["tags"])
    assert (config["method"], config["dataset"]) == (
        {**cell.settings.method, "name": cell.method, "label": cell.method_label},
        {**cell.settings.dataset, "name": "mvtec_ad", "variant": cell.variant},
    )
    assert config["protocol"]["evaluation_size"] == 24
    assert config["protocol"]["name"] == "few_shot"
    assert (config["shots"], config["seed"], config["categories"]) == (1, 0, list(cell.categories))
    assert config["trainer"]["batch_size"] == 16
    assert config["provenance"]["packages"] == record.provenance["packages"]


def check_metrics(run, record):
    (category,) = record.metrics
    for name, value in record.metrics[category].items():
        assert run["summary"][f"test/{name}"] == run["summary"][f"test/by_class/{category}/{name}"] == value["value"]
    assert run["summary"]["cost/seconds"] == pytest.approx(sum(record.seconds.values()))
    assert run["summary"]["cost/fit_seconds"] == record.seconds["fit"]
    assert run["summary"]["cost/peak_memory_mib"] == record.peak_memory_mib


def check_images(run, record):
    said = predicted_of(record.cell)
    shown = table(run, "test/images")
    assert shown["columns"] == ["image", "category", "anomalous", "score"]
    facts = (said.names, said.categories, said.anomalous.tolist(), said.scores.tolist())
    assert shown["data"] == [list(row) for row in zip(*facts, strict=True)]
    worst = run["summary"]["test/worst"]
    assert (worst["count"], worst["width"], worst["height"]) == (3, 512, 256)
    assert len(list((run["files"] / "media/images/test").glob("worst_*.png"))) == 3
    assert all(caption.startswith(f"{record.cell.part}: {record.cell.part}/test/") for caption in worst["captions"])


def check_curve(its, folder):
    assert len(its) == 2
    for run in its:
        csv = pd.read_csv(folder / "cells" / run["config"]["cell"] / "attempt-1" / "metrics.csv")
        losses = csv.dropna(subset=["train/loss"])
        curve = [(each["trainer/global_step"], each["train/loss"]) for each in run["history"] if "train/loss" in each]
        assert curve == list(zip(losses["step"], losses["train/loss"], strict=True))
        assert [step for step, _ in curve] == [0, 1, 2]  # three epochs on one shot


def check_leaderboard(run, folder):
    for name in ("leaderboard", "leaderboard_by_category"):
        csv, shown = pd.read_csv(folder / f"{name}.csv"), table(run, name)
        assert shown["columns"] == [*csv]
        told = pd.DataFrame(shown["data"], columns=shown["columns"])
        pd.testing.assert_frame_equal(told.astype(csv.dtypes), csv, check_dtype=False)
    logged = [line["artifact"] for line in run["lines"] if line["type"] == "artifact"]
    (files,) = [each for each in logged if each["type"] == "leaderboard"]
    assert {entry["path"] for entry in files["manifest"]["contents"]} >= {"leaderboard.md", "leaderboard.csv"}


def check_dashboard(by_type):
    """Every key that the workspace shows is one that a run has."""
    keys = {key for its in by_type.values() for run in its for key in run["summary"]}
    spec = dashboard.workspace("me", "p")._to_model().model_dump(mode="json", by_alias=True)["spec"]
    panels = [panel for its in spec["section"]["panelBankConfig"]["sections"] for panel in its["panels"]]
    shown = [panel["config"].get(name) or [] for panel in panels for name in ("metrics", "mediaKeys")]
    assert {key for its in shown for key in its} <= keys
    assert len(panels) == 7 + 1 + 6 + 1 + 2
    assert all(f'"{name}"' in json.dumps(panels) for name in ("leaderboard", "leaderboard_by_category"))


def test_the_mode_is_asked_or_found(monkeypatch, tmp_path):
    settings = LoggerSettings(name="wandb")
    assert decide(settings, tmp_path)[0].mode == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert decide(settings, tmp_path) == (LoggerSettings(name="wandb", mode="disabled"), "")
    found, why = decide(LoggerSettings(name="wandb", mode="offline"), tmp_path / "a b")
    assert found.mode == "offline"
    assert why == (
        f"logger.mode=offline: runs are written offline; `wandb sync '{tmp_path}/a b'/wandb/offline-run-*` "
        "uploads them later."
    )
