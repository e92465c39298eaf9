"""Which image passes a feature store may answer, and everything besides the pixels that their answers depend on."""

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from methods.components.clip.image_tower import ImageFeatures, ImageRequest, Windows, patch_grid
from methods.components.clip.precision import read_switches


def recall_image(
    backbone: Any, images: Tensor, request: ImageRequest, run: Callable[[Tensor], ImageFeatures]
) -> ImageFeatures:
    """`run(images)`, from the store of `backbone` where there is one and nothing that is learnt takes part."""
    prompted = request.deep_prompts or request.prefix is not None or request.patch_edit is not None
    if backbone.store is None or prompted:
        return run(images)
    fields = (list(request.layers), request.stream, request.vv_from)
    asked = f"image {fields} {list(request.taps)} {request.tap_point} {request.class_norm} {request.normalise}"
    parts = backbone.store.recall(images, _request(backbone, images, asked), lambda some: run(some)[:4], (0, 1, 1, 1))
    return ImageFeatures(parts[0], parts[1], parts[2], parts[3], patch_grid(backbone.clip.visual, *images.shape[2:]))


def recall_windows(backbone: Any, images: Tensor, windows: Windows, run: Callable[[Tensor], Tensor]) -> Tensor:
    """`run(images)` of `windows`, from the store of `backbone` where there is one."""
    if backbone.store is None:
        return run(images)
    asked = _request(backbone, images, f"windows {windows.patches.tolist()}")
    features: Tensor = backbone.store.recall(images, asked, lambda some: (run(some),), (0,))[0]
    return features


def describe_tower(weights_hash: str, visual: Any, mean: Tensor, std: Tensor) -> str:
    """Hash of the weights and of what towers with equal weights may differ in: activation, norms, heads, mean, std.

    Args:
        weights_hash: of the whole model.
        visual: open_clip's `VisionTransformer`.
        mean: of the images, any shape.
        std: of the images, any shape.
    """
    heads = [block.attn.num_heads for block in visual.transformer.resblocks]
    described = f"{weights_hash} {visual!r} {heads} {mean.tolist()} {std.tolist()}"
    return hashlib.sha256(described.encode()).hexdigest()


def arithmetic(device: torch.device) -> str:
    """Release of torch, kind of device and the switches that let float32 products be rounded to fewer bits."""
    return " ".join([str(torch.__version__), device.type, *read_switches().values()])


def _request(backbone: Any, images: Tensor, asked: str) -> str:
    settings = f"{backbone.image_tower_hash} {backbone.position_resize} {backbone.precision}"
    return f"{settings} {arithmetic(images.device)} {asked}"
