"""Names of the metrics and what belongs to a value of one; loads neither numpy nor torch."""

from typing import NamedTuple

IMAGE_METRICS = ("image_AUROC", "image_AP", "image_F1Max")
PIXEL_METRICS = ("pixel_AUROC", "pixel_AP", "pixel_F1Max", "pixel_AUPRO")
METRICS = (*IMAGE_METRICS, *PIXEL_METRICS)
PUBLISHED = "pixel_PRO@200steps"  # as the code of several papers computes it; beside the others where asked for

METRIC_VERSION = 1  # rises whenever a change alters any value, so that old and new records never share a table
FPR_LIMIT = 0.3  # of AUPRO (Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 5.2)


class MetricValue(NamedTuple):
    """A metric, or why there is none."""

    value: float | None  # in [0, 1], higher is better; None where the data leave the metric undefined
    reason: str = ""  # such as "no normal image"; empty when there is a value
