"""`bench published`: what others have published, and how far measured rows are from it."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmark.commands.columns import print_rows
from benchmark.commands.status import open_store
from benchmark.metrics.table import metric_names
from benchmark.records.beside import beside, words
from benchmark.records.leaderboard import long_table, wide_table
from benchmark.records.superseding import standing
from benchmark.request import registry
from benchmark.request.published import Figure, figures
from benchmark.request.registry import unknown

HEAD = ("method", "dataset", "protocol", "shots", "backbone", "px", "metric", "percent", "certainty", "source", "note")


def print_figures(method: str | None, dataset: str | None, metric: str | None, console: Console) -> None:
    """Print published figures with their sources.

    Raises:
        ConfigError: nobody has published anything of such a name.
    """
    chosen = _choose(method, dataset, metric)
    rows = [
        (f.method, f.dataset, f.protocol, f.shots or "?", f.backbone or "?", str(f.image_size or "?"), f.metric,
         f"{f.value:.2f}" + (f" ± {f.std:.2f}" if f.std is not None else ""), f.certainty, f.source, f.note)
        for f in sorted(chosen, key=lambda f: (f.dataset, f.protocol, f.shots, f.method, f.metric))
    ]  # fmt: skip
    print_rows(HEAD, rows, console)
    console.print(
        f"{len(rows)} figures; read: told by those who ran it; second_hand: quoted by others", highlight=False
    )


def print_beside(folder: Path, console: Console) -> None:
    """Print each mean of a results folder that somebody has published, beside it."""
    records = list(standing(open_store(folder).all_current()))
    table = beside(wide_table(long_table(records)), records)
    if table.empty:
        console.print(f"nobody has published what {folder} holds, as far as configs/published knows", highlight=False)
        return
    head = ("method", "dataset", "protocol", "shots", "metric", "published", "measured", "difference", "verdict")
    print_rows(head, [tuple(words(row)[name] for name in head) for row in table.to_dict("records")], console)


def _choose(method: str | None, dataset: str | None, metric: str | None) -> Sequence[Figure]:
    known = figures()
    names = _names(method, {figure.method for figure in known}) if method else None
    datasets = {figure.dataset for figure in known}
    if dataset and dataset not in datasets:
        raise unknown("data set with published figures", dataset, sorted(datasets))
    if metric and metric not in metric_names():
        raise unknown("metric", metric, metric_names())
    return [
        figure
        for figure in known
        if (names is None or figure.method in names)
        and dataset in (None, figure.dataset)
        and metric in (None, figure.metric)
    ]


def _names(method: str, known: set[str]) -> Sequence[str]:
    """What figures of a method are filed under: a name of the suite's, or one that sources use."""
    if method in registry.names("method"):
        return registry.method(method).published
    same = [name for name in known if name.lower() == method.lower()]
    if not same:
        raise unknown("method with published figures", method, sorted({*known, *registry.names("method")}))
    return same
