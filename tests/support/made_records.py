"""Records as a sweep would leave them, made up: one cell of one category, every image metric with one value."""

import numpy as np

from benchmark.records import predictions
from benchmark.records.store import Record
from benchmark.request.cell import Cell, CellSettings
from benchmark.request.groups import BackboneSettings, ProtocolSettings

METRICS = ("image_AUROC", "image_AP", "pixel_AUPRO")
MVTEC = (
    "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw", "tile",
    "toothbrush", "transistor", "wood", "zipper",
)  # fmt: skip


def made(method, category, seed, value, **changes):
    """A record; `changes` are fields of the record, the cell or the groups of settings `method_settings`, `protocol`.

    Its comparison is that of the data set, category, shots and, unless `draw` names another one, the seed.
    """
    told = {
        "dataset": "mvtec_ad",
        "shots": 1,
        "draw": seed,
        "method_settings": {},
        "size": 256,
        "limit": None,
    } | changes
    dataset, shots = told.pop("dataset"), told.pop("shots")
    settings = CellSettings(
        method=told.pop("method_settings"),
        protocol=ProtocolSettings(evaluation_size=told.pop("size")),
        backbone=BackboneSettings(name="ViT-B-32", pretrained="real"),
    )
    protocol = "few_shot" if shots else "zero_shot"
    cell = Cell(method, dataset, "standard", protocol, (category,), shots, seed, told.pop("limit"), settings)
    draw = told.pop("draw") * (shots > 0)
    measured = {name: {"value": value, "reason": ""} for name in METRICS}
    fields = {
        "comparison_id": f"{dataset} {category} {shots} {draw}",
        "content": {"code": {f"methods/{method}.py": "1"}},
    }
    return Record(cell.id, 1, "ok", "s", [], cell, "", metrics={category: measured}, **fields | told)


def scored(folder, record, normal, anomalous, category=None):
    """Keep scores of the test images of a record's only category."""
    scores = np.concatenate([normal, anomalous]).astype(np.float32)
    category, count = category or record.cell.part, len(scores)
    names = [f"{category}/{number:04}.png" for number in range(count)]
    truth = np.arange(count) >= len(normal)
    kept = predictions.Predicted(names, [category] * count, names, truth, scores, None, {})
    path = predictions.path_of(folder, record)
    path.parent.mkdir(parents=True, exist_ok=True)
    predictions.write(path, kept)
