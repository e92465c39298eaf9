"""Records whose numbers are made up, for pages and tables: no data set and no CLIP is behind them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.metrics.table import metric_names
from benchmark.records.leaderboard import LeaderboardTables, write_tables
from benchmark.records.store import Record, Store
from benchmark.request.cell import Cell, CellSettings, Where
from benchmark.request.groups import BackboneSettings, ProtocolSettings

PROTOCOL = ProtocolSettings(evaluation_size=8, precision="fp32", auxiliary=None)
HALF: dict[str, float | None] = dict.fromkeys(metric_names(), 0.5)


def made_up(
    method: str,
    dataset: str = "plugin_set",
    categories: Sequence[str] = ("bolt",),
    *,
    shots: int = 1,
    seed: int = 0,
    values: float | Mapping[str, float | None] = 0.5,
    settings: Mapping[str, object] | None = None,
    root: Path | None = None,
    seconds: float = 1.0,
    status: str = "ok",
    **fields: object,
) -> Record:
    """The record of one cell; a number stands for all metrics, a mapping for some, the others being 0.5.

    Settings of the method count as changed; fields are those of a `Record`.
    """
    backbone = BackboneSettings(name="ViT-B-32", pretrained="openai")
    asked = CellSettings(method=settings or {}, protocol=PROTOCOL, backbone=backbone)
    cell = Cell(
        method, dataset, "standard", "few_shot", tuple(categories), shots, seed, None, asked,
        {"protocol": vars(PROTOCOL)}, joint=len(categories) > 1, where=Where(root=str(root) if root else None),
    )  # fmt: skip
    found = dict.fromkeys(metric_names(), values) if isinstance(values, float) else {**HALF, **values}
    metrics = {name: {"value": value, "reason": "no masks" * (value is None)} for name, value in found.items()}
    made = {
        "content": {"code": {f"methods/{method}.py": "1"}},
        "comparison_id": f"{dataset}-{shots}-{'-'.join(categories)}",
        "metrics": dict.fromkeys(categories, metrics) if status == "ok" else {},
        "leaks": {"tested": 10},
        "seconds": {"load": 9.0, "fit": 2.0, "test": seconds, "metrics": 0.5},
        "peak_memory_mib": 100.5,
        "provenance": {"device": "cpu, 1 threads", "host": "here", "python": "3.11", "commit": "0123456789abcdef"},
    }
    return Record(cell.id, 1, status, "sweep", ["bench"], cell, "2026-01-01T00:00:00+00:00", **{**made, **fields})


def results(folder: Path, records: Sequence[Record]) -> tuple[Store, LeaderboardTables]:
    """A results folder of these records with its tables."""
    store = Store(folder)
    for record in records:
        store.save(record)
    return store, write_tables(folder, store.all_current())
