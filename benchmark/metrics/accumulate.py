"""The metrics as torchmetrics classes, which accumulate batches in any split and on any number of ranks."""

from typing import Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from benchmark.metrics.pixels import CHUNK, pack_anomalous, rank_pixels
from benchmark.metrics.ranking import rank
from benchmark.metrics.table import MetricValue, Need, evaluate, metrics


class NotFiniteError(ValueError):
    """NaN or infinite scores cannot be ranked; `indices` are their places in the batch, for the caller to name."""

    def __init__(self, what: str, indices: tuple[int, ...]) -> None:
        super().__init__(what, indices)
        self.what, self.indices = what, indices

    def __str__(self) -> str:
        return f"{self.what} must be finite, got NaN or infinity at {self.indices} of the batch."


class RankMetric(Metric):
    """Base class: state is lists of flat tensors in main memory, so GPU memory does not grow with the test set."""

    is_differentiable = False
    full_state_update = False
    dtypes: ClassVar[dict[str, torch.dtype]]  # of each state, by its name

    def __init__(self) -> None:
        super().__init__(dist_sync_fn=gather)
        for name in self.dtypes:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def sync(self, *args: Any, **kwargs: Any) -> None:
        # A rank without a batch would send float32, whatever the others send.
        for name, dtype in self.dtypes.items():
            if isinstance(getattr(self, name), list) and not getattr(self, name):
                setattr(self, name, [torch.empty(0, dtype=dtype)])
        super().sync(*args, **kwargs)

    def _arrays(self, name: str) -> list[np.ndarray]:
        state = getattr(self, name)
        return [part.numpy() for part in ([state] if isinstance(state, Tensor) else state)]


class ImageMetrics(RankMetric):
    """The metrics of image level: of one score per image."""

    dtypes: ClassVar = {"scores": torch.float64, "labels": torch.bool}
    scores: list[Tensor]
    labels: list[Tensor]

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            scores: (B,) of any floating dtype; kept as float64, so none is rounded.
            labels: (B,) bool, True for anomalous.

        Raises:
            NotFiniteError: if a score is NaN or infinite.
            ValueError: if shapes or dtypes differ from the above.
        """
        check_batch("scores", scores, "labels", labels, torch.bool, dims=1)
        values = scores.detach().cpu().double()  # B
        check_finite("scores", values.numpy())
        self.scores.append(values.clone())
        self.labels.append(labels.detach().cpu().clone())

    def compute(self) -> dict[str, MetricValue]:
        """Value or reason of each metric of image level."""
        scores, labels = (np.concatenate([np.empty(0, bool), *self._arrays(name)]) for name in ("scores", "labels"))
        counts: dict[Need, int] = {"anomalous image": int(labels.sum()), "normal image": int((~labels).sum())}
        return evaluate(metrics("image"), counts, lambda: rank(scores, labels))


class PixelMetrics(RankMetric):
    """The metrics of pixel level: of all pixels of all maps.

    Args:
        chunk: pixels sorted at once; bounds the memory of `compute` and alters no bit of the values.
        published: also compute the metrics of published code.
    """

    dtypes: ClassVar = {"scores": torch.float32, "anomalous": torch.int64}
    scores: list[Tensor]
    anomalous: list[Tensor]

    def __init__(self, chunk: int = CHUNK, *, published: bool = False) -> None:
        super().__init__()
        self.chunk, self.published = chunk, published

    def update(self, maps: Tensor, regions: Tensor) -> None:
        """Add a batch; the images of different batches may differ in size.

        Args:
            maps: (B, H, W) of any floating dtype; kept as float32. Half precision is exact, float64 is rounded, which
                may tie scores that differ by less than 1 part in 2^24 and refuses magnitudes above 3.4e38. Float32 maps
                in main memory are kept as they are, not copied: do not write to them afterwards.
            regions: (B, H, W) int32, 0 for normal, else the number of the pixel's region, which is its image's own and
                may have gaps. AUPRO weighs each region of an image once, in one piece or in several.

        Raises:
            NotFiniteError: if a map holds NaN or infinity.
            ValueError: if shapes or dtypes differ from the above.
        """
        check_batch("maps", maps, "regions", regions, torch.int32, dims=3)
        kept = maps.detach().to("cpu", torch.float32)  # B H W
        check_finite("maps", kept.numpy())
        pairs = zip(kept.numpy(), regions.detach().cpu().numpy(), strict=True)
        packed = [pack_anomalous(scores, ids) for scores, ids in pairs]
        self.anomalous.append(torch.from_numpy(np.concatenate([np.empty(0, np.int64), *packed])))
        self.scores.append(kept.flatten())

    def compute(self) -> dict[str, MetricValue]:
        """Value or reason of each metric of pixel level."""
        scores, packed = self._arrays("scores"), self._arrays("anomalous")
        anomalous = sum(map(len, packed))
        counts: dict[Need, int] = {"anomalous pixel": anomalous, "normal pixel": sum(map(len, scores)) - anomalous}
        lines = metrics("pixel", published=self.published)
        return evaluate(lines, counts, lambda: rank_pixels(scores, packed, self.chunk))


def gather(state: Tensor, group: Any = None) -> list[Tensor]:
    """Gather a state of every rank into main memory; NCCL sends only what lies on a GPU, so it goes through there."""
    device = "cuda" if dist.get_backend(group) == "nccl" else "cpu"
    return [part.cpu() for part in gather_all_tensors(state.to(device), group)]


def check_batch(name: str, scores: Tensor, truth_name: str, truth: Tensor, dtype: torch.dtype, dims: int) -> None:
    """ValueError unless scores and truth have one shape of `dims` dimensions and the dtypes that they must have."""
    if not scores.is_floating_point() or truth.dtype != dtype:
        raise ValueError(
            f"{name} must be floating point and {truth_name} {str(dtype)[6:]}, got {scores.dtype} and {truth.dtype}."
        )
    if scores.ndim != dims or scores.shape != truth.shape:
        raise ValueError(
            f"{name} and {truth_name} must have the same shape of {dims} dimensions, "
            f"got {tuple(scores.shape)} and {tuple(truth.shape)}."
        )


def check_finite(name: str, scores: np.ndarray) -> None:
    """NotFiniteError that names the images of a batch which hold NaN or infinity."""
    wrong = ~np.isfinite(scores).all(axis=tuple(range(1, scores.ndim)))  # B
    if wrong.any():
        raise NotFiniteError(name, tuple(int(index) for index in np.flatnonzero(wrong)))
