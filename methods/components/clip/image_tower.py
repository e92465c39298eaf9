"""The image tower of a CLIP, run block by block so that a caller may ask for what lies between the blocks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.components.clip.attention import attention_residual, insert_tokens, replace_tokens, value_value_attention
from methods.components.clip.weights import BackboneError, check_choice

Stream = Literal["ordinary", "vv_from_ordinary", "vv_from_itself"]
TapPoint = Literal["block", "next_attention"]
PositionResize = Literal["bilinear", "open_clip"]
_TOKENS_AT_ONCE = 16_384  # of windows; about 300 MB of activations at width 1024


class ImageFeatures(NamedTuple):
    """Float32 features; `image` and `patches` are vectors of the joint space, of unit length unless asked otherwise."""

    image: Tensor  # (B, D) class token of the ordinary stream
    patches: Tensor  # (L, B, N, D) patch tokens of the asked stream, in the order of `layers`
    taps: Tensor  # (T, B, N, width) patch tokens of the ordinary stream, neither normed nor projected
    class_taps: Tensor  # (T, B, width) class token beside the patches of each tap
    grid: tuple[int, int]  # rows and columns, N = rows * columns in raster order


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of patches of a grid, checked when they are made.

    Raises:
        BackboneError: they are not patch indices of the grid, or lie on another device than the CPU.
    """

    patches: Tensor  # (K, n) long in raster order, on the CPU, where a check waits for nothing
    grid: tuple[int, int]  # rows and columns of patches

    def __post_init__(self) -> None:
        patches, (rows, columns) = self.patches, self.grid
        if patches.ndim != 2 or not patches.numel() or patches.dtype != torch.long or patches.device.type != "cpu":
            raise BackboneError(
                "Windows are long patch indices (K, n) on the CPU; got "
                f"{tuple(patches.shape)} of {patches.dtype} on {patches.device}."
            )
        first, last, allowed = int(patches.min()), int(patches.max()), rows * columns - 1
        if first < 0 or last > allowed:
            raise BackboneError(f"The patches of a {rows} x {columns} grid are 0 to {allowed}; got {first} to {last}.")


class ImageRequest(NamedTuple):
    """What is asked of the tower; `CLIPBackbone.encode_image` explains the fields."""

    layers: Sequence[int] = ()
    stream: Stream = "ordinary"
    vv_from: int = 0
    taps: Sequence[int] = ()
    tap_point: TapPoint = "block"
    deep_prompts: Sequence[Tensor] = ()
    prefix: Tensor | None = None
    patch_edit: tuple[int, Callable[[Tensor], Tensor]] | None = None
    class_norm: bool = True
    normalise: bool = True

    @property
    def first_prompt(self) -> int:
        """Position of the first prompt token, after class token and prefix."""
        return 1 if self.prefix is None else 1 + self.prefix.shape[-2]

    @property
    def first_patch(self) -> int:
        """Position of the first patch token."""
        return self.first_prompt + (self.deep_prompts[0].shape[-2] if self.deep_prompts else 0)

    @property
    def needs_grad(self) -> bool:
        """Whether a prompt or the prefix is to be learnt."""
        given = [*self.deep_prompts, *([] if self.prefix is None else [self.prefix])]
        return torch.is_grad_enabled() and any(tokens.requires_grad for tokens in given)


class Streams(NamedTuple):
    """Tokens after a block; both are the same tensor where no V-V stream runs."""

    ordinary: Tensor  # (B, 1 + P + N, width): class token, P prefix and prompt tokens, patches
    asked: Tensor  # (B, 1 + P + N, width)


