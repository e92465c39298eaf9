"""Measures one test run. While it runs, predictions alone are kept; the truth is looked at when it is over."""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from benchmark.metrics.accumulate import ImageMetrics, PixelMetrics
from benchmark.metrics.binned import BinnedPixelMetrics
from benchmark.metrics.table import MetricValue, metric_names
from datamodules.components.base import AnomalyDataModule
from datamodules.components.decoding import RegionRule
from datamodules.components.reading import Regions, read_regions
from datamodules.components.sample import Sample, UnlabelledBatch
from methods.components.base import Method
from methods.components.prediction import AS_IT_IS, Finish, Prediction

#: Pixels of a category up to which its metrics are exact, on every machine: 2 GiB of maps.
EXACT_PIXELS = 2**29
#: Bytes of maps that are kept in memory; further ones lie in a file without a name.
IN_MEMORY = 2**32
NO_MASKS = "no masks in this data set"
TRANSDUCTIVE = "Image scores are transductive: each depends on the other test images of its category."


class Kept(NamedTuple):
    """What a method said of B test images."""

    indices: Tensor  # (B,) int64, places in the datamodule's `test_samples`
    score: Tensor  # (B,) on the CPU
    anomaly_map: Tensor  # (B, size, size) float32 on the CPU
    raw_map: Tensor | None = None  # (B, rows, columns) float32 on the CPU; None where none is kept
    finish: Finish = AS_IT_IS


class Predictions(Callback):
    """Keeps what a method says of each test image. It has never seen a label, so none is within a method's reach."""

    def __init__(self, size: int, raw_bytes: float = 0) -> None:
        """Enlarge or reduce maps to squares of side `size`, pixels; keep raw ones too, all if they fit `raw_bytes`."""
        self.size = (size, size)
        self.kept: list[Kept] = []
        self._bytes = 0
        self._raw_bytes = raw_bytes

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: UnlabelledBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.take(outputs, batch)

    def take(self, outputs: Prediction, batch: UnlabelledBatch) -> None:
        """Keep what was said of a batch."""
        check_shapes(outputs, batch)
        maps = F.interpolate(outputs.anomaly_map[:, None].float(), self.size, mode="bilinear", align_corners=False)
        placed = self._place(maps[:, 0].cpu())
        score, raw = outputs.score.detach().cpu().clone(), self._keep_raw(outputs.raw_map)
        self.kept.append(Kept(batch.indices.cpu(), score, placed, raw, outputs.finish))

    def _keep_raw(self, maps: Tensor) -> Tensor | None:
        """The maps on the CPU, as long as all fit; they are written with half the bytes of a float."""
        self._raw_bytes -= maps.numel() * 2
        return maps.detach().float().cpu().clone() if self._raw_bytes >= 0 else None

    def _place(self, maps: Tensor) -> Tensor:
        """The maps, in memory or, beyond `IN_MEMORY` bytes, in a file that is gone with them."""
        self._bytes += maps.nbytes
        if self._bytes <= IN_MEMORY:
            return maps
        with tempfile.TemporaryFile() as file:
            stored = np.memmap(file, np.float32, "w+", shape=tuple(maps.shape))  # the mapping keeps the file
        stored[:] = maps.numpy()
        return torch.from_numpy(stored)

    def gather(self) -> list[Kept]:
        """What all ranks kept, in the order of one process; emptied here."""
        parts: list[Any] = [self.kept]
        if dist.is_available() and dist.is_initialized():
            parts = [None] * dist.get_world_size()
            dist.all_gather_object(parts, self.kept)
        self.kept = []
        return sorted((kept for part in parts for kept in part), key=lambda kept: int(kept.indices[0]))


def rescored(method: Method, kept: list[Kept], samples: Sequence[Sample]) -> list[Kept]:
    """What was kept, with the scores that a transductive method makes of all images of a category at once.

    The method's remarks then say so.

    Args:
        method: who predicted; one that is not transductive changes nothing.
        kept: of a `Predictions`.
        samples: the test images, in the order of `Kept.indices`; their categories alone are looked at.

    Raises:
        ValueError: the method gives another number of scores.
    """
    if not method.transductive:
        return kept
    if TRANSDUCTIVE not in method.remarks:
        method.remarks.append(TRANSDUCTIVE)
    images = {index: (part, row) for part in kept for row, index in enumerate(part.indices.tolist())}
    scores: dict[int, Tensor] = {}
    for category in dict.fromkeys(samples[index].category for index in images):
        its = [index for index in images if samples[index].category == category]
        places = [images[index] for index in its]
        score = torch.stack([part.score[row] for part, row in places])
        new = method.rescore(Prediction(score, torch.stack([part.anomaly_map[row] for part, row in places])))
        if new.shape != (len(its),):
            raise ValueError(f"rescore must return ({len(its)},), one score for each image; got {tuple(new.shape)}.")
        scores |= zip(its, new.detach().cpu(), strict=True)
    return [part._replace(score=torch.stack([scores[index] for index in part.indices.tolist()])) for part in kept]


