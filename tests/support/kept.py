"""Predictions beside the record of every cell, as a run keeps them."""

import numpy as np

from benchmark.execution.data import open_data, target
from benchmark.records.predictions import Predicted
from benchmark.request.cell import Cell
from datamodules.components.content import file_digest


def predicted_of(cell: Cell, *, maps: bool = True) -> Predicted:
    """What an imaginary method says of a cell's test images: the k-th scores k, on a map of 4 x 4 that grows."""
    data = open_data(target(cell), 32)
    samples = data.test_samples
    ramp = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    return Predicted(
        names=[data.relative(sample.image) for sample in samples],
        categories=[sample.category for sample in samples],
        contents=[file_digest(sample.image) for sample in samples],
        anomalous=np.array([sample.anomalous for sample in samples]),
        scores=np.arange(len(samples), dtype=np.float32),
        maps=np.stack([k + ramp for k in range(len(samples))]) if maps else None,
        finish={"size": [16, 16], "sigma": 1.0, "align_corners": False},
    )
