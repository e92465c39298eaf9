"""What every logger is told of an attempt at a cell: name, tags, settings, metrics and cost."""

import json
from dataclasses import asdict
from math import isfinite
from typing import Any

from benchmark.records.store import Record
from benchmark.request.cell import VERSIONS

LONGEST = 64  # characters of a tag of W&B


def title(record: Record) -> str:
    """A name that a reader tells runs apart by."""
    cell = record.cell
    return f"{cell.label or cell.method}/{cell.dataset}/{cell.part}/k{cell.shots}/seed{cell.seed}"


def tags(record: Record) -> list[str]:
    """By which runs are found."""
    cell = record.cell
    words = [cell.method, cell.dataset, f"shots:{cell.shots}", f"protocol:{cell.protocol}"]
    return [word[:LONGEST] for word in (*words, f"backbone:{cell.backbone_label}")]


def settings(record: Record) -> dict[str, Any]:
    """The resolved request of the cell and where its numbers come from, as plain data."""
    cell = record.cell
    its = asdict(cell.settings)
    found = {
        "cell": record.cell_id,
        "attempt": record.attempt,
        "sweep": record.sweep,
        "method": its["method"] | {"name": cell.method, "label": cell.label or cell.method_label},
        "dataset": its["dataset"] | {"name": cell.dataset, "variant": cell.variant},
        "auxiliary": its["auxiliary"],
        "protocol": its["protocol"] | {"name": cell.protocol},
        "backbone": its["backbone"] | {"label": cell.backbone_label, "note": cell.note},
        "categories": cell.categories,
        "fitted": cell.fitted,
        "shots": cell.shots,
        "seed": cell.seed,
        "limit": cell.limit,
        "trainer": asdict(cell.where.trainer),
        "versions": VERSIONS,
        "provenance": record.provenance,
    }
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str))  # a tuple is a list wherever it is read
    return plain


def measured(record: Record) -> dict[str, float]:
    """The defined metrics: means over categories as test/METRIC, each category's as test/by_class/CATEGORY/METRIC."""
    by_class = [
        (category, name, value["value"])
        for category, found in record.metrics.items()
        for name, value in found.items()
        if value["value"] is not None
    ]
    every: dict[str, list[float]] = {}
    for _, name, value in by_class:
        every.setdefault(name, []).append(value)
    each = {f"test/by_class/{category}/{name}": value for category, name, value in by_class}
    return each | {f"test/{name}": sum(values) / len(values) for name, values in every.items()}


def cost(record: Record) -> dict[str, float]:
    """Seconds in all and by phase, peak memory in MiB, and the terms of the loss at the end of the fit."""
    found = {f"cost/{phase}_seconds": seconds for phase, seconds in record.seconds.items()}
    found["cost/seconds"] = sum(record.seconds.values())
    if record.peak_memory_mib is not None:
        found["cost/peak_memory_mib"] = record.peak_memory_mib
    terms = record.fit.get("terms", {})
    return found | {f"fit/{name}": value for name, value in terms.items() if value is not None and isfinite(value)}
