"""Lightning loggers of a cell: CSV always, W&B when asked. The record, not a logger, is the result."""

import base64
import json
import netrc
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

from benchmark.request.cell import Cell
from benchmark.request.groups import LoggerSettings

PATIENCE = 5.0  # seconds


@contextmanager
def cell_loggers(cell: Cell, attempt: int, logs: Path, results: Path, sweep: str) -> Iterator[list[Logger]]:
    """Open the loggers of one attempt; a W&B run is finished whatever happens, as failed if the cell raises."""
    loggers: list[Logger] = [CSVLogger(logs, name="", version="")]
    settings = cell.where.logger
    if settings.name != "wandb":
        yield loggers
        return
    loggers.append(_wandb_logger(cell, attempt, results, sweep, settings))
    import wandb  # noqa: PLC0415  (a second of import that a CSV run need not pay)

    try:
        yield loggers
    except BaseException:
        wandb.finish(exit_code=1)
        raise
    wandb.finish()


def log_metrics(loggers: list[Logger], metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Log the mean over categories of each defined metric, and each category's under test/by_class."""
    values: dict[str, float] = {}
    for category, found in metrics.items():
        for name, value in found.items():
            if value["value"] is not None:
                values[f"test/by_class/{category}/{name}"] = value["value"]
    for name in next(iter(metrics.values())):
        defined = [found[name]["value"] for found in metrics.values() if found[name]["value"] is not None]
        if defined:
            values[f"test/{name}"] = sum(defined) / len(defined)
    for logger in loggers:
        logger.log_metrics(values)
        logger.save()


def log_leaderboard(table: pd.DataFrame, settings: LoggerSettings, folder: Path, sweep: str) -> None:
    """One W&B run that holds the leaderboard of a sweep as a table."""
    import wandb  # noqa: PLC0415

    run = wandb.init(
        project=settings.project,
        entity=settings.entity,
        group=sweep,
        job_type="leaderboard",
        name=f"leaderboard {sweep}",
        dir=_wandb_folder(folder),
        mode=settings.mode,
        settings=_quiet(),
    )
    run.log({"leaderboard": wandb.Table(dataframe=table.astype(object).where(table.notna(), None))})
    run.finish()


def resolve_wandb_mode(settings: LoggerSettings) -> LoggerSettings:
    """The logger's settings with the mode decided: as asked, else WANDB_MODE, else online if there is a key."""
    if settings.name != "wandb" or settings.mode:
        return settings
    mode: Any = os.environ.get("WANDB_MODE")
    if not mode:
        import wandb  # noqa: PLC0415

        mode = "online" if os.environ.get("WANDB_API_KEY") or wandb.login(prompt=False) else "offline"
    return replace(settings, mode=mode)


def reach_wandb(settings: LoggerSettings) -> tuple[LoggerSettings, str]:
    """The settings, offline where the service cannot be reached or refuses the key, and why in one sentence, else "".

    It is asked once for a sweep, within `PATIENCE`, so that an outage costs no cell its time.
    """
    if settings.name != "wandb" or settings.mode != "online":
        return settings, ""
    problem = _ask_wandb()
    if not problem:
        return settings, ""
    words = f"W&B {problem}: runs are written offline; `wandb sync` uploads them later."
    return replace(settings, mode="offline"), words


def _base_url() -> str:
    import wandb  # noqa: PLC0415

    return str(wandb.setup().settings.base_url).rstrip("/")


def _key_in_netrc(base: str) -> str:
    """The key that `wandb login` has kept for a service."""
    try:
        found = netrc.netrc().authenticators(urllib.parse.urlsplit(base).hostname or "")
    except (OSError, netrc.NetrcParseError):
        return ""
    return str(found[2]) if found else ""


def _ask_wandb() -> str:
    """Why the service cannot be used, in words; "" if it can."""
    base = _base_url()
    key = os.environ.get("WANDB_API_KEY") or _key_in_netrc(base)
    token = base64.b64encode(f"api:{key or ''}".encode()).decode()
    body = json.dumps({"query": "query Viewer { viewer { id } }"}).encode()
    headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{base}/graphql", body, headers), timeout=PATIENCE
        ) as answer:
            viewer = json.loads(answer.read()).get("data", {}).get("viewer")
    except urllib.error.HTTPError as error:
        return "refuses the key" if error.code in (401, 403) else f"answers {error.code}"
    except (OSError, ValueError, AttributeError) as error:
        return f"cannot be reached at {base} ({getattr(error, 'reason', None) or error})"
    return "" if viewer else "refuses the key"


def _wandb_logger(cell: Cell, attempt: int, folder: Path, sweep: str, settings: LoggerSettings) -> WandbLogger:
    place = _wandb_folder(folder)
    return WandbLogger(
        project=settings.project,
        entity=settings.entity,
        id=f"{cell.id.rsplit('-', 1)[1]}-a{attempt}",
        name=f"{cell.method}/{cell.dataset}/{cell.part}/k{cell.shots}/seed{cell.seed}",
        group=sweep,
        job_type="cell",
        tags=[
            cell.method,
            cell.dataset,
            f"shots:{cell.shots}",
            f"protocol:{cell.protocol}",
            f"backbone:{cell.backbone_label}"[:64],
        ],
        config={"method": {"name": cell.method, **cell.settings.method}, "cell": cell.id, **_coordinates(cell)},
        save_dir=place,
        mode=settings.mode,
        settings=_quiet(),
    )


def _coordinates(cell: Cell) -> dict[str, Any]:
    return {
        "dataset": {"name": cell.dataset, **cell.settings.dataset},
        "protocol": {"name": cell.protocol, **asdict(cell.settings.protocol)},
        "backbone": asdict(cell.settings.backbone),
        "categories": list(cell.categories),
        "shots": cell.shots,
        "seed": cell.seed,
        "limit": cell.limit,
    }


def _wandb_folder(results: Path) -> Path:
    """The folder in which W&B makes its wandb/; staged tables lie there too, so one copy is enough for a sync."""
    for variable, name in (("WANDB_DATA_DIR", "data"), ("WANDB_CACHE_DIR", "cache"), ("WANDB_CONFIG_DIR", "config")):
        os.environ.setdefault(variable, str(results / "wandb" / name))
        Path(os.environ[variable]).mkdir(parents=True, exist_ok=True)
    return results


def _quiet() -> Any:
    import wandb  # noqa: PLC0415

    return wandb.Settings(console="off", silent=True, disable_git=True, save_code=False, init_timeout=PATIENCE * 2)
