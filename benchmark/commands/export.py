"""`bench export`: what is fitted, and what other programs show of it, for use without this package."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmark.request.registry import ConfigError

app = typer.Typer(help="Export a fitted method, or what other programs show.", add_completion=False)


@app.callback(invoke_without_command=True)
def export(
    ctx: typer.Context,
    record: Annotated[
        Path | None, typer.Option(help="RESULTS/cells/ID/attempt-N.json, or RESULTS/cells/ID for its current record")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="folder; default RESULTS/exported/ID")] = None,
    category: Annotated[str | None, typer.Option(help="of a record of several categories: which")] = None,
    batch: Annotated[int, typer.Option(help="images that the model takes at once", min=1)] = 1,
) -> None:
    """Write the method of a record as model.onnx and model.pt2, which run without this package, proven equal to it."""
    if ctx.invoked_subcommand:
        if record or output or category or batch > 1:
            raise ConfigError(
                f"--record, --output, --category and --batch stand alone, not before {ctx.invoked_subcommand}."
            )
        return
    if record is None:
        print(ctx.get_help())
        return
    from benchmark.commands import export_model  # noqa: PLC0415  (torch)

    raise typer.Exit(export_model.export_model(record, output, category, batch, Console()))


@app.command("wandb-dashboard")
def wandb_dashboard(
    entity: Annotated[str | None, typer.Option(help="user or team; default: yours")] = None,
    project: Annotated[str | None, typer.Option(help="default: that of configs/logger/wandb.yaml")] = None,
    output: Annotated[Path | None, typer.Option(help="a JSON file to write it to, without asking W&B")] = None,
) -> None:
    """Make a workspace of W&B: metrics by method, loss curves, cost, the worst images, the leaderboard."""
    from benchmark.commands import dashboard  # noqa: PLC0415  (wandb)

    print(dashboard.export(entity, project, output))
