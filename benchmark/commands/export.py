"""`bench export`: what other programs show, made from code."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make what other programs show, from code.", no_args_is_help=True, add_completion=False)


@app.callback()
def _group() -> None:
    """Let the commands below keep their names, also where there is one alone."""


@app.command("wandb-dashboard")
def wandb_dashboard(
    entity: Annotated[str | None, typer.Option(help="user or team; default: yours")] = None,
    project: Annotated[str | None, typer.Option(help="default: that of configs/logger/wandb.yaml")] = None,
    output: Annotated[Path | None, typer.Option(help="a JSON file to write it to, without asking W&B")] = None,
) -> None:
    """Make a workspace of W&B: metrics by method, loss curves, cost, the worst images, the leaderboard."""
    from benchmark.commands import dashboard  # noqa: PLC0415  (wandb)

    print(dashboard.export(entity, project, output))
