"""Time and memory of the four pixel metrics against their promises; run `python tests/perf/metrics.py`, some minutes.

The usual way is scikit-learn's AUROC, AP and best F1 and a plain exact AUPRO: argsort, cumulative sums, last of each
tie, trapezoids. Every repetition times all of them in turn in one process; ratios are of medians.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[2]))  # works from a checkout that is not installed

from benchmark.metrics.accumulate import PixelMetrics
from benchmark.metrics.table import FPR_LIMIT
from datamodules.components.regions import label_regions

SIDE = 518
NAMES = ("pixel_AUROC", "pixel_AP", "pixel_F1Max", "pixel_AUPRO")  # those that the usual way computes
BATCH = 8


def random_maps(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Maps (N, H, W) float32 in (0, 1), smooth as a ViT's, and masks (N, H, W) with regions in 70 % of them."""
    rng = np.random.default_rng(seed)
    maps, masks = np.empty((images, SIDE, SIDE), np.float32), np.zeros((images, SIDE, SIDE), bool)
    for index in range(images):
        blobs = np.zeros((SIDE, SIDE), np.uint8)
        for _ in range(rng.integers(1, 6) if index % 10 < 7 else 0):
            centre, axes = rng.integers(0, SIDE, 2), rng.integers(3, 50, 2)
            cv2.ellipse(blobs, centre.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360, 1, -1)
        rough = cv2.GaussianBlur(rng.standard_normal((SIDE, SIDE)).astype(np.float32), (0, 0), 6) * 20
        masks[index] = (blobs > 0) & (rough > -1)  # ragged, now and then in pieces
        evidence = cv2.resize(masks[index].astype(np.float32), (37, 37), interpolation=cv2.INTER_AREA)
        noise = cv2.GaussianBlur(rng.standard_normal((37, 37)).astype(np.float32), (0, 0), 1.5) * 3
        patches = evidence * rng.uniform(0.5, 4) + noise - 2
        smooth = cv2.GaussianBlur(cv2.resize(patches, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), (0, 0), 4)
        maps[index] = 1 / (1 + np.exp(-smooth))
    return maps, masks


def plain_aupro(maps: np.ndarray, masks: np.ndarray) -> float:
    """Exact AUPRO as one would write it down: one threshold for each distinct score, sizes of regions as weights."""
    weights, regions = np.zeros(masks.shape), 0
    for weight, mask in zip(weights, masks, strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        weight[mask] = 1 / np.bincount(labels.ravel())[labels[mask]]
        regions += count
    order = np.argsort(-maps.ravel())
    ranked = maps.ravel()[order]
    last = np.append(ranked[1:] != ranked[:-1], True)
    fpr = np.append(0, (~masks).ravel()[order].cumsum()[last] / (~masks).sum())
    pro = np.append(0, weights.ravel()[order].cumsum()[last] / regions)
    inside = fpr <= FPR_LIMIT
    x = np.append(fpr[inside], FPR_LIMIT)
    y = np.append(pro[inside], np.interp(FPR_LIMIT, fpr, pro))
    return float(np.trapezoid(y, x) / FPR_LIMIT)


def usual(maps: np.ndarray, masks: np.ndarray) -> list[float]:
    truth, scores = masks.ravel(), maps.ravel()
    precision, recall, _ = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    aupro = plain_aupro(maps, masks)
    return [roc_auc_score(truth, scores), average_precision_score(truth, scores), f1.max(), aupro]


def own(maps: np.ndarray, masks: np.ndarray) -> list[float]:
    metric = filled(maps, masks)
    return [metric.compute()[name].value for name in NAMES]


def labelled(masks: np.ndarray) -> torch.Tensor:
    ids = np.empty(masks.shape, np.int32)
    for index, mask in enumerate(masks):
        ids[index] = label_regions(mask)
    return torch.from_numpy(ids)


def filled(maps: np.ndarray, masks: np.ndarray) -> PixelMetrics:
    metric = PixelMetrics()
    for start in range(0, len(maps), BATCH):
        metric.update(torch.from_numpy(maps[start : start + BATCH]), labelled(masks[start : start + BATCH]))
    return metric


def timed(work):
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def compare(images: int, slow: int, fast: int) -> None:
    maps, masks = random_maps(images)
    distinct = len(np.unique(maps[masks]))
    print(f"{maps.size / 1e6:.1f} M pixels, {masks.sum()} anomalous ones with {distinct} distinct scores")
    rows = {name: [] for name in ("own: updates and compute", "sort float32", "sort as int32", "scikit-learn + AUPRO")}
    own(maps, masks)  # the first touch of memory is not the metric's
    for turn in range(fast):
        copy, bits = maps.flatten(), maps.flatten().view(np.int32)
        results = [timed(lambda: own(maps, masks)), timed(copy.sort), timed(bits.sort)]
        if turn < slow:
            results.append(timed(lambda: usual(maps, masks)))
            worst = max(abs(a - b) for a, b in zip(results[0][2], results[3][2], strict=True))
            print(f"greatest difference of the four values {worst:.1e}, promised 1e-12 at most")
            print("  " + "  ".join(f"{n} {v:.6f}" for n, v in zip(NAMES, results[0][2], strict=True)))
        for row, result in zip(rows.values(), results, strict=False):
            row.append(result[:2])
    medians = {name: [median(column) for column in zip(*row, strict=True)] for name, row in rows.items()}
    for name, (wall, cpu) in medians.items():
        print(f"{name:25} wall {wall:7.3f} s  cpu {cpu:7.3f} s  median of {len(rows[name])}")
    (own_wall, own_cpu), (sort_wall, sort_cpu), (bits_wall, bits_cpu), (usual_wall, usual_cpu) = medians.values()
    print(f"own / sort float32: wall {own_wall / sort_wall:.2f}, cpu {own_cpu / sort_cpu:.2f}; promised 2 at most")
    print(f"own / sort as int32: wall {own_wall / bits_wall:.2f}, cpu {own_cpu / bits_cpu:.2f}; no promise")
    print(f"usual / own: wall {usual_wall / own_wall:.0f}, cpu {usual_cpu / own_cpu:.0f}; promised 100 at least")


def resident(field: str) -> int:
    """VmRSS or VmHWM of this process in bytes; Linux only."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def memory(images: int) -> None:
    """Peak growth, in a process of its own; maps arrive in batches, so that only the metric keeps them."""
    filled(*random_maps(2)).compute()  # loads what is loaded late
    metric, start = PixelMetrics(), resident("VmRSS")
    for batch in range(0, images, 10):
        maps, masks = random_maps(min(10, images - batch), seed=batch)
        metric.update(torch.from_numpy(maps), labelled(masks))
    del maps, masks
    scores = images * SIDE**2 * 4
    held = resident("VmRSS") - start
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from here
    before = resident("VmRSS")
    metric.compute()
    extra = resident("VmHWM") - before
    print(f"memory: held after the updates {held / scores:.2f} times the bytes of the scores ({scores / 1e6:.0f} MB)")
    print(f"memory: peak of compute beyond that {extra / scores:.2f} times; promised 1.4 at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--slow", type=int, default=3, help="repetitions of the usual way, a minute each, at least 1")
    parser.add_argument("--fast", type=int, default=9, help="repetitions of everything else")
    parser.add_argument("--memory-only", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if arguments.memory_only:
        memory(arguments.images)
        return
    compare(arguments.images, max(1, arguments.slow), max(arguments.slow, arguments.fast))
    subprocess.run(
        [sys.executable, __file__, "--memory-only", "--images", str(arguments.images)], check=True, timeout=600
    )


if __name__ == "__main__":
    main()