class Measured(NamedTuple):
    """What a test run came to, by category."""

    metrics: dict[str, dict[str, MetricValue]]
    counts: dict[str, dict[str, int]]
    regions: dict[str, dict[str, Any]]  # found in the masks, and images some of whose regions have no pixel left
    half_widths: dict[str, dict[str, float]]  # of categories whose pixel metrics are of bins


class Evaluator(Predictions):
    """Measures the test of any trainer: `Trainer(callbacks=[Evaluator(256)]).test(method, datamodule)`.

    The trainer logs, and `test` returns, "CATEGORY/METRIC" and, as "METRIC", the mean over the categories that define
    it, rounded to float32; `measured` has them in full. `bench run` measures after the test instead, where no method
    comes near the truth.
    """

    measured: Measured

    def __init__(self, size: int, *, rule: RegionRule = "resized", published: bool = False) -> None:
        """Measure maps as squares of side `size`, pixels; `rule` and `published` are those of `measure`."""
        super().__init__(size)
        self.rule, self.published = rule, published

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.kept = []
        if not isinstance(getattr(trainer, "datamodule", None), AnomalyDataModule):
            raise ValueError(
                "an Evaluator reads the truth: Trainer.test needs a datamodule of this suite, not a loader."
            )

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: AnomalyDataModule = trainer.datamodule  # type: ignore[attr-defined]
        kept, limit = self.gather(), trainer.limit_test_batches  # a whole number counts batches, 1.0 is all
        missing = len(data.test_samples) - sum(len(part.indices) for part in kept)
        if missing and (isinstance(limit, int) or limit < 1):
            rank_zero_warn(f"nothing is measured: limit_test_batches={limit} leaves {missing} test images out.")
            return
        if isinstance(pl_module, Method):
            kept = rescored(pl_module, kept, data.test_samples)
        self.measured = measure_test(kept, data, self.rule, published=self.published)
        pl_module.log_dict(_flat(self.measured.metrics))


def _flat(metrics: Mapping[str, Mapping[str, MetricValue]]) -> dict[str, float]:
    """Defined values by "CATEGORY/METRIC", and their means over categories by "METRIC"."""
    defined = [
        (category, name, metric.value)
        for category, its in metrics.items()
        for name, metric in its.items()
        if metric.value is not None
    ]
    every: dict[str, list[float]] = {}
    for _, name, value in defined:
        every.setdefault(name, []).append(value)
    each = {f"{category}/{name}": value for category, name, value in defined}
    return each | {name: sum(values) / len(values) for name, values in every.items()}


def measure_test(kept: list[Kept], data: AnomalyDataModule, rule: RegionRule, *, published: bool) -> Measured:
    """`measure` what was predicted of all test images of a datamodule."""
    known = {category: data.masks_known(category) for category in data.chosen}
    return measure(kept, data.test_samples, known, root=data.root, rule=rule, published=published)


