"""Pixel metrics in bins beside the exact ones, of 268 million pixels: `python -m tests.perf.binned`, some minutes.

Promise: half-widths of 7e-6 for AUROC and 4e-5 for AUPRO. Maps are smooth evidence with noise in (0, 1), of which seven
in ten hold a blob.
"""

import time

import cv2
import numpy as np
import torch

from benchmark.metrics.accumulate import PixelMetrics
from benchmark.metrics.binned import BinnedPixelMetrics

COUNT, SIDE = 1000, 518
PROMISED = {"pixel_AUROC": 7e-6, "pixel_AUPRO": 4e-5}


def main() -> None:
    """Print value, half-width and true error of each metric, seconds and memory of both forms."""
    forms = {"exact": PixelMetrics(), "binned": BinnedPixelMetrics()}
    seconds = dict.fromkeys(forms, 0.0)
    for index in range(COUNT):
        maps, regions = image(index)
        for form, metric in forms.items():
            start = time.perf_counter()
            metric.update(maps, regions)
            seconds[form] += time.perf_counter() - start
    found = {}
    for form, metric in forms.items():
        start = time.perf_counter()
        found[form] = metric.compute()
        seconds[form] += time.perf_counter() - start
    widths = forms["binned"].half_widths()
    for name, its in found["binned"].items():
        error = abs((its.value or 0) - (found["exact"][name].value or 0))
        promise = f"  (promised {PROMISED[name]:.0e})" if name in PROMISED else ""
        print(f"{name:<12} {its.value:.6f}  half-width {widths[name]:.1e}{promise}, in truth off by {error:.1e}")
    kept = sum(part.nbytes for part in forms["exact"].scores)
    state = sum(getattr(forms["binned"], name).nbytes for name in forms["binned"].names)
    print(f"exact {seconds['exact']:.1f} s with {kept / 2**20:.0f} MiB kept")
    print(f"binned {seconds['binned']:.1f} s with {state / 2**20:.0f} MiB")


def image(index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One map and its regions."""
    dice = np.random.default_rng(index)
    evidence = cv2.resize(
        dice.standard_normal((37, 37)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC
    )
    regions = np.zeros((SIDE, SIDE), np.int32)
    if index % 10 < 7:
        centre = dice.integers(40, SIDE - 40, 2)
        cv2.circle(regions, tuple(map(int, centre)), int(dice.integers(8, 36)), 1, -1)
        evidence += cv2.GaussianBlur((regions > 0).astype(np.float32), (0, 0), 6) * 2
    noisy = evidence + dice.standard_normal((SIDE, SIDE), dtype=np.float32) * 0.05
    return torch.from_numpy(1 / (1 + np.exp(-noisy)))[None], torch.from_numpy(regions)[None]


if __name__ == "__main__":
    main()
