"""TensorBoard and MLflow, by Lightning's loggers, in the results folder."""

import os
from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger

from benchmark.execution.loggers import told
from benchmark.records.predictions import Predicted
from benchmark.records.store import Record
from benchmark.request.groups import LoggerSettings
from datamodules.components.sample import UserError

#: How long the client of MLflow waits for a server; unset, it would for minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


class LoggerError(UserError):
    """A logger that was asked for cannot be written to."""


class TensorBoard:
    """Files in `tensorboard/CELL/attempt-N` of the results folder."""

    def __init__(self, record: Record, results: Path) -> None:
        name, version = record.cell_id, f"attempt-{record.attempt}"
        self.logger = TensorBoardLogger(results / "tensorboard", name, version, default_hp_metric=False)

    def tell(self, record: Record, values: Mapping[str, float], predicted: Predicted | None) -> None:
        """As `Outlet.tell`; settings and metrics make the tab of hyper-parameters, nothing is said of single images."""
        self.logger.log_hyperparams(told.settings(record), dict(values))
        self.logger.save()

    def close(self, *, well: bool) -> None:
        """As `Outlet.close`; a file of TensorBoard does not say how its run ended."""
        self.logger.finalize("success" if well else "failed")


class MLflow:
    """A run on the server of MLFLOW_TRACKING_URI, else in `mlruns` of the results folder."""

    def __init__(self, record: Record, results: Path) -> None:
        uri = _tracking_uri(results)
        self.logger = MLFlowLogger(
            experiment_name=record.cell.where.logger.project or "",
            run_name=told.title(record),
            tracking_uri=uri,
            tags={"group": record.sweep, "job_type": "cell", "cell": record.cell_id, "attempt": str(record.attempt)},
        )
        self.logger.log_hyperparams(told.settings(record))

    def tell(self, record: Record, values: Mapping[str, float], predicted: Predicted | None) -> None:
        """As `Outlet.tell`; nothing is said of single images."""
        self.logger.log_metrics(dict(values))

    def close(self, *, well: bool) -> None:
        """As `Outlet.close`."""
        self.logger.finalize("success" if well else "failed")


def make_experiment(settings: LoggerSettings, folder: Path) -> None:
    """Make the experiment before cells would at once; LoggerError if MLflow cannot be written to."""
    uri = _tracking_uri(folder)
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  (an optional package)
    from mlflow.tracking import MlflowClient  # noqa: PLC0415

    try:
        client = MlflowClient(uri)
        if client.get_experiment_by_name(settings.project or "") is None:
            client.create_experiment(settings.project or "")
    except (MlflowException, OSError) as error:
        raise LoggerError(f"MLflow at {uri} cannot be used: {str(error).partition(chr(10))[0]}") from error


def _tracking_uri(results: Path) -> str:
    """Where MLflow keeps runs; sets what its client does by default to be of use there, unless the user has said it."""
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a database is no place for cells that write at once
    return os.environ.get("MLFLOW_TRACKING_URI") or (results / "mlruns").absolute().as_uri()
