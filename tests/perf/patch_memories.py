"""What APRIL-GAN and PatchCore cost beside the image tower: run `python -m tests.perf.patch_memories`.

Promised, on random weights of ViT-L-14-336 at 518 px and four shots: an image of a test costs at most 1.25 passes of
the tower with either method, and a step of APRIL-GAN's fit on stored features at most a quarter of one that encodes its
images, so that three epochs cost little more than one. CPU seconds of one thread, so that other processes count little.

The tower passes over one image once; everything else is timed on what that gave, with noise added, so that the script
ends within minutes. `--small` tries it on the embedded model, whose ratios mean nothing.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import open_clip
import torch
from torch import Tensor

from datamodules.components.sample import Batch
from methods.april_gan import AprilGAN
from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone, ImageFeatures
from methods.patchcore.method import PatchCore
from tests.support.steps import descend

CATEGORY, SHOTS, BATCH, STEPS = "bottle", 4, 8, 3
AUXILIARY, EPOCHS = 1725, 3  # test images of MVTec AD; epochs of the released code


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


class Recorded:
    """Features of one image, told of any batch with some noise."""

    def __init__(self, backbone: CLIPBackbone, blocks: Sequence[int]) -> None:
        self.blocks = list(blocks)
        image = torch.rand(1, 3, backbone.image_size, backbone.image_size)
        self.seconds = cpu_seconds(lambda: setattr(self, "seen", backbone.encode_image(image, taps=self.blocks)))

    def encode_image(self, images: Tensor, *, taps: Sequence[int]) -> ImageFeatures:
        seen: ImageFeatures = self.seen  # type: ignore[attr-defined]
        own = seen.taps[[self.blocks.index(block) for block in taps]].expand(-1, len(images), -1, -1)
        noise = own + 0.1 * own.std() * torch.randn(own.shape)
        return ImageFeatures(seen.image.expand(len(images), -1), seen.patches, noise, seen.grid)


def time_method(method: Method[Any], images: Tensor, tower: float) -> None:
    """Print what the shots and a test image cost beside the tower."""
    method.eval()
    shots = cpu_seconds(partial(method.adapt, images[:SHOTS], CATEGORY))
    work = partial(method, images[:1], [CATEGORY])
    first = cpu_seconds(work)  # texts are encoded here
    again = statistics.median(cpu_seconds(work) for _ in range(3))
    ratio = (tower + again) / tower
    print(
        f"{type(method).__name__}: {SHOTS} shots {shots:.2f} s beside {SHOTS * tower:.0f} s of the tower; texts "
        f"{max(0.0, first - again):.1f} s; a test image {again:.2f} s beside {tower:.1f} s, {1 / (tower + again):.3f} "
        f"images/s, ratio {ratio:.3f} (promised at most 1.25)",
        flush=True,
    )


def time_fit(method: AprilGAN, images: Tensor, tower: float) -> None:
    """Print what a step costs, and a fit on MVTec AD that encodes its images once or in every epoch."""
    batch_size, side = len(images), images.shape[-1]
    mask = torch.zeros(batch_size, side, side, dtype=torch.bool)
    mask[::2, side // 4 : side // 2, side // 3 : side // 2] = True
    batch = Batch(images, mask, mask.any(dim=(1, 2)), [CATEGORY] * batch_size, [str(i) for i in range(batch_size)])
    step = partial(descend, method.train().configure_optimizers(), lambda: method.loss(batch), 1)
    seconds = statistics.median(cpu_seconds(step) for _ in range(STEPS))
    encoding, steps = seconds + batch_size * tower, AUXILIARY / batch_size
    once, always = (AUXILIARY * tower * passes + EPOCHS * steps * seconds for passes in (1, EPOCHS))
    print(
        f"a step of {batch_size} images {seconds:.1f} s on stored features, {encoding:.0f} s with the tower, ratio "
        f"{seconds / encoding:.3f} (promised at most 0.25)\n  a fit on {AUXILIARY} images, {EPOCHS} epochs, scaled: "
        f"{once / 3600:.1f} h with features.enabled=true, {always / 3600:.1f} h without"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="the embedded model, to try the script")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if arguments.small:
        backbone = CLIPBackbone.load("embedded", "random")
    else:
        clip, tokenizer = open_clip.create_model("ViT-L-14-336"), open_clip.get_tokenizer("ViT-L-14-336")
        backbone = CLIPBackbone(clip, tokenizer, image_size=518)
    april_gan = AprilGAN(backbone, {CATEGORY: CATEGORY})
    memories = [PatchCore(backbone, {CATEGORY: CATEGORY}, PatchCore.Config(coreset=share)) for share in (1.0, 0.1)]
    recorded = Recorded(backbone, sorted({*april_gan.blocks, *memories[0].blocks}))
    object.__setattr__(backbone, "encode_image", recorded.encode_image)
    images = torch.rand(BATCH, 3, backbone.image_size, backbone.image_size)
    methods: list[Method[Any]] = [april_gan, *memories]
    for method in methods:
        time_method(method, images, recorded.seconds)
    time_fit(april_gan, images, recorded.seconds)


if __name__ == "__main__":
    main()
