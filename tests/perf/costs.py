"""What each method costs on the CLIP of paper/tables: run `python -m tests.perf.costs` from the repository.

Prints lines of `configs/costs.csv`, which `bench run --dry-run` reads: CPU seconds of one thread on random weights of
ViT-L-14-336 at 518 px, without passes of the frozen image tower, for a step of a method's fit (of its own batch, or of
four shots), for each of four shots and for a test image; how many passes an image shown to the fit, a shot and a test
image take; and the seconds of a pass. The tower passes over one image once for each form of its output and a batch is
that with noise, so that the script ends within minutes. Nothing is promised. `--small` tries it on the embedded model.

Not among the lines: winclip and anople, whose passes are of windows and of learnt prompts, not of the frozen tower.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import open_clip
import torch
from torch import Tensor

from benchmark.request import registry
from datamodules.components.sample import Batch
from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone

NAMES = "linear_heads,anomalyclip,coop,af_clip,april_gan,nearest_patch,patchcore,anovl,faprompt,promptad,finegrainedad"
CATEGORY, SHOTS = "bottle", 4


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


class Recorded:
    """Features of one image, told of any batch with some noise; counts the images that the tower would have passed."""

    def __init__(self, backbone: CLIPBackbone) -> None:
        self.encode, self.passed, self.seconds = backbone.encode_image, 0, 0.0
        self.seen: dict[tuple[str, int], Any] = {}
        object.__setattr__(backbone, "encode_image", self.encode_image)

    def encode_image(self, images: Tensor, **form: Any) -> Any:
        assert not {"prefix", "deep_prompts", "patch_edit"} & {key for key, value in form.items() if value}
        key, count = repr(sorted(form.items())), len(images)
        side = images.shape[-1]
        if (key, side) not in self.seen:
            with torch.no_grad():
                self.seconds = cpu_seconds(lambda: self.seen.update({(key, side): self.encode(images[:1], **form)}))
        self.passed += count
        seen = self.seen[key, side]
        tensors = {name: value for name, value in seen._asdict().items() if isinstance(value, Tensor)}
        axes = {"image": 0, "patches": 1, "taps": 1, "class_taps": 1}
        return seen._replace(**{name: spread(value, axes[name], count) for name, value in tensors.items()})

    def measure(self, work: Callable[[], object]) -> tuple[float, int]:
        """CPU seconds of work whose features are known, and the images passed; after a first time."""
        work()
        self.passed = 0
        return cpu_seconds(work), self.passed


def spread(one: Tensor, axis: int, count: int) -> Tensor:
    many = one.repeat_interleave(count, axis)
    return many + 0.1 * one.std() * torch.randn(many.shape) if many.numel() > 1 else many


def batch_of(size: int, count: int, *, anomalies: bool) -> Batch:
    mask = torch.zeros(count, size, size, dtype=torch.bool)
    if anomalies:
        mask[::2, size // 4 : size // 2, size // 3 : size // 2] = True
    names = [f"{i}.png" for i in range(count)]
    return Batch(torch.rand(count, 3, size, size), mask, mask.any(dim=(1, 2)), [CATEGORY] * count, names)


def measure(name: str, backbone: CLIPBackbone, recorded: Recorded) -> str:
    """The end of a line: seconds and passes of a step, a shot, a test."""
    facts = registry.method(name)
    method: Any = registry.load(facts, Method)(backbone, {CATEGORY: CATEGORY})
    side = backbone.image_size
    shot = step = (0.0, 0)
    if {"few_shot", "multi_class"} & {*facts.protocols}:
        large = torch.rand(SHOTS, 3, side * method.shot_scale, side * method.shot_scale)
        seconds, passes = recorded.measure(lambda: method.adapt(large, CATEGORY))
        shot = (seconds / SHOTS, passes // SHOTS)
    if facts.fits_on != "nothing":
        count = SHOTS if facts.fits_on == "shots" else method.config.batch_size
        batch, made = batch_of(side, count, anomalies=facts.fits_on == "auxiliary"), method.configure_optimizers()
        optimizer = made[0][0] if isinstance(made, tuple) else made

        def descend() -> None:
            optimizer.zero_grad()
            method.loss(batch).backward()
            optimizer.step()

        method.train()
        seconds, passes = recorded.measure(descend)
        step = (seconds, passes // count)
    method.eval()
    image = torch.rand(1, 3, side, side)
    test = recorded.measure(lambda: method(image, [CATEGORY]))
    found = [f"{seconds:.3f},{passes}" for seconds, passes in (step, shot, test)]
    return f"{','.join(found)},{recorded.seconds:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="the embedded model, to try the script")
    parser.add_argument("--methods", default=NAMES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = "embedded" if arguments.small else "ViT-L-14-336-quickgelu"
    if arguments.small:
        backbone = CLIPBackbone.load(model, "random")
    else:
        clip = open_clip.create_model(model)
        backbone = CLIPBackbone(clip, open_clip.SimpleTokenizer(), image_size=518)
    recorded = Recorded(backbone)
    print("method,backbone,image_size,step,step_passes,shot,shot_passes,test,test_passes,tower", flush=True)
    for name in arguments.methods.split(","):
        print(f"{name},{model},{backbone.image_size},{measure(name, backbone, recorded)}", flush=True)


if __name__ == "__main__":
    main()
