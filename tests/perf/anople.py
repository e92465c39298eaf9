"""What AnoPLe adds to its towers: run `python -m tests.perf.anople` from the repository.

Promised: a training step of 8 images in 5 views costs at most 1.15 times a forward and backward pass of the same tower
on the same 40 views; synthesis and the cutting of views under 10 % of a step; a test at most 1.1 times plain CLIP;
scores under bf16 near those of fp32; memory that stays flat over 600 steps.

The same tower: frozen, with a gradient that reaches learnt tokens in front of its first block and so passes all blocks.
Two such passes, class and patch features read at the end of both: one with as many learnt tokens as AnoPLe, kept in all
blocks; one with a single token, so nearly of patches alone. In turns in one process, medians of CPU seconds of one
thread, so that other processes count little. A step contains the cutting of views, losses and AdamW; synthesis is timed
alone: it overlaps with the step where cores are idle, or `trainer.num_workers` is 1 or more. On the embedded model, and
on ViT-B-16-plus-240 with random weights and 1 image, where what does not grow with images weighs more than in 8.
Memory: a fit of the embedded model on single images, resident at its highest.

Measured once on ViT-B-16-plus-240 with 8 images in 5 views: a first step takes 62 CPU seconds of one thread and 6.2 GiB
resident at its highest (with 1 image 9 seconds and 2.5 GiB), of which 1.8 GiB were reached before it.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
from lightning.pytorch import Callback
from PIL import Image
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader

from benchmark.execution.fitting import make_trainer
from benchmark.execution.run_cell import peak_memory
from datamodules.components.reading import Item, SampleImages, collate
from datamodules.components.resampling import ResampledImages
from datamodules.components.sample import Batch, Sample
from methods.anople.method import AnoPLe
from methods.anople.simulation import cut
from methods.components.clip.backbone import CLIPBackbone
from methods.components.prompts import new_prompt

CATEGORY, SHOTS, VIEWS = "bottle", 4, 5


def medians(works: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """CPU seconds of each, in turns, after one round that does not count."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds + 1):
        for work, row in zip(works, times, strict=True):
            start = time.process_time()
            work()
            row.append(time.process_time() - start)
    return [statistics.median(row[1:]) for row in times]


def synthesise_batch(method: AnoPLe, images: Tensor) -> Batch:
    """Normal images (B, 3, 2S, 2S), the places of a fit in turn, with the anomalies that it makes of them."""
    none, augment = torch.zeros(images.shape[-2:], dtype=torch.bool), method.augmentation()
    return collate(
        [augment(Item(image, none, False, CATEGORY, ""), place, place) for place, image in enumerate(images)]
    )


def plain_pass(backbone: CLIPBackbone, views: Tensor, n_tokens: int) -> Callable[[], None]:
    """A forward and backward pass with learnt tokens in front of the first block."""
    tokens = new_prompt(n_tokens, backbone.image_width)
    weight = torch.randn(backbone.embed_dim)

    def run() -> None:
        features = backbone.encode_image(views, layers=(backbone.n_image_blocks,), prefix=tokens)
        (features.image.mean(dim=0) @ weight + features.patches.mean(dim=(0, 1, 2)) @ weight).backward()

    return run


def compare_steps(label: str, backbone: CLIPBackbone, n_images: int, rounds: int) -> None:
    method = AnoPLe(backbone, {CATEGORY: CATEGORY}).train()
    images = torch.rand(n_images, 3, 2 * backbone.image_size, 2 * backbone.image_size)
    batch, optimizer = synthesise_batch(method, images), method.configure_optimizers()["optimizer"]
    views = cut(batch, VIEWS, backbone.patch_size).image

    def step() -> None:
        optimizer.zero_grad()
        method.loss(batch).backward()
        clip_grad_norm_(method.parameters(), method.config.clip)
        optimizer.step()

    n_tokens = method.prompts().visual[0].shape[-2] + 1  # one signal
    ours, prompted, patches, synthesis, cutting = medians(
        (
            step,
            plain_pass(backbone, views, n_tokens),
            plain_pass(backbone, views, 1),
            lambda: synthesise_batch(method, images),
            lambda: cut(batch, VIEWS, backbone.patch_size),
        ),
        rounds,
    )
    print(
        f"{label}, {n_images} x {VIEWS} views: a step {ours:.2f} s; plain pass with {n_tokens} learnt tokens "
        f"{prompted:.2f} s, ratio {ours / prompted:.2f}; with 1 {patches:.2f} s, ratio {ours / patches:.2f} (promised "
        f"1.15)\n  of a step: synthesis {synthesis / ours:.1%}, cutting {cutting / ours:.1%} (promised 10 % together)",
        flush=True,
    )


