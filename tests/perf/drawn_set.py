"""How far trivial baselines get on the drawn set; run `python tests/perf/drawn_set.py`, under two minutes.

A drawn set is worth something only if its defects are not found by colour or by subtraction. Image AUROC of four
scores that know no network, per category and as means of textures and objects; the set is accepted while every mean
stays at or below LIMIT. Few-shot scores are means over DRAWS disjoint sets of normal images.
"""

import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # works from a checkout that is not installed

from datamodules.components.drawing import CATEGORIES, GOOD, draw

LIMIT = 0.75
CELLS = 16
SHOTS = 4
DRAWS = 3
SCORES = ("self-outlier", "pixel-diff 1", "pixel-diff 4", "cell-kNN 1", "cell-kNN 4")


def auroc(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """Share of (normal, anomalous) pairs in the right order, ties count half."""
    gap = anomalous[:, None] - normal[None, :]
    return float((gap > 0).mean() + 0.5 * (gap == 0).mean())


def cells(image: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of the colour of 16 x 16 cells: (256, 6) in [0, 1]."""
    side = image.shape[0] // CELLS
    parts = image.reshape(CELLS, side, CELLS, side, 3).transpose(0, 2, 1, 3, 4).reshape(CELLS**2, -1, 3) / 255.0
    return np.concatenate([parts.mean(axis=1), parts.std(axis=1)], axis=1).astype(np.float32)


def self_outlier(image: np.ndarray) -> float:
    """The largest distance of a cell's mean colour to the median over the image's cells."""
    means = cells(image)[:, :3]
    return float(np.linalg.norm(means - np.median(means, axis=0), axis=1).max())


def pixel_difference(image: np.ndarray, normals: list[np.ndarray]) -> float:
    """The maximum of the blurred difference to the nearest normal image, pixel by pixel."""
    maps = [cv2.GaussianBlur(np.abs(image - n.astype(np.float32)).mean(axis=2), (0, 0), 4.0) for n in normals]
    return float(np.min(maps, axis=0).max())


def cell_knn(image: np.ndarray, normals: list[np.ndarray]) -> float:
    """The largest distance of a cell to its nearest cell, anywhere in the normal images."""
    query, memory = cells(image), np.concatenate([cells(n) for n in normals])
    square = (query**2).sum(1)[:, None] + (memory**2).sum(1)[None] - 2.0 * query @ memory.T
    return float(square.min(axis=1).max())


def measure(category: str, seed: int, size: int, normal: int, per_defect: int) -> dict[str, np.ndarray]:
    """Per defect and for "all": AUROC of every score, in the order of SCORES."""
    train = [draw(category, "train", GOOD, i, seed=seed, size=size).image for i in range(SHOTS * DRAWS)]
    sets = [train[SHOTS * d : SHOTS * (d + 1)] for d in range(DRAWS)]

    def score(image: np.ndarray) -> np.ndarray:
        few = [
            (pixel_difference(image, s[:1]), pixel_difference(image, s), cell_knn(image, s[:1]), cell_knn(image, s))
            for s in sets
        ]
        return np.array([[self_outlier(image), *row] for row in few])  # (DRAWS, scores)

    def scores(defect: str, count: int) -> np.ndarray:
        return np.array([score(draw(category, "test", defect, i, seed=seed, size=size).image) for i in range(count)])

    good = scores(GOOD, normal)  # (images, DRAWS, scores)
    bad = {defect: scores(defect, per_defect) for defect in CATEGORIES[category].defects}
    bad["all"] = np.concatenate(list(bad.values()))
    return {
        defect: np.array(
            [np.mean([auroc(good[:, d, s], images[:, d, s]) for d in range(DRAWS)]) for s in range(len(SCORES))]
        )
        for defect, images in bad.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="draw seed")
    parser.add_argument("--size", type=int, default=256, help="side of the images, a multiple of 16")
    parser.add_argument("--normal", type=int, default=12, help="normal test images per category")
    parser.add_argument("--per-defect", type=int, default=4, help="images per defect type")
    parser.add_argument("--defects", action="store_true", help="also print a row per defect type")
    options = parser.parse_args()
    started = time.process_time()
    print(f"{'image AUROC, %':<28}" + "".join(f"{name:>14}" for name in SCORES))
    rows: dict[str, list[np.ndarray]] = {"texture": [], "object": []}
    for category, spec in CATEGORIES.items():
        table = measure(category, options.seed, options.size, options.normal, options.per_defect)
        rows[spec.kind].append(table["all"])
        for defect, row in table.items() if options.defects else [("all", table["all"])]:
            label = category if defect == "all" else f"    {defect}"
            print(f"{label:<28}" + "".join(f"{100 * value:14.1f}" for value in row), flush=True)
    accepted = True
    for kind, found in {**rows, "all": rows["texture"] + rows["object"]}.items():
        mean = np.mean(found, axis=0)
        accepted &= bool((mean <= LIMIT).all())
        print(f"{'mean of ' + kind:<28}" + "".join(f"{100 * value:14.1f}" for value in mean))
    print(f"{time.process_time() - started:.0f} s of processor time; {'accepted' if accepted else 'TOO EASY'}")
    sys.exit(0 if accepted else 1)


if __name__ == "__main__":
    main()
