"""A W&B workspace as code, by `wandb-workspaces`: the sections in which the runs of a sweep are read."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmark.execution.loggers import reach
from benchmark.execution.loggers.leaderboard import TABLES
from benchmark.execution.loggers.wandb_run import WORST
from benchmark.execution.run_cell import PHASES
from benchmark.metrics.table import metric_names
from benchmark.records.store import write_atomic
from benchmark.request.registry import ConfigError
from benchmark.request.settings import chosen
from datamodules.components.sample import UserError

NAME = "clip-ad-bench"


class DashboardError(UserError):
    """The workspace cannot be saved."""


def export(entity: str | None, project: str | None, output: Path | None) -> str:
    """Save the workspace, or write it to a file.

    Args:
        entity: user or team; None takes the default one of the key.
        project: None takes that of configs/logger/wandb.yaml.
        output: a file to write instead, without asking the service.

    Returns:
        where it is.

    Raises:
        ConfigError: the package is missing.
        DashboardError: there is no key, or the service does not take it.
    """
    if find_spec("wandb_workspaces") is None:
        raise ConfigError(
            "bench export wandb-dashboard needs the package wandb-workspaces: "
            "pip install 'clip-ad-bench[wandb-dashboard]'."
        )
    project = project or str(chosen("logger", "wandb").values["logger"]["project"])
    if output:
        view = workspace(entity or "", project)._to_model()
        write_atomic(
            output, json.dumps(view.model_dump(mode="json", by_alias=True, exclude_none=True), indent=1) + "\n"
        )
        return str(output)
    return _save(entity, project)


def _save(entity: str | None, project: str) -> str:
    import wandb  # noqa: PLC0415

    if not reach.has_key():
        raise DashboardError("no key for W&B was found: `wandb login` keeps one; --output FILE needs none.")
    if why := reach.ask():
        raise DashboardError(f"W&B {why}; --output FILE writes the workspace without it.")
    try:
        return str(workspace(entity or str(wandb.Api().default_entity), project).save().url)
    except (wandb.Error, OSError, ValueError, KeyError, TypeError) as error:
        words = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise DashboardError(f"W&B did not take the workspace ({words}).") from error


def workspace(entity: str, project: str) -> Any:
    """The workspace, built and not yet saved; bars and curves stand for one method on one data set each."""
    import wandb_workspaces.reports.v2 as wr  # noqa: PLC0415  (an optional package)
    import wandb_workspaces.workspaces as ws  # noqa: PLC0415

    def bars(title: str, metric: str) -> Any:
        return wr.BarPlot(title=title, metrics=[metric], orientation="h")

    sections = {
        "Image metrics": [bars(name, f"test/{name}") for name in metric_names("image")],
        "Pixel metrics": [bars(name, f"test/{name}") for name in metric_names("pixel")],
        "Loss curves": [wr.LinePlot(title="train/loss", x="trainer/global_step", y=["train/loss"])],
        "Cost": [
            bars("seconds", "cost/seconds"),
            *(bars(f"seconds of {phase}", f"cost/{phase}_seconds") for phase in PHASES),
            bars("peak memory in MiB", "cost/peak_memory_mib"),
        ],
        "Worst images": [wr.MediaBrowser(title="worst images", media_keys=[WORST], num_columns=2)],
        "Leaderboard": [wr.WeavePanelSummaryTable(table_name=name) for name in TABLES],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items()],
        runset_settings=ws.RunsetSettings(groupby=[ws.Config("method.label"), ws.Config("dataset.name")]),
    )
