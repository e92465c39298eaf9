"""What the rivals of prompt learning cost: run `python -m tests.perf.rivals` from the repository.

On random weights of the papers' towers, ViT-L-14-336 at 518 px and, for AnoVL, ViT-B-16-plus-240 at 240 px: CPU seconds
of making the method, of a step of its fit and of testing an image. The first number of a column is the method's own,
with the images' features in a store; the second has the frozen pass in it that all of them share. Nothing is promised.
`--small` tries the script on the embedded model, `--methods coop,anovl` takes some.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import open_clip
import torch

from benchmark.request import registry
from datamodules.components.sample import Batch
from methods.components.base import Method
from methods.components.clip.backbone import CLIPBackbone
from methods.components.feature_store.store import FeatureStore

TOWERS = {"anovl": ("ViT-B-16-plus-240", 240)}
LARGE = ("ViT-L-14-336-quickgelu", 518)
NAMES = ("linear_heads", "coop", "anomalyclip", "af_clip", "anovl")
CATEGORY, ROUNDS = "bottle", 3


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def open_tower(name: str, small: bool) -> CLIPBackbone:
    if small:
        return CLIPBackbone.load("embedded", "random")
    model, size = TOWERS.get(name, LARGE)
    return CLIPBackbone(open_clip.create_model(model), open_clip.SimpleTokenizer(), image_size=size)


def noise_batch(size: int, count: int) -> Batch:
    mask = torch.zeros(count, size, size, dtype=torch.bool)
    mask[-1, size // 4 : size // 2, size // 3 : size // 2] = True
    images = torch.rand(count, 3, size, size)
    return Batch(images, mask, mask.any(dim=(1, 2)), [CATEGORY] * count, [f"{i}.png" for i in range(count)])


def step(method: Method, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    optimizer.zero_grad()
    method.loss(batch).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def known_and_unknown(backbone: CLIPBackbone, work: Callable[[], object]) -> str:
    """CPU seconds with the features of all images known, and with none."""
    work()
    known = median(cpu_seconds(work) for _ in range(ROUNDS))
    store, backbone.store = backbone.store, None
    unknown = cpu_seconds(work)
    backbone.store = store
    return f"{known:.2f} / {unknown:.2f}"


def measure(name: str, small: bool, count: int) -> Sequence[str]:
    """A row of the table."""
    backbone, kind = open_tower(name, small), registry.load(registry.method(name), Method)
    with tempfile.TemporaryDirectory() as folder:
        backbone.store = FeatureStore(Path(folder), max_bytes=2**32)
        made: list[Method] = []
        cells = [name, f"{cpu_seconds(lambda: made.append(kind(backbone, {CATEGORY: CATEGORY}))):.1f}"]
        method, batch = made[0], noise_batch(backbone.image_size, count)
        if method.fits_on == "nothing":
            cells.append("-")
        else:
            found: Any = method.configure_optimizers()
            optimizer = found[0][0] if isinstance(found, tuple) else found
            cells.append(known_and_unknown(backbone, lambda: step(method.train(), optimizer, batch)))
        one = batch.image[:1]
        cells.append(known_and_unknown(backbone, lambda: method.eval()(one, [CATEGORY])))
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="the embedded model, to try the script")
    parser.add_argument("--methods", default=",".join(NAMES))
    parser.add_argument("--batch", type=int, default=2, help="images of a step")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"CPU seconds of one thread; a step has {arguments.batch} images; features known / none known")
    print("| method | made | a step of the fit | an image in a test |\n| --- | --- | --- | --- |", flush=True)
    for name in arguments.methods.split(","):
        print(f"| {' | '.join(measure(name, arguments.small, arguments.batch))} |", flush=True)


if __name__ == "__main__":
    main()
