"""An independent oracle of the pixel metrics, and maps of many kinds to try them on."""

import numpy as np
import torch
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from benchmark.metrics.accumulate import PixelMetrics

EXACT = 1e-12
NAMES = ("pixel_AUROC", "pixel_AP", "pixel_F1Max", "pixel_AUPRO")  # those that the oracle computes


def labelled(masks):
    """(B, H, W) int32 ids of the 8-connected regions of each mask, with another library than the code's."""
    found = [ndimage.label(mask, np.ones((3, 3)), output=np.int32)[0] for mask in np.asarray(masks)]
    return torch.from_numpy(np.stack(found))


def regions_of(truth):
    """Each region as a bool mask: of a bool mask the 8-connected ones, of ids the pixels of each."""
    ids = labelled(truth[None])[0].numpy() if truth.dtype == bool else truth
    return [ids == number for number in sorted(set(ids.ravel().tolist()) - {0})]


def plain_aupro(maps, truth, limit=0.3):
    """Thresholds one by one from the highest, regions one by one, trapezoids up to the limit."""
    regions = [scores[region] for scores, each in zip(maps, truth, strict=True) for region in regions_of(each)]
    normal = maps[truth == 0]
    x, y, area = 0.0, 0.0, 0.0
    for threshold in np.unique(maps)[::-1]:
        to_x = np.count_nonzero(normal >= threshold) / normal.size
        to_y = sum(np.count_nonzero(region >= threshold) / region.size for region in regions) / len(regions)
        if to_x > limit:
            return (area + (limit - x) * (y + y + (to_y - y) * (limit - x) / (to_x - x)) / 2) / limit
        area += (to_x - x) * (y + to_y) / 2
        x, y = to_x, to_y
    return (area + (limit - x) * y) / limit


def oracle(maps, masks):
    """The four values; `masks` may also be ids of regions, which need not be connected."""
    truth, scores = masks.ravel() != 0, maps.ravel()
    precision, recall, _ = precision_recall_curve(truth, scores)
    f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-300)).max()
    return [roc_auc_score(truth, scores), average_precision_score(truth, scores), f1, plain_aupro(maps, masks)]


def fill(maps, masks, metric=None, batch=2):
    """Gives a metric maps and ids of regions, or bool masks whose regions are looked for here."""
    metric = metric or PixelMetrics()
    ids = labelled(masks) if masks.dtype == bool else torch.as_tensor(masks)
    for start in range(0, len(maps), batch):
        metric.update(torch.as_tensor(maps[start : start + batch]), ids[start : start + batch])
    return metric


def values(metric):
    return [metric.compute()[name].value for name in NAMES]


def random_maps(seed, images=5, height=19, width=23):
    """Blobs that touch borders, a one-pixel region, diagonal ones; two images without any anomaly."""
    rng = np.random.default_rng(seed)
    masks = ndimage.gaussian_filter(rng.standard_normal((images, height, width)), (0, 2, 2)) > 0.12
    masks[1], masks[-1] = False, False
    masks[0, :4, :4] = np.eye(4)
    masks[2, 8:13, 8:13] = False
    masks[2, 10, 10] = True
    maps = ndimage.gaussian_filter(rng.standard_normal((images, height, width)), (0, 1, 1)) + 0.3 * masks
    return maps.astype(np.float32), masks


def levels(count):
    return lambda maps: np.round(maps / np.abs(maps).max() * count).astype(np.float32) / np.float32(count)


KINDS = {
    "continuous of both signs": lambda maps: maps,
    "all negative": lambda maps: maps - 10,
    "2 levels": levels(2),
    "16 levels with -0.0 and 0.0": levels(16),
    "denormals": lambda maps: maps * np.float32(1e-39),
    "huge": lambda maps: maps * np.float32(1e38),
    "saturated": lambda maps: np.clip(maps, -0.2, 0.2),
}
