"""The loggers of an attempt at a cell: CSV always, another where asked for. The record, not a logger, is the result."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger

from benchmark.execution.loggers import boards, reach, told
from benchmark.execution.loggers.shield import Outlet, Shielded
from benchmark.execution.loggers.wandb_run import WandbRun
from benchmark.records.predictions import Predicted
from benchmark.records.store import Record
from benchmark.request.groups import LoggerSettings

OUTLETS: dict[str, Callable[[Record, Path], Outlet]] = {
    "wandb": WandbRun,
    "tensorboard": boards.TensorBoard,
    "mlflow": boards.MLflow,
}


def prepare(settings: LoggerSettings, folder: Path) -> tuple[LoggerSettings, str]:
    """Decide once for a sweep what its cells would else find out one by one.

    Args:
        settings: as asked for.
        folder: of the results.

    Returns:
        the settings with the mode of W&B decided, and what the user should know, in a sentence, or "".

    Raises:
        LoggerError: MLflow cannot be written to.
    """
    if settings.name == "mlflow":
        boards.make_experiment(settings, folder)
    return reach.decide(settings, folder) if settings.name == "wandb" else (settings, "")


@contextmanager
def cell_loggers(record: Record, logs: Path, results: Path) -> Iterator[list[Logger]]:
    """Open the loggers of the attempt that a record is begun of; they are closed whatever happens.

    Args:
        record: begun; its cell says which loggers.
        logs: folder of the attempt.
        results: the results folder.
    """
    csv, name = CSVLogger(logs, name="", version=""), record.cell.where.logger.name
    if name == "csv":
        yield [csv]
        return
    shielded = Shielded(name, lambda: OUTLETS[name](record, results))
    try:
        yield [csv, shielded]
    except BaseException:
        shielded.close(well=False)
        raise
    shielded.close(well=True)


def finish(loggers: Sequence[Logger], record: Record, predicted: Predicted | None) -> None:
    """Log what a finished cell came to: metrics, cost and, where predictions were kept, what was said of each image."""
    values = told.measured(record) | told.cost(record)
    for logger in loggers:
        if isinstance(logger, Shielded):
            logger.tell(record, values, predicted)
        else:
            logger.log_metrics(values)
            logger.save()


def problems(loggers: Sequence[Logger]) -> list[str]:
    """Why a logger has stopped, a sentence each."""
    return [logger.problem for logger in loggers if isinstance(logger, Shielded) and logger.problem]
