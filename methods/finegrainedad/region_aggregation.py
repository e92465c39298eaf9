"""Language-guided region aggregation (FineGrainedAD, arXiv:2510.26464): which tokens of a shot a prompt speaks of.

Tokens are clustered by what the prompts say of them, foreground from background first, then parts of the foreground.
Each prompt takes the region that is nearest to it, whose tokens weigh more in its losses.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.finegrainedad.density_peaks import density_peaks, nearest_seed

Split = Literal["density", "language"]
TILES = 4  # per side of a shot


class Rules(NamedTuple):
    """How regions are found; the released code has the comment's values (clusters.py and its callers)."""

    split: Split = "density"  # foreground from background; "language": by the tokens most and least like it
    k_split: int | None = 8  # neighbours of that density; None, as None below: rounds to 1 for two clusters
    k_parts: int | None = 5  # of the parts' density; None: 1 up to two components, 2 for three, then 5
    noise: bool = False  # True: 1e-6 on densities, which decides where they are all equal
    first_shot: bool = False  # True: the first shot's foreground and nearest regions are those of every shot


class ShotRegions(NamedTuple):
    """Regions of k shots."""

    foreground: Tensor  # (k, M) bool
    ids: Tensor  # (k, M) long, of a shot's own regions
    match: Tensor  # (k, J) long, the region of each prompt


def resize_images(images: Tensor, side: int) -> Tensor:
    """Images (k, 3, side, side) in [0, 1] of square ones, bicubic with antialiasing, as they are read."""
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)


def cut_tiles(images: Tensor) -> Tensor:
    """`TILES` x `TILES` tiles in raster order, (k·16, 3, H, W), of images (k, 3, 4 H, 4 W)."""
    height, width = (side // TILES for side in images.shape[-2:])
    tiles = images.unfold(2, height, height).unfold(3, width, width)  # (k, 3, 4, 4, H, W)
    return tiles.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


def join_tiles(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens (k·16, N, D) of tiles, each on `grid`, in raster order of their whole image: (k, 16 N, D)."""
    on_tiles: Tensor = tokens.unflatten(1, grid).unflatten(0, (-1, TILES, TILES))  # (k, 4, 4, rows, columns, D)
    return on_tiles.transpose(2, 3).flatten(1, 4)


def find_regions(tokens: Tensor, components: Tensor, background: Tensor | None, rules: Rules) -> ShotRegions:
    """Cluster the tokens of k shots.

    Args:
        tokens: unit features, (k, M, D).
        components: unit features of the components' normal texts, (E, D).
        background: of the background's, (D,); None where the foreground fills the image.
        rules: see `Rules`.

    Returns:
        Regions 0 to E of each shot; all tokens of the background stand in that of the first cluster, or of the first
        token if this is foreground. `match` has the components first, then the background.
    """
    texts = components if background is None else torch.cat([components, background.unsqueeze(0)])  # (J, D)
    guides = tokens @ texts.T  # (k, M, J) what the prompts say of a token
    n_regions = len(components) + 1
    if background is None:
        foreground = torch.ones_like(guides[..., 0], dtype=torch.bool)
    else:
        foreground = _split(tokens, guides, background, rules)
        foreground = foreground[:1].expand_as(foreground) if rules.first_shot else foreground
    k = _neighbours(n_regions) if rules.k_parts is None else rules.k_parts
    parts = density_peaks(guides, n_regions, k, foreground, _noise(guides, rules)).ids
    ids = parts.where(foreground, parts[:, :1])
    match = _nearest_region(tokens, ids, texts, n_regions)
    return ShotRegions(foreground, ids, match[:1].expand_as(match) if rules.first_shot else match)


def weigh_regions(regions: ShotRegions, weight: float, grid: tuple[int, int], *, scrambled: bool = False) -> Tensor:
    """Weights of the shots' own tokens for each prompt, (J, k, N) for M = 16 N.

    1 everywhere and 1 + `weight` in a prompt's region, mean over the 4 x 4 tokens that lie in one.

    Args:
        regions: of k shots.
        weight: 0 or more.
        grid: rows and columns of a shot's own tokens, N in all.
        scrambled: as released: 16 neighbours in the flattened (offset, position) array are averaged, which are about
            one row of the image, because the unfolded array is reshaped without a transposition.
    """
    inside = regions.ids == regions.match.T.unsqueeze(-1)  # (J, k, M)
    fine = (1 + weight * inside.float()).unflatten(-1, (TILES * grid[0], TILES * grid[1]))
    if not scrambled:
        return F.avg_pool2d(fine, TILES).flatten(2)
    offsets: Tensor = F.unfold(fine.flatten(0, 1).unsqueeze(1), TILES, stride=TILES)  # (J·k, 16, N)
    pooled: Tensor = offsets.flatten(1).unflatten(1, (-1, TILES**2)).mean(dim=-1)  # (J·k, N)
    return pooled.view(*inside.shape[:2], -1)


def _split(tokens: Tensor, guides: Tensor, background: Tensor, rules: Rules) -> Tensor:
    """The foreground, (k, M) bool: the one of two clusters whose mean token is less like the background's text."""
    if rules.split == "language":
        likeness = guides[..., -1]
        seeds = torch.stack([likeness.argmax(dim=1), likeness.argmin(dim=1)], dim=1)
        ids = nearest_seed(guides, seeds.sort(dim=1).values)
    else:
        k = _neighbours(2) if rules.k_split is None else rules.k_split
        ids = density_peaks(guides, 2, k, noise=_noise(guides, rules)).ids
    behind = (_mean_tokens(tokens, ids, 2) @ background).argmax(dim=1, keepdim=True)  # (k, 1)
    return ids != behind


def _nearest_region(tokens: Tensor, ids: Tensor, texts: Tensor, n_regions: int) -> Tensor:
    """The region whose mean token is nearest to each text by cosine, (k, J); an empty one is nearest to none."""
    means = F.normalize(_mean_tokens(tokens, ids, n_regions), dim=-1)  # (k, C, D)
    empty = ~F.one_hot(ids, n_regions).any(dim=1)  # (k, C)
    return (means @ texts.T).masked_fill(empty.unsqueeze(-1), -torch.inf).argmax(dim=1)


def _mean_tokens(tokens: Tensor, ids: Tensor, n_clusters: int) -> Tensor:
    """(k, C, D); 0 for an empty cluster."""
    members = F.one_hot(ids, n_clusters).to(tokens.dtype)  # (k, M, C)
    return members.transpose(1, 2) @ tokens / members.sum(dim=1).clamp(min=1).unsqueeze(-1)


def _neighbours(n_clusters: int) -> int:
    """What the released code makes of the neighbours it is asked for."""
    return 5 if n_clusters >= 5 else max(1, min(3, n_clusters // 2))


def _noise(guides: Tensor, rules: Rules) -> Tensor | None:
    return 1e-6 * torch.rand(guides.shape[:-1]).to(guides.device) if rules.noise else None
