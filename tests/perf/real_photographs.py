"""Why a memory of the shots falls below chance on real screws, and what mends it.

Run `python -m tests.perf.real_photographs --data MVTEC_AD --backbone FOLDER` from the repository, where MVTEC_AD holds
the folder `screw` of MVTec AD and FOLDER is what `local-dir:` takes. Without both it says so and measures nothing, as
the suite holds no photographs. `docs/memories-on-screw.md` has what it printed and what follows from it.

The distances of all patches of the test images to each normal image are measured once; a draw of shots, with or
without turned copies, is then a minimum over some of them. That is `NearestPatch` at every setting, as the first arm
shows: the method itself is run beside it. Differences to the first arm are paired by seed.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from torch import Tensor

from benchmark.execution.evaluator import Evaluator, Kept, measure
from benchmark.metrics.ranking import rank
from benchmark.metrics.table import auroc
from benchmark.records.paired import student
from datamodules.components.reading import read_image
from datamodules.components.sample import Sample
from datamodules.mvtec_ad import MVTecAD
from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.depth import blocks_at
from methods.components.memory import nearest_distance
from methods.nearest_patch import NearestPatch, turned

CATEGORY, EVALUATION, BATCH = "screw", 256, 4
GREY = 0.75  # median that equal exposure gives every image
DARK = 0.75  # an object's pixel is darker than this share of the median
METRICS = ("image_AUROC", "pixel_AUROC", "pixel_AUPRO")


class Arm(NamedTuple):
    """One way to make a score; the defaults are `NearestPatch`."""

    name: str
    shots: int = 4
    equal: bool = False  # exposure: every image is scaled to the same median
    angles: int = 1
    side: int = 1  # tokens are means over side x side patches
    layers: tuple[int, ...] = (0, 1, 2, 3)  # places in `NearestPatch.Config().layers`
    where: str = "image"  # whose patches the score is the maximum of: the "image" or the "object" alone
    score: str = "maximum"  # or the "mean" or "top", the mean of the highest 1 %


ARMS = (
    Arm("4 shots"),
    Arm("1 shot", shots=1),
    Arm("16 shots", shots=16),
    Arm("64 shots", shots=64),
    Arm("score: mean of all patches", score="mean"),
    Arm("score: mean of the highest 1 %", score="top"),
    Arm("layers: last", layers=(3,)),
    Arm("layers: middle two", layers=(1, 2)),
    Arm("layers: first", layers=(0,)),
    Arm("object alone", where="object"),
    Arm("neighbourhood 3 x 3", side=3),
    Arm("equal exposure", equal=True),
    Arm("equal exposure, score: mean of all patches", equal=True, score="mean"),
    Arm("equal exposure, 16 shots", equal=True, shots=16),
    Arm("equal exposure, 64 shots", equal=True, shots=64),
    Arm("equal exposure, object alone", equal=True, where="object"),
    Arm("equal exposure, neighbourhood 3 x 3", equal=True, side=3),
    Arm("equal exposure, layers: last", equal=True, layers=(3,)),
    Arm("equal exposure, turned shots", equal=True, angles=8),
    Arm("equal exposure, turned shots, object alone", equal=True, angles=8, where="object"),
    Arm("equal exposure, turned shots, object alone, layers: last", equal=True, angles=8, where="object", layers=(3,)),
    Arm("equal exposure, 64 shots, object alone", equal=True, shots=64, where="object"),
    Arm("turned shots", angles=8),
)


def equal_exposure(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) scaled to the median `GREY`."""
    medians = images.flatten(1).median(dim=1).values.view(-1, 1, 1, 1)
    return (images * GREY / medians).clamp(0, 1)


