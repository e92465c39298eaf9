"""Images a second of every method: run `python -m tests.gpu.throughput` from the repository, on a machine with a GPU.

Weights are random, since speed does not depend on them. Each method is tested as its first protocol tests it, on noise,
after two shots a category where it takes shots; no fit is timed. A row is the median of some batches, with a wait for
the device after each. `--device cpu` tries the script where there is no GPU.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import open_clip
import torch

from benchmark.contract.candidates import WORDS, Candidate, candidates
from benchmark.request import registry
from benchmark.request.protocols import PROTOCOLS
from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.precision import set_arithmetic

#: The two towers of the papers, at their sizes.
MODELS = (("ViT-B-16-plus-240", 240), ("ViT-L-14-336-quickgelu", 518))
PRECISIONS = ("fp32", "bf16")


class Row(NamedTuple):
    """What is measured of a method."""

    method: str
    protocol: str
    images_per_second: float
    peak_gib: float | None  # of the device's memory; None on a CPU


def measure(candidate: Candidate, backbone: CLIPBackbone, batch: int, rounds: int) -> Row:
    """Time `rounds` batches of `batch` images after two that warm up."""
    device, size = backbone.mean.device, backbone.image_size
    torch.manual_seed(0)
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in candidate.settings.items()}
    words = {category: WORDS[category] for category in candidate.categories}
    method = candidate.cls(backbone, words, candidate.cls.Config(**values)).to(device).eval()
    seconds = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with torch.inference_mode():
        for category in candidate.categories if PROTOCOLS[candidate.protocol].uses_shots else ():
            side = size * method.shot_scale
            method.adapt(torch.rand(2, 3, side, side, device=device), category)
        for _ in range(2 + rounds):
            images = torch.rand(batch, 3, size, size, device=device)
            wait(device)
            start = time.perf_counter()
            method.predict(images, candidate.keys(batch))
            wait(device)
            seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return Row(candidate.name, candidate.protocol, batch / statistics.median(seconds[2:]), peak)


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def tables(device: torch.device, models: tuple[tuple[str, int], ...], batch: int, rounds: int) -> Iterator[str]:
    """Lines of Markdown."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    yield f"# Images a second, {name}, torch {torch.__version__}, {batch} images a batch, random weights\n"
    for model, size in models:
        for precision in PRECISIONS:
            set_arithmetic(precision)
            clip = open_clip.CLIP(**open_clip.get_model_config(model))
            backbone = CLIPBackbone(clip, open_clip.SimpleTokenizer(), image_size=size, precision=precision).to(device)
            yield f"\n## {model} at {size} px, {precision}\n"
            yield "| method | protocol | images/s | peak GiB |\n| --- | --- | --- | --- |"
            for each in registry.names("method"):
                row = measure(candidates(each)[0], backbone, batch, rounds)
                peak = "–" if row.peak_gib is None else f"{row.peak_gib:.1f}"
                yield f"| {row.method} | {row.protocol} | {row.images_per_second:.1f} | {peak} |"


def main() -> None:
    """Print the tables and write them, or say that there is no GPU."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", choices=[name for name, _ in MODELS], help="one of both")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("results/throughput.md"))
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no GPU, so {asked.out} was not written.")
        return
    models = tuple(pair for pair in MODELS if asked.model in (None, pair[0]))
    lines = []
    for line in tables(torch.device(asked.device), models, asked.batch, asked.rounds):
        print(line, flush=True)
        lines.append(line)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
