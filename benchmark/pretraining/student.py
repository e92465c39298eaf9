"""The student: a small image tower whose tokens become those of the teacher, block for block."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmark.pretraining.features import DEPTHS, Shard
from benchmark.pretraining.start import waves, whitening
from methods.components.clip.depth import blocks_at
from methods.components.clip.image_tower import ImageFeatures, ImageRequest, run_image
from methods.components.clip.model_files import CHECKPOINTS, DESCRIPTION
from methods.components.clip.published_weights import EMBEDDED
from methods.components.clip.weights import model_config

#: Mean and deviation that open_clip gives the images of a model without its own, (1, 3, 1, 1) each.
NORMALISATION = [
    torch.tensor(v).view(1, 3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
]
#: open_clip's description of the model.
CONFIG: dict[str, Any] = model_config(EMBEDDED)
SIDE: int = CONFIG["vision_cfg"]["image_size"]
GRID = SIDE // CONFIG["vision_cfg"]["patch_size"]
_STREAM = 0.1  # deviation of what enters the first block
_CLASS = 0.25  # weight of the class token beside the patches
_GAIN, _OFFSET = 0.08, 0.03  # most that the light on the student's image differs from that on the teacher's


class Target(NamedTuple):
    """What the student's tokens are compared with: the teacher's, by depth, in the student's width."""

    basis: Tensor  # (L, teacher's width, width) orthonormal columns
    constant: Tensor  # (L,) mean cosine distance of the teacher's tokens to the best constant one, after the projection


def fit_target(shards: list[Shard], width: int) -> Target:
    """The target of a student of `width`.

    Columns of the basis are the directions of the tokens' largest second moments, so that a projection changes cosines
    between tokens as little as it can; with equal widths it is the identity.
    """
    tokens = torch.from_numpy(np.concatenate([shard.tokens[:, :, ::7] for shard in shards])).float()
    tokens = tokens.transpose(0, 1).flatten(1, 2)  # (L, n, teacher's width)
    theirs = tokens.shape[-1]
    if theirs == width:
        basis = torch.eye(width).expand(len(tokens), -1, -1)
    elif theirs > width:
        _, directions = torch.linalg.eigh((tokens.transpose(1, 2) @ tokens).double())  # rising
        basis = directions[:, :, -width:].float()
    else:
        basis = torch.eye(theirs, width).expand(len(tokens), -1, -1)
    projected = F.normalize(tokens @ basis, dim=-1)
    return Target(basis, 1 - projected.mean(dim=1).norm(dim=-1))


def unit_target(target: Target, tokens: Tensor) -> Tensor:
    """The teacher's unit tokens (B, L, …, width) in the student's width, of unit length again."""
    if target.basis.shape[1] == target.basis.shape[2]:
        return tokens
    flat = tokens.flatten(2, -2) if tokens.ndim > 3 else tokens.unsqueeze(2)
    return F.normalize(flat @ target.basis.to(flat), dim=-1).view(*tokens.shape[:-1], -1)


def new_student(seed: int, images: np.ndarray) -> open_clip.CLIP:
    """The model with its first weights.

    Its first layer whitens the patches of `images` (n, side, side, 3) uint8. What enters the blocks is small beside
    what they add, so that the blocks, not the pixels, soon decide the direction of a token.
    """
    torch.manual_seed(seed)
    clip = open_clip.CLIP(**CONFIG)
    visual: Any = clip.visual
    patch = visual.patch_size[0]
    patches = F.unfold(normalised(images), patch, stride=patch).transpose(1, 2).flatten(0, 1)
    with torch.no_grad():
        visual.conv1.weight.copy_(whitening(patches, len(visual.conv1.weight)).view_as(visual.conv1.weight))
        visual.ln_pre.weight.fill_(_STREAM)
        visual.positional_embedding[1:] = waves(visual.grid_size[0], visual.positional_embedding.shape[1])
    return clip


def normalised(images: np.ndarray, light: np.random.Generator | None = None) -> Tensor:
    """Images (n, H, W, 3) uint8 as the tower reads them, (n, 3, H, W), each in its own light if `light` is given."""
    shown = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    if light is not None:
        gain, offset = (
            torch.from_numpy(light.uniform(-most, most, (len(images), 1, 1, 1))).float() for most in (_GAIN, _OFFSET)
        )
        shown = (shown * (1 + gain) + offset).clamp(0, 1)
    return (shown - NORMALISATION[0]) / NORMALISATION[1]


def see(clip: Any, images: Tensor, corner: tuple[int, int] = (0, 0)) -> ImageFeatures:
    """Raw tokens of normalised images after the student's block of each depth.

    A smaller image is a part of a whole one: it has the positions of the patches from `corner` (row, column) on.
    """
    visual = clip.visual
    rows, columns = (side // visual.patch_size[0] for side in images.shape[2:])
    square = visual.positional_embedding[1:].unflatten(0, tuple(visual.grid_size))
    square = square[corner[0] : corner[0] + rows, corner[1] : corner[1] + columns]
    positions = torch.cat([visual.positional_embedding[:1], square.flatten(0, 1)])
    taps = blocks_at(DEPTHS, len(visual.transformer.resblocks))
    return run_image(visual, images, positions, (rows, columns), ImageRequest(taps=taps))


def unexplained(found: ImageFeatures, tokens: Tensor, classes: Tensor | None, target: Target) -> dict[str, Tensor]:
    """Mean cosine distance of tokens to the teacher's, as a share of that of the best constant token: (L,) each.

    0 is the teacher, 1 is a student that says the same of everything. Raw tokens are compared, with no layer between
    that a memory would not have: what a memory reads are cosines of just these.

    Args:
        found: the student's, of `see`.
        tokens: the teacher's patches, (B, L, N, width), of unit length.
        classes: the teacher's class tokens, (B, L, width), of unit length; None where the student sees a part alone.
        target: of the training.
    """
    scale = target.constant.to(found.taps)
    apart = 1 - F.cosine_similarity(found.taps, unit_target(target, tokens).transpose(0, 1), dim=-1)  # (L, B, N)
    terms = {"patches": apart.mean(dim=(1, 2)) / scale}
    if classes is not None:
        whole = 1 - F.cosine_similarity(found.class_taps, unit_target(target, classes).transpose(0, 1), dim=-1)
        terms["classes"] = whole.mean(dim=1) / scale  # of (L, B)
    return terms


def objective(terms: dict[str, Tensor]) -> Tensor:
    """The loss of `unexplained`."""
    patches = terms["patches"].mean()
    return patches + _CLASS * terms["classes"].mean() if "classes" in terms else patches


def export(state: dict[str, Tensor], folder: Path) -> Path:
    """Write the weights of a whole model as a folder for `local-dir:`, in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DESCRIPTION).write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {}}, indent=1))
    save_file({name: value.half().contiguous().cpu() for name, value in state.items()}, folder / CHECKPOINTS[0])
    return folder


def read_tower(folder: Path) -> dict[str, Tensor]:
    """The image tower that `export` wrote, in float32."""
    state = load_file(folder / CHECKPOINTS[0])
    return {name.removeprefix("visual."): value.float() for name, value in state.items() if name.startswith("visual.")}


def trained(clip: open_clip.CLIP) -> list[nn.Parameter]:
    """The weights of the image tower; the projection to the joint space is learnt with the texts."""
    return [parameter for name, parameter in clip.visual.named_parameters() if name not in ("proj", *_POST)]


_POST = ("ln_post.weight", "ln_post.bias")
