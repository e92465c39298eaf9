"""One W&B run per attempt at a cell."""

import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from benchmark.execution.loggers import pictures, reach, told
from benchmark.records.predictions import Predicted
from benchmark.records.store import Record
from benchmark.request.groups import LoggerSettings

TABLE, WORST = "test/images", "test/worst"  # keys of the table of images and of the pictures
UPLOAD = 60.0  # seconds that the end of a run may take where the service answers


class WandbRun:
    """Curves while it is fitted, then metrics, cost, a table of its images and the worst of them."""

    def __init__(self, record: Record, results: Path) -> None:
        """Open the run; offline where the service does not take it.

        Raises:
            wandb.Error: not even that can be had.
        """
        import wandb  # noqa: PLC0415

        settings = reach.still_online(record.cell.where.logger)
        try:
            self.logger = _open(record, results, settings)
        except wandb.Error:
            if settings.mode != "online":
                raise
            self.logger = _open(record, results, replace(settings, mode="offline"))

    def tell(self, record: Record, values: Mapping[str, float], predicted: Predicted | None) -> None:
        """As `Outlet.tell`; every value stands in the run's summary too."""
        import wandb  # noqa: PLC0415

        run = self.logger.experiment
        run.log(dict(values))
        if predicted is None:
            return
        shown = pictures.worst_of(record.cell, predicted, record.cell.where.logger.worst)
        if shown:
            run.log({WORST: [wandb.Image(its.pixels, caption=its.caption) for its in shown]})
        columns = ("image", "category", "anomalous", "score")
        rows = zip(
            predicted.names,
            predicted.categories,
            predicted.anomalous.tolist(),
            predicted.scores.tolist(),
            strict=True,
        )
        run.log({TABLE: wandb.Table(columns=[*columns], data=[[*row] for row in rows])})  # last: it asks the service

    def close(self, *, well: bool) -> None:
        """As `Outlet.close`; TimeoutError where the service takes too long, and the files then wait for a sync."""
        run = self.logger.experiment
        place = shlex.quote(str(Path(run.dir).parent.absolute()))
        try:
            run.finish(exit_code=0 if well else 1)
        except TimeoutError as error:
            words = f"W&B did not take all in {UPLOAD:g} s; `wandb sync --no-skip-online {place}` uploads the rest"
            raise TimeoutError(words) from error


def _open(record: Record, results: Path, settings: LoggerSettings) -> WandbLogger:
    logger = WandbLogger(
        project=settings.project,
        entity=settings.entity,
        id=f"{record.cell_id.rsplit('-', 1)[1]}-a{record.attempt}-{secrets.token_hex(3)}",  # none is ever used again
        name=told.title(record),
        group=record.sweep,
        job_type="cell",
        tags=told.tags(record),
        config=told.settings(record),
        save_dir=in_folder(results),
        mode=settings.mode,
        settings=quiet(init_timeout=2 * reach.PATIENCE, finish_timeout=UPLOAD, finish_timeout_raises=True),
    )
    _ = logger.experiment  # Lightning opens the run only when it is asked for
    return logger


def in_folder(results: Path) -> Path:
    """The folder in which W&B makes its wandb/; what artifacts stage lies there too, so that one copy is whole."""
    for variable, name in (("WANDB_DATA_DIR", "data"), ("WANDB_CACHE_DIR", "cache"), ("WANDB_CONFIG_DIR", "config")):
        os.environ.setdefault(variable, str(results.absolute() / "wandb" / name))
        Path(os.environ[variable]).mkdir(parents=True, exist_ok=True)
    return results


def quiet(**more: Any) -> Any:
    """Settings of a run that prints nothing and uploads nothing that nobody asked for."""
    import wandb  # noqa: PLC0415

    return wandb.Settings(console="off", silent=True, disable_git=True, save_code=False, **more)