def pooled(tokens: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Unit means of tokens (L, B, N, W) over side x side patches, fewer at the edges (PatchCore, arXiv:2106.08265)."""
    maps = tokens.transpose(2, 3).flatten(0, 1).unflatten(2, grid)  # (L·B, W, rows, columns)
    means = F.avg_pool2d(maps, side, 1, side // 2, count_include_pad=False)
    unit: Tensor = F.normalize(means.flatten(2).transpose(1, 2), dim=-1).unflatten(0, tokens.shape[:2])
    return unit


def object_patches(images: Tensor, patch: int) -> Tensor:
    """Patches a twentieth of which is darker than the rest of the image, (B, N): the screw and its shadow's core."""
    medians = images.flatten(1).median(dim=1).values.view(-1, 1, 1, 1)
    dark = (images.mean(dim=1, keepdim=True) < DARK * medians).float()  # (B, 1, H, W)
    return F.avg_pool2d(dark, patch).flatten(1) > 0.05


class Photographs:
    """The test images and the draws of shots, and the distances between them."""

    def __init__(self, root: Path, backbone: CLIPBackbone, seeds: int) -> None:
        self.root, self.backbone = root, backbone
        self.blocks = blocks_at(NearestPatch.Config().layers, backbone.n_image_blocks)
        draws = [self.data(seed=seed).sample_shots(CATEGORY) for seed in range(seeds)]
        self.draws = [[sample.image for sample in draw] for draw in draws]
        self.tests: list[Sample] = self.data().test_samples
        shown = torch.cat([object_patches(x, backbone.patch_size) for x in self.read(s.image for s in self.tests)])
        self.objects = shown  # (B, N)
        self.known: dict[tuple[Path, bool, int, int], Tensor] = {}
        self.features: dict[tuple[bool, int], Tensor] = {}
        self.pixels: dict[tuple[Arm, frozenset[Path]], dict[str, float]] = {}

    def data(self, seed: int = 0, shots: int | None = None) -> MVTecAD:
        data = MVTecAD(self.root, [CATEGORY], image_size=self.backbone.image_size, seed=seed)
        data.shots = min(64, len(data.normals(CATEGORY))) if shots is None else shots
        return data

    def read(self, paths: Iterable[Path]) -> Iterable[Tensor]:
        """Batches (b, 3, H, W)."""
        paths = list(paths)
        for start in range(0, len(paths), BATCH):
            yield torch.stack([read_image(path, self.backbone.image_size) for path in paths[start : start + BATCH]])

    @torch.no_grad()
    def tokens(self, images: Tensor, equal: bool, side: int, angles: int = 1) -> Tensor:
        """Unit tokens (L, angles · B, N, W)."""
        images = turned(equal_exposure(images) if equal else images, angles)
        features = self.backbone.encode_image(images, taps=self.blocks)
        return pooled(features.taps, features.grid, side)

    def distances(self, path: Path, equal: bool, angles: int, side: int) -> Tensor:
        """Distance of the test images' patches to the nearest one of one normal image at `angles` angles, (L, B, N)."""
        key = (path, equal, angles, side)
        if key not in self.known:
            if (equal, side) not in self.features:
                batches = self.read(sample.image for sample in self.tests)
                self.features[equal, side] = torch.cat([self.tokens(x, equal, side) for x in batches], dim=1)
            (image,) = self.read([path])
            normals = self.tokens(image, equal, side, angles).flatten(1, 2)  # (L, angles · N, W)
            layers = zip(self.features[equal, side], normals, strict=True)
            self.known[key] = torch.stack([nearest_distance(test, normal) for test, normal in layers])
        return self.known[key]

    def maps(self, arm: Arm, draw: Sequence[Path]) -> Tensor:
        """Mean over the layers of the distances to the nearest shot, (B, N)."""
        nearest = [
            self.distances(path, arm.equal, arm.angles, arm.side)[list(arm.layers)] for path in draw[: arm.shots]
        ]
        return torch.stack(nearest).amin(dim=0).mean(dim=0)

    def score(self, arm: Arm, distances: Tensor) -> Tensor:
        """(B,) of (B, N)."""
        if arm.where == "object":
            distances = distances.where(self.objects, 0)
        if arm.score == "maximum":
            return distances.amax(dim=1)
        count = distances.shape[1] if arm.score == "mean" else max(1, distances.shape[1] // 100)
        return distances.topk(count, dim=1).values.mean(dim=1)

    def measure(self, arm: Arm, draw: Sequence[Path]) -> dict[str, float]:
        """The metrics, percent; those of pixels are kept, since `where` and `score` leave the map as it is."""
        distances = self.maps(arm, draw)
        key = (arm._replace(name="", where="image", score="maximum"), frozenset(draw[: arm.shots]))
        if key not in self.pixels:
            self.pixels[key] = self.measure_maps(distances)
        labels = np.array([sample.anomalous for sample in self.tests])
        return {
            "image_AUROC": 100 * auroc(rank(self.score(arm, distances).double().numpy(), labels)),
            **self.pixels[key],
        }

    def measure_maps(self, distances: Tensor) -> dict[str, float]:
        """The metrics of pixels, percent, of distances (B, N)."""
        maps = distances.unflatten(1, self.backbone.grid_size)[:, None]
        maps = F.interpolate(maps, (EVALUATION, EVALUATION), mode="bilinear")[:, 0]
        kept = [Kept(torch.arange(len(self.tests)), distances.amax(dim=1), maps)]
        found = measure(kept, self.tests, {CATEGORY: True}, root=self.root, rule="resized").metrics[CATEGORY]
        return {name: 100 * (found[name].value or 0.0) for name in METRICS[1:]}


def run_method(photographs: Photographs, seed: int) -> dict[str, float]:
    """`NearestPatch` itself in a plain trainer on the first arm's shots."""
    data = photographs.data(seed, ARMS[0].shots)
    trainer = Trainer(callbacks=[Evaluator(EVALUATION)], logger=False, enable_progress_bar=False)
    (found,) = trainer.test(NearestPatch(photographs.backbone, {CATEGORY: CATEGORY}), data, verbose=False)
    return {name: 100 * found[name] for name in METRICS}


def print_exposure(photographs: Photographs) -> None:
    """Median grey level of each group of images, and how well it alone tells the test images apart."""
    paths = [*photographs.draws[0], *(sample.image for sample in photographs.tests)]
    levels = torch.cat([255 * images.flatten(1).median(dim=1).values for images in photographs.read(paths)])
    shots, tests = levels[: -len(photographs.tests)], levels[-len(photographs.tests) :]
    labels = np.array([sample.anomalous for sample in photographs.tests])
    groups = {"normal, for shots": shots, "normal test": tests[~labels], "anomalous test": tests[labels]}
    print("median grey level:", ", ".join(f"{name} {x.mean():.0f} ± {x.std():.0f}" for name, x in groups.items()))
    print(f"image AUROC of the level itself: {100 * auroc(rank(tests.double().numpy(), labels)):.1f}\n")


def print_arm(arm: Arm, found: Sequence[dict[str, float]], reference: Sequence[dict[str, float]]) -> None:
    """A row of a Markdown table: mean and deviation over seeds, and the interval of the difference in image AUROC."""
    columns = [[one[name] for one in found] for name in METRICS]
    figures = [f"{fmean(c):.1f} ± {stdev(c) if len(c) > 1 else 0:.1f}" for c in columns]
    apart = [a["image_AUROC"] - b["image_AUROC"] for a, b in zip(found, reference, strict=True)]
    low, high = student(apart)
    paired = "" if low is None or found is reference else f"{fmean(apart):+.1f} [{low:+.1f}, {high:+.1f}]"
    print(f"| {arm.name} | {' | '.join(figures)} | {paired} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="root of MVTec AD, of which `screw` is read")
    parser.add_argument("--backbone", help="folder of an open_clip model, as `local-dir:` takes it")
    parser.add_argument("--size", type=int, default=448, help="side of the images, pixels")
    parser.add_argument("--seeds", type=int, default=5, help="draws of shots")
    asked = parser.parse_args()
    if asked.data is None or asked.backbone is None:
        print("needs --data and --backbone: the suite holds no photographs; nothing is measured")
        return
    torch.set_num_threads(1)
    backbone = CLIPBackbone.load(f"local-dir:{asked.backbone}", "", image_size=asked.size)
    photographs = Photographs(asked.data, backbone, asked.seeds)
    print(f"{asked.size} px, {asked.seeds} seeds, percent; the method itself, seed 0: {run_method(photographs, 0)}")
    print_exposure(photographs)
    print(f"| arm | {' | '.join(METRICS)} | image_AUROC, paired difference |\n|---|---|---|---|---|")
    reference: list[dict[str, float]] = []
    for arm in ARMS:
        found = [photographs.measure(arm, draw) for draw in photographs.draws]
        reference = reference or found
        print_arm(arm, found, reference)


if __name__ == "__main__":
    main()
