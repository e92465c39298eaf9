"""How far trivial baselines get on the synthetic set; run `python tests/perf/synthetic_set.py`, about half a minute.

A synthetic set is worth something only if its defects are not found by colour or by subtraction. Image AUROC of the
trivial methods, which know no network, on the categories of `procedural`, each and as means of textures and objects;
the set is accepted while every mean stays at or below LIMIT. Few-shot scores are means over SAMPLES disjoint sets of
normal images.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))  # works from a checkout that is not installed

from datamodules.components.rendering import CATEGORIES, GOOD, render
from datamodules.procedural import Procedural
from methods.trivial_colour_knn import TrivialColourKNN
from methods.trivial_colour_outlier import TrivialColourOutlier
from methods.trivial_pixel_difference import TrivialPixelDifference

LIMIT = 0.75
SHOTS = 4
SAMPLES = 3
SCORES = {  # name of a column: method and its shots
    "self-outlier": (TrivialColourOutlier, 0),
    "pixel-diff 1": (TrivialPixelDifference, 1),
    f"pixel-diff {SHOTS}": (TrivialPixelDifference, SHOTS),
    "cell-kNN 1": (TrivialColourKNN, 1),
    f"cell-kNN {SHOTS}": (TrivialColourKNN, SHOTS),
}


def auroc(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """Share of (normal, anomalous) pairs in the right order, ties count half."""
    gap = anomalous[:, None] - normal[None, :]
    return float((gap > 0).mean() + 0.5 * (gap == 0).mean())


def images_of(category: str, split: str, defect: str, count: int, seed: int, size: int) -> Tensor:
    """(count, 3, size, size) in [0, 1]."""
    images = [render(category, split, defect, i, seed=seed, size=size).image for i in range(count)]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255


def measure(category: str, seed: int, size: int, normal: int, per_defect: int) -> dict[str, np.ndarray]:
    """Per defect and for "all": AUROC of every score, in the order of SCORES."""
    train = images_of(category, "train", GOOD, SHOTS * SAMPLES, seed, size)
    scorers = []  # SAMPLES lists in the order of SCORES
    for shots in train.split(SHOTS):
        scorers.append([kind(None, {category: category}) for kind, _ in SCORES.values()])  # none asks its backbone
        for method, (_, count) in zip(scorers[-1], SCORES.values(), strict=True):
            method.adapt(shots[:count], category)

    def scores(defect: str, count: int) -> np.ndarray:
        images = images_of(category, "test", defect, count, seed, size)
        found = [[method(images, [category] * count).score for method in methods] for methods in scorers]
        return np.array([[score.numpy() for score in row] for row in found])  # (SAMPLES, scores, images)

    good = scores(GOOD, normal)
    bad = {defect: scores(defect, per_defect) for defect in CATEGORIES[category].defects}
    bad["all"] = np.concatenate(list(bad.values()), axis=2)
    return {
        defect: np.array(
            [np.mean([auroc(good[d, s], images[d, s]) for d in range(SAMPLES)]) for s in range(len(SCORES))]
        )
        for defect, images in bad.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="seed of the set")
    parser.add_argument("--size", type=int, default=256, help="side of the images, a multiple of 16")
    parser.add_argument("--normal", type=int, default=12, help="normal test images per category")
    parser.add_argument("--per-defect", type=int, default=4, help="images per defect type")
    parser.add_argument("--defects", action="store_true", help="also print a row per defect type")
    options = parser.parse_args()
    started = time.process_time()
    print(f"{'image AUROC, %':<28}" + "".join(f"{name:>14}" for name in SCORES))
    rows: dict[str, list[np.ndarray]] = {"texture": [], "object": []}
    for category in Procedural.categories:
        table = measure(category, options.seed, options.size, options.normal, options.per_defect)
        rows[CATEGORIES[category].kind].append(table["all"])
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