def patch_grid(visual: Any, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of patches of a `height` x `width` image.

    Raises:
        BackboneError: a side is not a multiple of the patch side.
    """
    sides, patch = (height, width), visual.patch_size
    if any(side % p or side < p for side, p in zip(sides, patch, strict=True)):
        near = [max(1, round(side / p)) * p for side, p in zip(sides, patch, strict=True)]
        raise BackboneError(
            f"Image sides must be multiples of the patch of {patch[0]} x {patch[1]} pixels, the nearest is {near[0]} x "
            f"{near[1]}; got {height} x {width}."
        )
    return height // patch[0], width // patch[1]


def resize_positions(visual: Any, grid: tuple[int, int], mode: PositionResize) -> Tensor:
    """Position embeddings of class token and `grid`, (1 + N, width).

    Args:
        visual: open_clip's `VisionTransformer`.
        grid: rows and columns of patches.
        mode: "bilinear" does not smooth (AnomalyCLIP and FAPrompt); "open_clip" is bicubic with antialiasing, as
            open_clip's `force_image_size` does to a float32 checkpoint.
    """
    positions: Tensor = visual.positional_embedding
    if tuple(visual.grid_size) == grid:
        return positions
    square = positions[1:].unflatten(0, tuple(visual.grid_size)).permute(2, 0, 1).unsqueeze(0)  # (1, width, r, c)
    smooth = mode == "open_clip"
    resized = F.interpolate(
        square, grid, mode="bicubic" if smooth else "bilinear", antialias=smooth, align_corners=False
    )
    return torch.cat([positions[:1], resized[0].flatten(1).T])


def embed_patches(visual: Any, images: Tensor, positions: Tensor) -> Tensor:
    """Class token and patches of normalised images with `positions` added, before `ln_pre`: (B, 1 + N, width)."""
    patches = visual.conv1(images).flatten(2).transpose(1, 2)  # (B, N, width)
    class_token = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
    return torch.cat([class_token, patches], dim=1) + positions.to(patches.dtype)


def run_blocks(visual: Any, x: Tensor, request: ImageRequest) -> Iterator[Streams]:
    """Yield the tokens after each block, from tokens after `ln_pre` that hold prefix and first prompt already."""
    asked = x
    for index, block in enumerate(visual.transformer.resblocks):
        if 0 < index < len(request.deep_prompts):
            x, asked = (replace_tokens(t, request.deep_prompts[index], request.first_prompt) for t in (x, asked))
        if request.patch_edit and request.patch_edit[0] == index:
            kept, patches = x[:, : request.first_patch], x[:, request.first_patch :]
            x = torch.cat([kept, request.patch_edit[1](patches).to(x.dtype)], dim=1)
        if request.stream == "ordinary" or index < request.vv_from:
            x = asked = block(x)
        else:
            if index == request.vv_from:
                asked = x
            source = x if request.stream == "vv_from_ordinary" else asked
            asked = asked + value_value_attention(block, source)
            x = block(x)
        yield Streams(x, asked)


def project(visual: Any, tokens: Tensor, *, norm: bool = True, normalise: bool = True) -> Tensor:
    """Float32 features of `tokens` (..., width) in the joint space, (..., D).

    Args:
        visual: open_clip's `VisionTransformer`.
        tokens: of any of its blocks.
        norm: whether `ln_post` comes first.
        normalise: whether they become unit vectors.
    """
    projected: Tensor = ((visual.ln_post(tokens) if norm else tokens) @ visual.proj).float()
    return F.normalize(projected, dim=-1) if normalise else projected


def run_image(
    visual: Any, images: Tensor, positions: Tensor, grid: tuple[int, int], request: ImageRequest
) -> ImageFeatures:
    """Answer `request` for normalised images, (B, 3, H, W), whose `positions` are (1 + N, width)."""
    x = embed_patches(visual, images, positions)
    if request.deep_prompts:
        x = insert_tokens(x, request.deep_prompts[0], 1)
    if request.prefix is not None:
        x = insert_tokens(x, request.prefix, 1)
    blocks = visual.transformer.resblocks
    patches, taps = {}, {}
    for depth, tokens in enumerate(run_blocks(visual, visual.ln_pre(x), request), start=1):
        if depth in request.layers:
            patches[depth] = project(visual, tokens.asked[:, request.first_patch :], normalise=request.normalise)
        if depth in request.taps:
            block = request.tap_point == "block"
            tapped = tokens.ordinary if block else attention_residual(blocks[depth], tokens.ordinary)
            taps[depth] = tapped.float()
    image = project(visual, tokens.ordinary[:, 0], norm=request.class_norm, normalise=request.normalise)
    shape, width = (len(images), grid[0] * grid[1]), x.shape[-1]
    return ImageFeatures(
        image,
        _stack([patches[k] for k in request.layers], (*shape, image.shape[-1]), image),
        _stack([taps[k][:, request.first_patch :] for k in request.taps], (*shape, width), image),
        _stack([taps[k][:, 0] for k in request.taps], (len(images), width), image),
        grid,
    )


def _stack(rows: list[Tensor], shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Stack `rows` of `shape`, also when there is none."""
    return torch.stack(rows) if rows else like.new_empty(0, *shape)


def run_windows(visual: Any, images: Tensor, positions: Tensor, windows: Tensor) -> Tensor:
    """Class features of normalised images seen through `windows` (K, n) of patch indices alone, (B, K, D)."""
    x = visual.ln_pre(embed_patches(visual, images, positions))
    seen = torch.cat([windows.new_zeros(len(windows), 1), windows + 1], dim=1)  # (K, 1 + n), class token first
    pairs = torch.cartesian_prod(torch.arange(len(x), device=x.device), torch.arange(len(seen), device=x.device))
    features = []
    for chunk in pairs.split(max(1, _TOKENS_AT_ONCE // seen.shape[1])):  # (c, 2) image and window
        tokens = x[chunk[:, :1], seen[chunk[:, 1]]]  # (c, 1 + n, width)
        for block in visual.transformer.resblocks:
            tokens = block(tokens)
        features.append(project(visual, tokens[:, 0]))
    return torch.cat(features).view(len(x), len(seen), -1)


def check_request(visual: Any, batch: int, request: ImageRequest) -> None:
    """Raise a BackboneError unless `request` fits the tower and a batch of `batch` images."""
    n_blocks, width = len(visual.transformer.resblocks), visual.conv1.out_channels
    check_choice("stream", request.stream, get_args(Stream))
    check_choice("tap_point", request.tap_point, get_args(TapPoint))
    last_tap = n_blocks if request.tap_point == "block" else n_blocks - 1
    for field, last in (("layers", n_blocks), ("taps", last_tap)):
        wrong = [k for k in getattr(request, field) if not 1 <= k <= last]
        if wrong:
            raise BackboneError(f"{field} counts blocks from 1 to {last}; got {wrong[0]}.")
    if not 0 <= request.vv_from < n_blocks:
        raise BackboneError(f"vv_from is 0 to {n_blocks - 1}; got {request.vv_from}.")
    if request.patch_edit and not 0 <= request.patch_edit[0] < n_blocks:
        raise BackboneError(f"patch_edit goes before block 0 to {n_blocks - 1}; got {request.patch_edit[0]}.")
    if len(request.deep_prompts) > n_blocks:
        raise BackboneError(f"There are {n_blocks} blocks; got {len(request.deep_prompts)} deep prompts.")
    rows = {tokens.shape[-2] for tokens in request.deep_prompts if tokens.ndim > 1}
    given = [*request.deep_prompts, *([] if request.prefix is None else [request.prefix])]
    for tokens in given:
        fits = tokens.ndim in (2, 3) and tokens.shape[-1] == width and (tokens.ndim == 2 or len(tokens) == batch)
        if not fits or len(rows) > 1:
            raise BackboneError(
                f"A prefix or deep prompt is (n, {width}) or ({batch}, n, {width}), all deep prompts with one n; "
                f"got {', '.join(str(tuple(t.shape)) for t in given)}."
            )
