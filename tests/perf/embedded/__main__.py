"""The tables of the embedded CLIP's card; run `python -m tests.perf.embedded [WEIGHTS ...]`.

Every file of weights is a training seed; none means the shipped one. Rows are means over the held-out categories of
one kind with 95 % bootstrap intervals over test images (image AUROC / pixel AUROC / pixel AP). Which hand-written
prompts are the best is decided on the auxiliary set.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from datamodules.procedural import Procedural
from methods.components.clip import weights as clip_weights
from methods.components.clip.backbone import CLIPBackbone
from methods.components.feature_store.store import FeatureStore
from methods.nearest_patch import NearestPatch
from methods.trivial_colour_knn import TrivialColourKNN
from methods.trivial_colour_outlier import TrivialColourOutlier
from methods.trivial_pixel_difference import TrivialPixelDifference
from methods.winclip import WinCLIP
from tests.perf.embedded import trials
from tests.perf.embedded.intervals import Trial, metrics, resampled, some, weights, words
from tests.perf.embedded.trials import HAND_WRITTEN, Seen

METRICS = ("image AUROC", "pixel AUROC", "pixel AP")
SHOT_SEEDS = (0, 1, 2)
FITS = (0, 1, 2, 3, 4)
STATES = "WinCLIP states"
KINDS = ("texture", "object", "all")
Rows = dict[str, dict[str, list[Trial]]]  # name of the row, category, repetitions


class Target(NamedTuple):
    """The held-out categories as one backbone sees them."""

    backbone: CLIPBackbone
    seen: dict[str, Seen]


def open_target(pretrained: str) -> Target:
    """A backbone and its features of the held-out test images."""
    backbone = CLIPBackbone.load("embedded", pretrained)
    backbone.store = FeatureStore(Path(tempfile.mkdtemp()), 8 * 2**30)  # a test image passes the tower once
    return Target(backbone, {c: trials.see(backbone, trials.open_target(c, 0, 0)) for c in Procedural.categories})


def name_of(category: str) -> str:
    """The words of a category in a prompt."""
    return Procedural.object_name(category)


def zero_shot(target: Target, label: str, prompts: Sequence[str]) -> Rows:
    """Hand-written prompts, by the object's name."""
    temperature = float(np.exp(-target.backbone.logit_scale))
    rows: Rows = {}
    for prompt in prompts:
        found = {}
        for category, seen in target.seen.items():
            text = trials.hand_written(target.backbone, prompt, name_of(category))
            found[category] = [trials.judged(seen, trials.predict(seen, text, temperature))]
        rows[f"{label}, zero-shot, {prompt}"] = found
    return rows


def other_seeds(label: str) -> Rows:
    """Zero-shot of random weights from five more seeds: which side of chance a single one falls on is luck."""
    merged: dict[str, list[Trial]] = {category: [] for category in Procedural.categories}
    kept = clip_weights.EMBEDDED_SEED
    for seed in FITS:
        clip_weights.EMBEDDED_SEED = seed
        ((_, found),) = zero_shot(open_target("random"), label, (STATES,)).items()
        for category, trial in found.items():
            merged[category] += trial
    clip_weights.EMBEDDED_SEED = kept
    return {f"{label}, zero-shot, {STATES}": merged}


def memory(target: Target, label: str) -> Rows:
    """Nearest patches of 1 and 4 normal images, three samples of shots."""
    return {
        f"{label}, nearest patch, {shots} shots": {
            c: [trials.few_shot(lambda: NearestPatch(target.backbone, {}), c, shots, d, seen) for d in SHOT_SEEDS]
            for c, seen in target.seen.items()
        }
        for shots in (1, 4)
    }


def winclip(target: Target, label: str) -> Rows:
    """The method as `bench run` has it, without shots."""
    return {
        f"{label}, winclip": {
            c: [trials.few_shot(lambda: WinCLIP(target.backbone, {c: name_of(c)}), c, 0, 0, seen)]  # noqa: B023
            for c, seen in target.seen.items()
        }
    }


def trivial(target: Target) -> Rows:
    """The floors, which know no network."""
    rows: Rows = {
        "trivial_colour_outlier": {
            c: [trials.few_shot(lambda: TrivialColourOutlier(target.backbone, {}), c, 0, 0, seen)]
            for c, seen in target.seen.items()
        }
    }
    for cls, name in ((TrivialPixelDifference, "trivial_pixel_difference"), (TrivialColourKNN, "trivial_colour_knn")):
        for shots in (1, 4):
            rows[f"{name}, {shots} shots"] = {
                c: [trials.few_shot(lambda: cls(target.backbone, {}), c, shots, d, seen) for d in SHOT_SEEDS]  # noqa: B023
                for c, seen in target.seen.items()
            }
    return rows