def measure(
    kept: list[Kept],
    samples: Sequence[Sample],
    masks_known: Mapping[str, bool],
    *,
    root: Path,
    rule: RegionRule,
    published: bool = False,
) -> Measured:
    """Put predictions beside the truth.

    Args:
        kept: of a `Predictions`; emptied, since the maps of a large test set fill a memory once, not twice.
        samples: the test images, in the order of `Kept.indices`.
        masks_known: whether a category's pixels are labelled; where not, its pixel metrics are undefined.
        root: what names of images are relative to.
        rule: which pixels make a region, see `decode_regions`.
        published: also compute the metrics of published code.

    Raises:
        ValueError: a score is not finite, or not exactly the test images were measured, each once.
    """
    names = [sample.image.relative_to(root).as_posix() for sample in samples]
    _check_complete(kept, names)
    _check_finite(kept, names)
    image = {category: ImageMetrics() for category in masks_known}
    pixels = kept[0].anomaly_map[0].numel() if kept else 0
    counted = Counter(sample.category for sample in samples)
    pixel: dict[str, PixelMetrics | BinnedPixelMetrics] = {
        category: (PixelMetrics if counted[category] * pixels <= EXACT_PIXELS else BinnedPixelMetrics)(
            published=published
        )
        for category, known in masks_known.items()
        if known
    }
    counts = {category: {"normal": 0, "anomalous": 0} for category in masks_known}
    regions: dict[str, dict[str, Any]] = {category: {"found": 0, "vanished": {}} for category in pixel}
    kept.reverse()
    while kept:
        part = kept.pop()
        its = [samples[index] for index in part.indices.tolist()]
        for category in dict.fromkeys(sample.category for sample in its):
            rows = [row for row, sample in enumerate(its) if sample.category == category]
            labels = torch.tensor([its[row].anomalous for row in rows])
            image[category].update(part.score[rows], labels)
            counts[category]["anomalous"] += int(labels.sum())
            counts[category]["normal"] += int((~labels).sum())
            if category in pixel:
                truth = [_truth(its[row], part.anomaly_map.shape[-1], rule) for row in rows]
                pixel[category].update(part.anomaly_map[rows], torch.stack([found.ids for found in truth]))
                regions[category]["found"] += sum(found.found for found in truth)
                regions[category]["vanished"] |= {
                    names[int(part.indices[row])]: list(found.vanished)
                    for row, found in zip(rows, truth, strict=True)
                    if found.vanished
                }
    nothing = dict.fromkeys(metric_names("pixel", published=published), MetricValue(None, NO_MASKS))
    metrics = {c: its.compute() | (pixel[c].compute() if c in pixel else nothing) for c, its in image.items()}
    widths = {c: its.half_widths() for c, its in pixel.items() if isinstance(its, BinnedPixelMetrics)}
    return Measured(metrics, counts, regions, widths)


def describe_bins(measured: Measured) -> list[str]:
    """How wrong binned metrics may be, a remark for each category that has some."""
    return [
        f"{category} has more pixels than are kept: its pixel metrics are of bins, wrong by at most "
        f"{', '.join(f'{name} {width:.1e}' for name, width in widths.items())}."
        for category, widths in measured.half_widths.items()
    ]


def describe_ties(kept: Sequence[Kept], samples: Sequence[Sample]) -> list[str]:
    """A remark for each category where one score is that of a tenth of the images, and of three: nothing orders them.

    A probability in float32 ends so: whatever lies nearer to 1 than 6e-8 is 1.
    """
    scores: dict[str, list[float]] = {}
    for part in kept:
        for index, score in zip(part.indices.tolist(), part.score.tolist(), strict=True):
            scores.setdefault(samples[index].category, []).append(score)
    commonest = {category: Counter(its).most_common(1)[0] for category, its in scores.items()}
    return [
        f"{category}: {count:,} of {len(scores[category]):,} image scores are {value:.6g}, and nothing orders these "
        "images: metrics of images count them as ties."
        for category, (value, count) in commonest.items()
        if count >= max(3, len(scores[category]) / 10)
    ]


def check_shapes(prediction: Prediction, batch: UnlabelledBatch) -> None:
    """Refuse a prediction that does not fit the batch."""
    score, anomaly_map, count = prediction.score, prediction.raw_map, len(batch.indices)
    if score.shape != (count,) or anomaly_map.ndim != 3 or len(anomaly_map) != count:
        raise ValueError(
            f"predict must return a score ({count},) and a map ({count}, h, w), "
            f"got {tuple(score.shape)} and {tuple(anomaly_map.shape)}."
        )


def _truth(sample: Sample, size: int, rule: RegionRule) -> Regions:
    if sample.mask is None:
        return Regions(torch.zeros(size, size, dtype=torch.int32), 0, ())
    return read_regions(sample.mask, size, rule)


def _check_complete(kept: Sequence[Kept], names: Sequence[str]) -> None:
    seen = Counter(index for part in kept for index in part.indices.tolist())
    missing = [name for index, name in enumerate(names) if not seen[index]]
    twice = [names[index] for index, count in seen.items() if count > 1]
    if missing or twice:
        raise ValueError(
            f"each of the {len(names)} test images must be measured once; missing: {_some(missing)}; "
            f"more than once: {_some(twice)}."
        )


def _check_finite(kept: Sequence[Kept], names: Sequence[str]) -> None:
    for what, field, dims in (("scores", "score", ()), ("maps", "anomaly_map", (1, 2))):
        wrong = [
            names[int(index)]
            for part in kept
            for index, good in zip(part.indices, _all_finite(getattr(part, field), dims), strict=True)
            if not good
        ]
        if wrong:
            raise ValueError(f"{what} must be finite, got NaN or infinity for {_some(wrong)}.")


def _all_finite(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    finite = values.isfinite()
    return finite.all(dim=dims) if dims else finite


def _some(names: Sequence[str]) -> str:
    return (", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")) or "none"
