"""From what was kept of a test to the predictions that lie beside its record, and back."""

from collections.abc import Sequence

import numpy as np
import torch

from benchmark.execution.evaluator import Kept
from benchmark.records.predictions import Predicted
from datamodules.components.base import AnomalyDataModule
from datamodules.components.content import file_digest


def predicted(kept: Sequence[Kept], data: AnomalyDataModule) -> Predicted:
    """Scores and raw maps of all test images in the order of the datamodule; call it before they are measured."""
    order = np.argsort(np.concatenate([part.indices.numpy() for part in kept]))
    raw = [part.raw_map for part in kept if part.raw_map is not None]
    alike = len({(maps.shape[1:], part.finish) for maps, part in zip(raw, kept, strict=False)}) == 1
    samples = data.test_samples
    return Predicted(
        names=[data.relative(sample.image) for sample in samples],
        categories=[sample.category for sample in samples],
        contents=[file_digest(sample.image) for sample in samples],
        anomalous=np.array([sample.anomalous for sample in samples]),
        scores=torch.cat([part.score for part in kept]).float().numpy()[order],
        maps=torch.cat(raw).numpy()[order] if alike and len(raw) == len(kept) else None,
        finish=kept[0].finish._asdict(),
    )
