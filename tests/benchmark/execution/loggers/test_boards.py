"""TensorBoard and MLflow, each read back with its own reader; what is missing is said before any cell runs."""

import json
import sys

import pandas as pd
import pytest

RUN = ("run", "--methods", "toy_learns,toy_breaks", "--shots", "2", "--seeds", "0")


def outcome(folder):
    """The records of a folder and, of each, the losses that its CSV holds by step."""
    for path in sorted(folder.glob("cells/*/attempt-1.json")):
        csv = pd.read_csv(path.with_suffix("") / "metrics.csv") if json.loads(path.read_text())["metrics"] else None
        losses = csv.dropna(subset=["train/loss"]) if csv is not None and "train/loss" in csv else pd.DataFrame()
        yield json.loads(path.read_text()), dict(zip(losses.get("step", ()), losses.get("train/loss", ()), strict=True))


def measured(record):
    (metrics,) = record["metrics"].values()
    return {f"test/{name}": value["value"] for name, value in metrics.items()}


def same(value):
    return pytest.approx(value, rel=1e-6)  # TensorBoard keeps single precision


@pytest.mark.slow
def test_tensorboard_has_the_curves_the_metrics_and_the_settings(bench, data, cells, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert bench(*RUN, *cells, "logger=tensorboard", "--results", tmp_path / "r").code == 1
    found = list(outcome(tmp_path / "r"))
    assert [record["status"] for record, _ in found] == ["ok", "failed", "ok", "ok"]
    for record, losses in found:
        events = EventAccumulator(str(tmp_path / "r" / "tensorboard" / record["cell_id"] / "attempt-1"))
        events.Reload()
        scalars = events.Tags()["scalars"]
        if record["status"] == "failed":
            assert not [name for name in scalars if name.startswith("test/")]
            continue
        told = {name: events.Scalars(name)[-1].value for name in scalars}
        assert told["cost/seconds"] == same(sum(record["seconds"].values()))
        assert {name: told[name] for name in measured(record)} == same(measured(record))
        assert "hparams" in events.summary_metadata["_hparams_/session_start_info"].plugin_data.plugin_name
        if record["cell"]["method"] == "toy_learns":
            assert {each.step: each.value for each in events.Scalars("train/loss")} == same(losses)
            assert sorted(losses) == [0, 1, 2]


@pytest.mark.slow
def test_mlflow_has_the_curves_the_metrics_and_the_settings(bench, data, cells, tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    assert bench(*RUN, *cells, "logger=mlflow", "logger.project=mine", "--results", tmp_path / "r").code == 1
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient((tmp_path / "r" / "mlruns").as_uri())
    (experiment,) = [its for its in client.search_experiments() if its.name == "mine"]
    runs = {run.data.tags["cell"]: run for run in client.search_runs([experiment.experiment_id])}
    found = list(outcome(tmp_path / "r"))
    assert len(found) == len(runs) == 4
    for record, losses in found:
        run = runs[record["cell_id"]]
        assert run.info.status == ("FINISHED" if record["status"] == "ok" else "FAILED")
        assert (run.data.tags["group"], run.data.tags["attempt"]) == (record["sweep"], "1")
        assert run.data.params["method/name"] == record["cell"]["method"]
        assert run.data.params["protocol/evaluation_size"] == "24"
        if record["status"] == "failed":
            assert not [name for name in run.data.metrics if name.startswith("test/")]
            continue
        assert {name: run.data.metrics[name] for name in measured(record)} == measured(record)
        assert run.data.metrics["cost/peak_memory_mib"] == record["peak_memory_mib"]
        if record["cell"]["method"] == "toy_learns":
            history = client.get_metric_history(run.info.run_id, "train/loss")
            assert {each.step: each.value for each in history} == losses
            assert sorted(losses) == [0, 1, 2]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_package_is_a_sentence_before_any_cell_runs(bench, data, cells, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    done = bench(*RUN, *cells, f"logger={name}", "--results", tmp_path / "r")
    assert done.code == 2
    assert done.err == f"error: logger={name} needs the package {name}: pip install 'clip-ad-bench[{name}]'.\n"
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_an_absent_server_of_mlflow_is_a_sentence_before_any_cell_runs(bench, data, cells, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    done = bench(*RUN, *cells, "logger=mlflow", "--results", tmp_path / "r")
    assert done.code == 2
    assert done.err.startswith("error: MLflow at http://127.0.0.1:9 cannot be used: ")
    assert done.err.count("\n") == 1
    assert not list(tmp_path.glob("r/cells/*/attempt-*.json"))
