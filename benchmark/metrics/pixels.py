"""Ranking of all pixels of a test set by one sort of values per chunk, without argsort and without labels of pixels.

An anomalous pixel is its score and the size of its region, packed into one sortable integer. Of all pixels the values
suffice, because the normal pixels below a score are all pixels below it less the anomalous ones. Counts of chunks add
up, and region sizes, unlike region numbers, do not depend on the order of images: any split into batches, chunks or
ranks gives the same bits.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from benchmark.metrics.ranking import PixelRanking

CHUNK = 2**24  # pixels sorted at once, by all threads together: 64 MiB of scratch
THREADS = min(4, os.cpu_count() or 1)  # numpy sorts and searches without the interpreter's lock
RUN = 2**13  # scores looked up at once
SIZE_BITS = np.int64(32)  # low half of a packed pixel


def pack_anomalous(scores: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Pack each anomalous pixel of one image into (order of its score) << 32 | number of pixels of its region.

    Args:
        scores: (H, W) float32, finite.
        regions: (H, W) int32, 0 for normal, else the number of the pixel's region; a region need not be connected.

    Returns:
        (P,) int64, one for each anomalous pixel. It sorts as scores do, with -0.0 equal to 0.0, then by size.
    """
    mask = regions != 0
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    inside = mask[y : y + height, x : x + width]
    if inside.size == 0:
        return np.empty(0, np.int64)
    region = regions[y : y + height, x : x + width][inside]  # P
    sizes = np.bincount(region)[region]  # P
    bits = (scores[y : y + height, x : x + width][inside] + np.float32(0)).view(np.int32)  # P   + 0: -0.0 becomes 0.0
    packed: np.ndarray = (_flip(bits).astype(np.int64) << SIZE_BITS) | sizes
    return packed


def rank_pixels(scores: Sequence[np.ndarray], packed: Sequence[np.ndarray], chunk: int = CHUNK) -> PixelRanking:
    """Rank the pixels of a whole test set.

    Beside its arguments this takes 4 bytes per pixel of a chunk and some 70 bytes per anomalous pixel.

    Args:
        scores: float32, finite, each (n,): all pixels, normal and anomalous.
        packed: what `pack_anomalous` gives, for every image that has an anomalous pixel; at least one has.
        chunk: most pixels to sort at once.
    """
    keys = np.concatenate(packed)  # P
    keys.sort()
    order = (keys >> SIZE_BITS).astype(np.int32)  # P
    sizes = keys & np.int64(2**32 - 1)  # P
    first = np.flatnonzero(np.concatenate([[True], order[1:] != order[:-1]]))  # T
    values = _flip(order[first]).view(np.float32)  # T
    anomalous = np.diff(first, append=len(order))  # T
    regions = (np.bincount(sizes) // np.maximum(np.arange(sizes.max() + 1), 1)).sum()
    overlap = np.add.reduceat(1 / sizes, first) / regions  # T

    def count(share: Sequence[np.ndarray]) -> np.ndarray:
        counts = np.zeros((2, len(values)), np.int64)  # 2 T   below, tied
        for part in _chunks(share, -(-chunk // THREADS)):
            part.sort()
            _add_counts(part, values, *counts)
        return counts

    with ThreadPoolExecutor(THREADS) as pool:
        shares = [scores[start::THREADS] for start in range(THREADS)]
        below, tied = np.sum(list(pool.map(count, shares)), axis=0)
    below -= anomalous.cumsum() - anomalous  # from all pixels to normal ones
    tied -= anomalous
    return PixelRanking(anomalous, tied, below, sum(map(len, scores)) - len(keys), overlap, scores, packed)


def unpack_scores(packed: np.ndarray) -> np.ndarray:
    """The scores (P,) float32 of what `pack_anomalous` gave."""
    scores: np.ndarray = _flip((packed >> SIZE_BITS).astype(np.int32)).view(np.float32)
    return scores


def _flip(bits: np.ndarray) -> np.ndarray:
    """Turn the bits of float32 into int32 that sort as the floats do, and back: the lower 31 if the sign is set."""
    flipped: np.ndarray = bits ^ ((bits >> 31) & np.int32(2**31 - 1))
    return flipped


def _chunks(scores: Sequence[np.ndarray], most: int) -> Iterator[np.ndarray]:
    """Copy all scores through one buffer, in nearly equal parts of at most `most`; the reader may reorder a part."""
    total = sum(map(len, scores))
    if not total:
        return
    parts = -(-total // most)
    buffer = np.empty(-(-total // parts), np.float32)
    filled = 0
    for source in scores:
        taken = 0
        while taken < len(source):
            step = min(len(source) - taken, len(buffer) - filled)
            buffer[filled : filled + step] = source[taken : taken + step]
            taken, filled = taken + step, filled + step
            if filled == len(buffer):
                yield buffer
                filled = 0
    if filled:
        yield buffer[:filled]


def _add_counts(ordered: np.ndarray, values: np.ndarray, below: np.ndarray, tied: np.ndarray) -> None:
    """Add to `below` and `tied` (T,) how many of `ordered` (n,), ascending, lie below and at each of `values` (T,).

    Runs of values are searched in the stretch of `ordered` that they span, so that all stays in cache. The end of a
    tie is searched only for values that are there more than once.
    """
    for start in range(0, len(values), RUN):
        run = slice(start, start + RUN)
        wanted = values[run]
        first, end = ordered.searchsorted(wanted[0], "left"), ordered.searchsorted(wanted[-1], "right")
        below[run] += first
        if first == end:
            continue
        stretch = ordered[first:end]
        under = stretch.searchsorted(wanted)
        equal = (stretch.take(under, mode="clip") == wanted).astype(np.int64)
        more = np.flatnonzero(stretch.take(under + 1, mode="clip") == wanted)
        equal[more] = stretch.searchsorted(wanted[more], "right") - under[more]
        below[run] += under
        tied[run] += equal