def headroom(target: Target, label: str) -> Rows:
    """The best hand-written prompts, free text vectors and learnt contexts, all without the object's name."""
    backbone, auxiliary = target.backbone, trials.see(target.backbone, trials.open_auxiliary())
    temperature = float(np.exp(-backbone.logit_scale))
    written = {prompt: trials.hand_written(backbone, prompt, "object") for prompt in HAND_WRITTEN}
    every = torch.arange(len(auxiliary.image))
    cost = {p: float(trials.objective(auxiliary, every, text, temperature)) for p, text in written.items()}
    best = min(cost, key=lambda prompt: cost[prompt])
    texts = {f"{label}, best hand-written, '{best}'": [written[best]] * len(FITS)}
    texts[f"{label}, oracle of free vectors"] = [
        trials.free_vectors(backbone, auxiliary, written[best], seed, temperature) for seed in FITS
    ]
    texts[f"{label}, learnt context (CoOp)"] = [
        trials.context_prompts(backbone, auxiliary, seed, temperature) for seed in FITS
    ]
    for name, found in texts.items():
        losses = [float(trials.objective(auxiliary, every, text, temperature)) for text in found]
        print(f"loss on the auxiliary set: {name}: {np.mean(losses):.4f} ± {np.std(losses):.4f}", flush=True)
    return {
        name: {
            c: [trials.judged(seen, trials.predict(seen, text, temperature)) for text in found]
            for c, seen in target.seen.items()
        }
        for name, found in texts.items()
    }


def chosen(kind: str) -> list[str]:
    """The categories of a kind."""
    return [c for c in Procedural.categories if kind in ("all", Procedural.kinds[c])]


def show(rows: Rows) -> None:
    """One line per row and kind."""
    print("| row | kind | " + " | ".join(METRICS) + " |\n|" + " --- |" * 5)
    for name, found in rows.items():
        for kind in KINDS:
            values = resampled([found[c] for c in chosen(kind)])
            print(f"| {name} | {kind} | " + " | ".join(words(v) for v in values) + " |", flush=True)


def compare(rows: Rows, better: str, worse: str) -> None:
    """The paired difference of two rows."""
    for kind in KINDS:
        gap = [resampled([rows[name][c] for c in chosen(kind)]) for name in (better, worse)]
        print(f"| {better} − {worse} | {kind} | " + " | ".join(words(a - b) for a, b in zip(*gap, strict=True)) + " |")


def compare_all(rows: Rows, shared: Rows, label: str, best_floor: str) -> None:
    """The paired differences that the card is about, of one training."""
    print("\nPaired differences\n\n| difference | kind | " + " | ".join(METRICS) + " |\n|" + " --- |" * 5)
    four, states = f"{label}, nearest patch, 4 shots", f"{label}, zero-shot, {STATES}"
    best, oracle, learnt = list(rows)[-3:]
    for better, worse in (
        (states, f"random weights, zero-shot, {STATES}"),
        (states, f"random weights, five more draws, zero-shot, {STATES}"),
        (four, "random weights, nearest patch, 4 shots"),
        (four, best_floor),
        (oracle, best),
        (learnt, best),
    ):
        compare(rows | shared, better, worse)


def show_defects(rows: Rows, seen: dict[str, Seen]) -> None:
    """Image AUROC of every defect alone, against the normal images of its category."""
    print("\n| category | kind | defect | " + " | ".join(rows) + " |\n|" + " --- |" * (3 + len(rows)))
    for category, images in seen.items():
        for defect in sorted(set(images.defect) - {"good"}):
            held = np.isin(images.defect, ("good", defect))
            values = [np.mean([metrics(t, weights(t, None, 1))[0, 0] for t in (some(t, held) for t in found[category])])
                      for found in rows.values()]  # fmt: skip
            line = " | ".join(f"{100 * value:.0f}" for value in values)
            print(f"| {category} | {Procedural.kinds[category]} | {defect} | {line} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", nargs="*", default=["demo"], help="safetensors files, one per training seed")
    options = parser.parse_args()
    started = time.process_time()
    torch.manual_seed(0)
    blind = open_target("random")
    shared = {**zero_shot(blind, "random weights", (STATES,)), **memory(blind, "random weights")}
    shared |= other_seeds("random weights, five more draws")
    shared |= trivial(blind)
    print("## Without training\n")
    show(shared)
    floors = [name for name in shared if name.startswith("trivial")]
    best_floor = max(floors, key=lambda name: resampled([shared[name][c] for c in chosen("all")])[0, 0])
    by_defect: Rows = {}
    for index, file in enumerate(options.weights):
        label = f"training {index}"
        target = open_target(file)
        print(f"\n## {label}: {target.backbone.weights_hash}\n")
        rows = {**zero_shot(target, label, tuple(HAND_WRITTEN)), **winclip(target, label), **memory(target, label)}
        rows |= headroom(target, label)
        show(rows)
        compare_all(rows, shared, label, best_floor)
        by_defect |= {n: rows[n] for n in (f"{label}, zero-shot, {STATES}", f"{label}, nearest patch, 4 shots")}
    print("\n## By defect, image AUROC")
    show_defects(by_defect, blind.seen)
    print(f"\n{time.process_time() - started:.0f} s of processor time")


if __name__ == "__main__":
    main()
