"""Few shots on photographs: the embedded CLIP, or any other backbone, beside a floor that subtracts pixels.

    python -m tests.perf.embedded.real --data FOLDER [--backbone NAME] [--size PIXELS] [--sets screw,head_ct,elpv,drawn]

FOLDER holds `mvtec_ad/screw` and `headct`, by default `$BENCH_REAL_DATA`; a set that is not there is left out. Four
shots, three draws, percent: mean ± deviation over the draws. Nothing here takes part in a training.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev

import torch
from lightning.pytorch import Trainer

from benchmark.execution.evaluator import Evaluator
from datamodules.components.base import AnomalyDataModule
from datamodules.elpv import ELPV
from datamodules.head_ct import HeadCT
from datamodules.mvtec_ad import MVTecAD
from datamodules.procedural import Procedural
from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone
from methods.components.feature_store.store import FeatureStore
from methods.nearest_patch import NearestPatch
from methods.trivial_pixel_difference import TrivialPixelDifference

SHOTS, DRAWS, EVALUATION = 4, (0, 1, 2), 256
METRICS = ("image_AUROC", "pixel_AUROC", "pixel_AUPRO")


def opened(name: str, data: Path, size: int, seed: int, per_kind: int) -> Iterator[tuple[str, AnomalyDataModule]]:
    """Row and data set, one for each category, where the images are there."""
    common = {"image_size": size, "shots": SHOTS, "seed": seed}
    if name == "screw" and (data / "mvtec_ad" / "screw").is_dir():
        yield "screw", MVTecAD(data / "mvtec_ad", ["screw"], **common)
    elif name == "head_ct" and (data / "headct").is_dir():
        yield "HeadCT", HeadCT(data / "headct", ["head"], config=HeadCT.Config(variant="quarter"), **common)
    elif name == "elpv":
        yield "ELPV", ELPV(None, ["solar_cell"], config=ELPV.Config(per_kind=per_kind), **common)
    elif name == "drawn":
        for category in Procedural.categories:
            config = Procedural.Config(normal=24, per_defect=12)
            yield f"drawn, {Procedural.kinds[category]}", Procedural(None, (category,), config=config, **common)


def measure(method: Method, data: AnomalyDataModule) -> dict[str, float]:
    """The metrics of one draw of shots, percent."""
    trainer = Trainer(
        callbacks=[Evaluator(EVALUATION)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    (found,) = trainer.test(method, data, verbose=False)
    return {metric: 100 * found[metric] for metric in METRICS if metric in found}


def table(backbone: CLIPBackbone, sets: list[str], data: Path, per_kind: int) -> dict[str, dict[str, list[float]]]:
    """The metrics of each draw, means over its categories, by row."""
    rows: dict[str, dict[str, list[float]]] = {}
    for name in sets:
        for seed in DRAWS:
            draw: dict[str, list[dict[str, float]]] = {}
            for row, images in opened(name, data, backbone.image_size, seed, per_kind):
                images.prepare_data()
                words = dict.fromkeys(images.categories, "object")
                for method in (NearestPatch, TrivialPixelDifference):
                    draw.setdefault(f"{row}, {method.__name__}", []).append(measure(method(backbone, words), images))
            for row, found in draw.items():
                for metric in found[0]:
                    rows.setdefault(row, {}).setdefault(metric, []).append(fmean(one[metric] for one in found))
    return rows


def said(draws: list[float]) -> str:
    """Mean ± deviation over the draws."""
    return f"{fmean(draws):.1f} ± {stdev(draws):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BENCH_REAL_DATA", "data")))
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--size", type=int, help="side of the images, pixels; default: the backbone's own")
    parser.add_argument("--sets", default="screw,head_ct,elpv,drawn")
    parser.add_argument("--per-kind", type=int, default=60, help="test images of ELPV of each label")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    pretrained = "demo" if asked.backbone == "embedded" else ""
    backbone = CLIPBackbone.load(asked.backbone, pretrained, image_size=asked.size)
    backbone.store = FeatureStore(Path(tempfile.mkdtemp()), 8 * 2**30)  # a test image passes the tower once
    began = time.process_time()
    print("| row | " + " | ".join(METRICS) + " |\n|" + " --- |" * 4)
    for row, found in table(backbone, asked.sets.split(","), asked.data, asked.per_kind).items():
        print(f"| {row} | " + " | ".join(said(found[m]) if m in found else "–" for m in METRICS) + " |", flush=True)
    print(
        f"{backbone.image_size} px, {SHOTS} shots, {len(DRAWS)} draws, {(time.process_time() - began) / 60:.1f} CPU min"
    )


if __name__ == "__main__":
    main()