def compare_tests(label: str, backbone: CLIPBackbone, n_images: int, rounds: int) -> None:
    method = AnoPLe(backbone, {CATEGORY: CATEGORY}).eval()
    side = backbone.image_size
    method.adapt(torch.rand(SHOTS, 3, side, side), CATEGORY)
    images, layers = torch.rand(n_images, 3, side, side), (backbone.n_image_blocks,)
    ours, plain = medians(
        (
            lambda: method(images, [CATEGORY] * n_images),
            lambda: backbone.encode_image(images, layers=layers),
        ),
        rounds,
    )
    print(
        f"{label}, a test of {n_images}: {ours:.2f} s against {plain:.2f} s of plain CLIP, ratio "
        f"{ours / plain:.2f} (promised 1.1)",
        flush=True,
    )


class Watch(Callback):
    """Notes the highest resident memory after each step, MiB."""

    def __init__(self) -> None:
        self.highest: list[float] = []

    def on_train_batch_end(self, *args: object) -> None:
        self.highest.append(peak_memory(torch.device("cpu")))


def watch_memory(backbone: CLIPBackbone, steps: int) -> AnoPLe:
    """A whole fit on noise; returns what was fitted."""
    config = AnoPLe.Config(steps=steps, batch_size=1)
    method, watch, side = AnoPLe(backbone, {CATEGORY: CATEGORY}, config), Watch(), 2 * backbone.image_size
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        samples = [Sample(Path(folder) / f"{i}.png", CATEGORY) for i in range(SHOTS)]
        for sample in samples:
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(sample.image)
        reader = SampleImages(samples, Path(folder), side)
        augment = method.augmentation()
        images = ResampledImages(reader, batches=steps, batch_size=1, seed=0, augment=augment, repeats=augment.repeats)
        loader = DataLoader(images, batch_size=augment.repeats, collate_fn=collate)
        make_trainer(torch.device("cpu"), [], max_epochs=1, callbacks=[watch]).fit(method, loader)
    at = sorted({*range(49, steps, 50), steps - 1})
    print("resident at its highest, MiB, " + ", ".join(f"step {i + 1}: {watch.highest[i]:.0f}" for i in at), flush=True)
    return method


def compare_precision(method: AnoPLe, backbone: CLIPBackbone) -> None:
    half = CLIPBackbone(backbone.clip, backbone.tokenizer, precision="bf16")
    other = AnoPLe(half, {CATEGORY: CATEGORY})
    other.load_state_dict(method.state_dict())
    shots, images = torch.rand(SHOTS + 32, 3, backbone.image_size, backbone.image_size).split((SHOTS, 32))
    found = []
    for each in (method, other):
        each.eval().adapt(shots, CATEGORY)
        found.append(each(images, [CATEGORY] * len(images)))
    scores, maps = ((a - b).abs() for a, b in zip(*found, strict=True))
    print(
        f"bf16 against fp32, {len(images)} images: scores differ by {scores.max():.1e} at most and {scores.mean():.1e} "
        f"in the mean (their spread {found[0].score.std():.1e}), maps by {maps.max():.1e} and {maps.mean():.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="without ViT-B-16-plus-240")
    parser.add_argument("--steps", type=int, default=600, help="of the fit whose memory is watched")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    embedded = CLIPBackbone.load()
    fitted = watch_memory(embedded, arguments.steps)  # first, since what follows needs more
    compare_precision(fitted, embedded)
    compare_steps("embedded", embedded, 8, rounds=5)
    compare_tests("embedded", embedded, 8, rounds=5)
    if not arguments.small:
        name = "ViT-B-16-plus-240"
        backbone = CLIPBackbone(open_clip.create_model(name), open_clip.get_tokenizer(name))
        compare_steps(name, backbone, 1, rounds=2)
        compare_tests(name, backbone, 1, rounds=5)


if __name__ == "__main__":
    main()
