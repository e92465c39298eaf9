"""What the feature store costs and gains: run `python -m tests.perf.feature_store` from the repository.

For each model, in turns in one process: passes without a store, first passes with an empty one, repeated passes, all of
them with the class feature, four layers of patches and the V-V stream that AnomalyCLIP and FAPrompt ask for. Medians of
CPU seconds of one thread, system time included, so that other processes do not count; the wall clock of a disk that
must be read anew is not in them.
"""

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import open_clip
import torch
from torch import Tensor

from methods.components.clip.backbone import CLIPBackbone
from methods.components.feature_store.store import FeatureStore

ROUNDS = 5


def vit_b_16() -> CLIPBackbone:
    """The image tower of ViT-B-16 with random weights, at 240 px; its text tower is a small one that is not run."""
    vision = open_clip.get_model_config("ViT-B-16")["vision_cfg"]
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    clip = open_clip.CLIP(embed_dim=512, vision_cfg=vision, text_cfg=text)
    return CLIPBackbone(clip, open_clip.SimpleTokenizer(), image_size=240)


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def hash_images(images: Tensor) -> list[bytes]:
    return [hashlib.sha256(image.numpy()).digest() for image in images]


def compare(label: str, backbone: CLIPBackbone, batch: int, folder: Path) -> None:
    n_blocks = backbone.n_image_blocks
    layers = tuple(n_blocks * quarter // 4 for quarter in (1, 2, 3, 4))
    times: dict[str, list[float]] = {name: [] for name in ("hash", "without", "first", "opened again", "repeated")}
    for turn in range(ROUNDS):
        generator = torch.Generator().manual_seed(turn)
        images = torch.rand(batch, 3, backbone.image_size, backbone.image_size, generator=generator)

        def encode(images: Tensor = images) -> Tensor:
            return backbone.encode_image(
                images, layers=layers, stream="vv_from_ordinary", vv_from=n_blocks // 5
            ).patches

        backbone.store = None
        wanted = encode()
        times["hash"].append(cpu_seconds(lambda images=images: hash_images(images)))
        times["without"].append(cpu_seconds(encode))
        backbone.store = FeatureStore(folder, 2**32)
        times["first"].append(cpu_seconds(encode))
        backbone.store = FeatureStore(folder, 2**32)  # the checksums are compared, as in another process
        times["opened again"].append(cpu_seconds(encode))
        times["repeated"].append(cpu_seconds(encode))
        assert torch.equal(encode(), wanted)
    hashed, without, first, again, repeated = (statistics.median(row) for row in times.values())
    stored = sum(path.stat().st_size for path in folder.glob("*/*.features")) / (ROUNDS * batch)
    print(f"{label}, batches of {batch}, {stored / 2**20:.2f} MiB an image on disk")
    print(f"  an image without a store {1e3 * without / batch:.2f} ms, its hash {1e3 * hashed / batch:.3f} ms")
    print(f"  hash / pass {hashed / without:.4f}, first pass with / without a store {first / without:.3f}")
    print(f"  without / repeated pass {without / repeated:.1f}, without / pass after opening {without / again:.1f}")


def main() -> None:
    torch.set_num_threads(1)
    embedded = CLIPBackbone.load()
    for label, backbone, batch in (
        (f"embedded, {embedded.image_size} px", embedded, 8),
        ("ViT-B-16, 240 px", vit_b_16(), 2),
    ):
        with tempfile.TemporaryDirectory() as folder:
            compare(label, backbone, batch, Path(folder))


if __name__ == "__main__":
    main()
