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
    label = labels[inside]  # P
    first = np.empty(count, np.int64)  # 1 + regions   first pixel of each label
    first[label[::-1]] = np.arange(len(label))[::-1]  # of repeated labels, the last one written stays
    number = np.zeros(count, np.int32)
    number[1 + first[1:].argsort()] = np.arange(1, count)
    ids[y : y + height, x : x + width] = number[labels]
    return ids
