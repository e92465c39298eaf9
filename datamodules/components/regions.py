"""Which pixels of a mask belong together."""

import cv2
import numpy as np


def label_regions(mask: np.ndarray) -> np.ndarray:
    """Number the 8-connected regions of a mask.

    Args:
        mask: (H, W) bool, True for anomalous.

    Returns:
        (H, W) int32: 0 where the mask is False, else the number of the pixel's region. Regions are numbered from 1 in
        the order in which rows read from the top meet them, whatever the version and the threads of OpenCV.
    """
    ids = np.zeros(mask.shape, np.int32)
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    inside = mask[y : y + height, x : x + width]
    if inside.size == 0:
        return ids
    count, labels = cv2.connectedComponents(inside.view(np.uint8), connectivity=8)
    ids[y : y + height, x : x + width] = _by_rows(labels, inside, count)
    return ids


def _by_rows(labels: np.ndarray, mask: np.ndarray, count: int) -> np.ndarray:
    """Labels below `count`, 0 for none, numbered anew in the order in which rows meet them."""
    starts = mask.copy()
    starts[:, 1:] &= ~mask[:, :-1]
    met = labels[starts]  # runs   one pixel of each run of a row
    first = np.zeros(count, np.int64)  # regions and 0   first run of each label
    first[met[::-1]] = np.arange(len(met), 0, -1)  # of repeated labels, the last one written stays
    order = first.argsort()  # 0 stays first
    if (order[:-1] < order[1:]).all():
        return labels
    number = np.empty(count, np.int32)
    number[order] = np.arange(count)
    return np.asarray(number[labels])
