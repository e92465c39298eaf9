"""How fast images are read, decoded each time and from the cache: `python -m tests.perf.reading [--data MVTEC_AD]`.

Ratios of one process run. Promise: a second pass at least three times as fast as decoding. Without `--data`,
photographs of 1024 px are made up of noise and smooth shades, as large as real ones.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from datamodules.components.pixel_cache import PixelCache
from datamodules.components.reading import UnlabelledImages, collate_unlabelled
from datamodules.components.sample import Sample

COUNT, SIDE, PROMISED = 64, 1024, 3.0


def main() -> None:
    """Print images per second of each reader and the ratio to decoding."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="a folder of categories in MVTec layout")
    data = parser.parse_args().data
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BENCH_CACHE"] = f"{folder}/cache"
        sets = {"real": sorted(data.rglob("test/*/*.png"))[:COUNT]} if data else made_up(Path(folder))
        for name, paths in sets.items():
            for size in (224, 518):
                compare(f"{name}, {size} px", [Sample(path, "x") for path in paths], size)


def compare(name: str, samples: list[Sample], size: int) -> None:
    """Read the same images in every way."""
    plain = rate(samples, size, None, 0)
    cache = PixelCache(size, 1.0)
    rows = {"decoded": plain, "decoded, 2 workers": rate(samples, size, None, 2)}
    rows["first pass with the cache"] = rate(samples, size, cache, 0)
    rows["second pass"] = rate(samples, size, cache, 0)
    rows["second pass, 2 workers"] = rate(samples, size, cache, 2)
    for way, images in rows.items():
        promise = f"  (promised {PROMISED:.0f} x)" if way == "second pass" else ""
        print(f"{name:<22} {way:<26} {images:8.0f} images/s  {images / plain:5.2f} x{promise}")


def rate(samples: list[Sample], size: int, cache: PixelCache | None, workers: int) -> float:
    """Images per second of a loader."""
    images = UnlabelledImages(samples, size, cache)
    loader = DataLoader(images, 16, num_workers=workers, collate_fn=collate_unlabelled)
    start = time.perf_counter()
    count = sum(len(batch.indices) for batch in loader)
    return count / (time.perf_counter() - start)


def made_up(folder: Path) -> dict[str, list[Path]]:
    """Grey PNG and coloured JPEG files, as large as photographs are."""
    found: dict[str, list[Path]] = {"grey PNG": [], "JPEG": []}
    for i in range(COUNT):
        dice = np.random.default_rng(i)
        shade = cv2.resize(dice.random((8, 8), dtype=np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        noisy = np.clip(shade * 160 + dice.normal(40, 3, (SIDE, SIDE)), 0, 255).astype(np.uint8)
        found["grey PNG"].append(folder / f"{i}.png")
        Image.fromarray(noisy).save(found["grey PNG"][-1])
        found["JPEG"].append(folder / f"{i}.jpg")
        Image.fromarray(np.dstack([noisy, noisy[::-1], noisy[:, ::-1]])).save(found["JPEG"][-1], quality=90)
    return found


if __name__ == "__main__":
    main()
