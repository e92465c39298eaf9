"""The teacher's features of many views, computed once and kept in shards below the cache."""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from benchmark.pretraining import photographs as listed
from benchmark.pretraining.photographs import Photograph
from benchmark.pretraining.views import VIEWS_VERSION, shard_of_views
from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.depth import blocks_at

#: Depths of the teacher that the student's blocks imitate: those that `nearest_patch` compares.
DEPTHS = (0.25, 0.5, 0.75, 1.0)
_AT_ONCE = 8  # views in a pass of the teacher


class Shard(NamedTuple):
    """Views and the teacher's features of them, memory-mapped."""

    images: np.ndarray  # (n, side, side, 3) uint8: the views at the student's size
    tokens: np.ndarray  # (n, L, N, width) float16, unit length: patches after the block of each depth
    classes: np.ndarray  # (n, L, width) float16, unit length: the class token beside them


def shard_folder(cache: Path, teacher: CLIPBackbone, photographs: list[Photograph], side: int, seed: int) -> Path:
    """Where the shards lie: named by the weights, the list of photographs, the student's size and the views."""
    weights, shown = teacher.image_tower_hash[:8], listed.list_hash(photographs)[:8]
    return cache / f"teacher-{weights}-{teacher.image_size}px-photographs-{shown}-{side}px-v{VIEWS_VERSION}-seed{seed}"


def make_shards(
    folder: Path, teacher: CLIPBackbone, root: Path, photographs: list[Photograph], count: int, side: int, seed: int
) -> list[Shard]:
    """The first `count` shards of a folder; those that are there are not made again.

    Args:
        folder: from `shard_folder`.
        teacher: whose grid of patches is the student's.
        root: below which Debian's packages lie.
        photographs: all that are there.
        count: number of shards.
        side: of the student's images, pixels.
        seed: of the views.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        place = folder / f"{number:05d}"
        if place.exists():
            continue
        fresh = place.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        views = shard_of_views(root, photographs, number, teacher.image_size, seed)
        shard = look(teacher, views, side)
        for name, array in shard._asdict().items():
            np.save(fresh / f"{name}.npy", array)
        fresh.rename(place)
        print(f"teacher's features: {number + 1} of {count} shards", flush=True)
    return open_shards(folder, count)


def open_shards(folder: Path, count: int) -> list[Shard]:
    """The first `count` shards, memory-mapped."""
    return [
        Shard(*(np.load(folder / f"{number:05d}" / f"{name}.npy", mmap_mode="r") for name in Shard._fields))
        for number in range(count)
    ]


@torch.no_grad()
def look(teacher: CLIPBackbone, views: np.ndarray, side: int) -> Shard:
    """The shard of views (n, H, H, 3) uint8."""
    images = torch.from_numpy(views).permute(0, 3, 1, 2).float() / 255
    taps = blocks_at(DEPTHS, teacher.n_image_blocks)
    tokens, classes = [], []
    for some in images.split(_AT_ONCE):
        found = teacher.encode_image(some.to(teacher.mean.device), taps=taps)
        tokens.append(F.normalize(found.taps, dim=-1).transpose(0, 1).half().cpu())
        classes.append(F.normalize(found.class_taps, dim=-1).transpose(0, 1).half().cpu())
    small = F.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    pixels = (255 * small).round().byte().permute(0, 2, 3, 1)
    return Shard(pixels.numpy(), torch.cat(tokens).numpy(), torch.cat(classes).numpy())
