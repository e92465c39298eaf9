"""The table of metrics: a metric is a pure function of a ranking and one line of `TABLE`; nothing else lists them.

Importing this module loads neither numpy nor torch, because requests and tables need the names alone: a function that
needs numpy imports it itself.

The functions are areas and maxima of the ROC, precision-recall and per-region-overlap curves, as closed sums over
ranks. No curve is built. Every curve moves only where an anomalous score lies, so it is enough to know, for each
distinct anomalous score, how many anomalous and normal scores share it and how many normal ones lie below. Only the
order of scores counts: any strictly increasing map of them leaves each value as it is, to the last bit.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from benchmark.metrics.ranking import PixelRanking, Ranking

METRIC_VERSION = 1  # rises whenever a change alters any value, so that old and new records never share a table
FPR_LIMIT = 0.3  # of AUPRO (Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 5.2)

Level = Literal["image", "pixel"]
Need = Literal["anomalous image", "normal image", "anomalous pixel", "normal pixel"]


class MetricValue(NamedTuple):
    """A metric, or why there is none."""

    value: float | None  # in [0, 1]; None where the data leave the metric undefined
    reason: str = ""  # such as "no normal image"; empty when there is a value


class UndefinedError(ValueError):
    """The metric has no value on these scores; the message is the reason that a record keeps."""


def auroc(ranking: "Ranking") -> float:
    """Probability that an anomalous score exceeds a normal one, a tie counting half (Hanley and McNeil, 1982)."""
    halves = int(ranking.anomalous @ (2 * ranking.below + ranking.tied))
    return halves / (2 * int(ranking.anomalous.sum()) * ranking.normals)


def average_precision(ranking: "Ranking") -> float:
    """Sum of precision times the step of recall, without interpolation, as scikit-learn defines it."""
    found, wrong = _at_or_above(ranking)
    return float((ranking.anomalous * (found / (found + wrong))).sum() / ranking.anomalous.sum())


def f1_max(ranking: "Ranking") -> float:
    """Maximal F1 over all thresholds; it is always reached at an anomalous score."""
    found, wrong = _at_or_above(ranking)
    return float((2 * found / (found + wrong + ranking.anomalous.sum())).max())


def aupro(ranking: "PixelRanking", limit: float = FPR_LIMIT) -> float:
    """Area under the per-region overlap curve up to a false-positive rate, over that rate (IJCV 2021, section 5.2).

    The curve is linear between thresholds, so also through a tie that spans the limit. A pixel of a region of s
    pixels lifts the mean overlap of K regions by 1 / (K s); from there on it adds that much to the area.

    Args:
        ranking: of all pixels.
        limit: in (0, 1].

    Raises:
        ValueError: if `limit` lies outside (0, 1].
    """
    import numpy as np  # noqa: PLC0415

    if not 0 < limit <= 1:
        raise ValueError(f"limit must lie in (0, 1], got {limit}.")
    allowed = limit * ranking.normals  # false positives, as a real number
    end = ranking.normals - ranking.below  # T   false positives once this score is let in
    start = end - ranking.tied  # T
    whole = allowed - (start + end) / 2
    cut = np.maximum(allowed - start, 0) ** 2 / (2 * np.maximum(ranking.tied, 1))
    return float((ranking.overlap * np.where(end <= allowed, whole, cut)).sum() / allowed)


def published_pro(ranking: "PixelRanking") -> float:
    """PRO as the code of several papers computes it, see `benchmark.metrics.published`."""
    from benchmark.metrics.published import pro_at_equal_steps  # noqa: PLC0415

    try:
        return pro_at_equal_steps(ranking, FPR_LIMIT)
    except ZeroDivisionError as error:
        raise UndefinedError(str(error)) from error


def _at_or_above(ranking: "Ranking") -> tuple["np.ndarray", "np.ndarray"]:
    """True and false positives with the threshold at each anomalous score."""
    return ranking.anomalous[::-1].cumsum()[::-1], ranking.normals - ranking.below


class Metric(NamedTuple):
    """One line of the table."""

    name: str
    level: Level  # whether images or pixels are ranked
    function: Callable[[Any], float]  # of a Ranking, at pixel level of a PixelRanking; may raise UndefinedError
    needs: tuple[Need, ...]  # without one of them, looked for in this order, the metric is undefined
    chance: float | None = None  # value of uninformative scores; tables mark a value below it
    note: str = ""  # printed below a rendered table that holds a value
    published: bool = False  # computed only where `protocol.published_metric` asks for it

    def measure(self, ranking: "Ranking") -> MetricValue:
        """The value, or the reason of the function's `UndefinedError`."""
        try:
            return MetricValue(self.function(ranking))
        except UndefinedError as error:
            return MetricValue(None, str(error))


IMAGES: tuple[Need, ...] = ("anomalous image", "normal image")
PIXELS: tuple[Need, ...] = ("anomalous pixel", "normal pixel")
RESIZED = (
    "pixel_AUPRO weighs the regions of the resized mask, as published code does, unless a row says regions=native: a "
    "thin defect that falls into pieces counts as several."
)
TABLE = (
    Metric("image_AUROC", "image", auroc, IMAGES, chance=0.5),
    Metric("image_AP", "image", average_precision, IMAGES),
    Metric("image_F1Max", "image", f1_max, IMAGES),
    Metric("pixel_AUROC", "pixel", auroc, PIXELS, chance=0.5),
    Metric("pixel_AP", "pixel", average_precision, PIXELS),
    Metric("pixel_F1Max", "pixel", f1_max, PIXELS),
    Metric("pixel_AUPRO", "pixel", aupro, PIXELS, note=RESIZED),
    Metric("pixel_PRO@200steps", "pixel", published_pro, PIXELS, published=True),
)


def metrics(level: Level | None = None, *, published: bool = False) -> tuple[Metric, ...]:
    """The lines of `TABLE` of one level or of both, with those of published code or without."""
    return tuple(line for line in TABLE if level in (None, line.level) and (published or not line.published))


def metric_names(level: Level | None = None, *, published: bool = False) -> tuple[str, ...]:
    """The names of `metrics`."""
    return tuple(line.name for line in metrics(level, published=published))


def evaluate(
    lines: tuple[Metric, ...], counts: Mapping[Need, int], rank: Callable[[], "Ranking"]
) -> dict[str, MetricValue]:
    """Value or reason of each metric; `rank` is called once, and only if some metric has what it needs."""
    ranking: Ranking | None = None
    found = {}
    for line in lines:
        missing = [need for need in line.needs if not counts[need]]
        if missing:
            found[line.name] = MetricValue(None, f"no {missing[0]}")
        else:
            ranking = ranking or rank()
            found[line.name] = line.measure(ranking)
    return found
