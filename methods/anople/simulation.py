"""What AnoPLe (arXiv:2408.13516) is fitted on: normal shots, of which some get an anomaly in pixels or in tokens."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.components.reading import Item
from datamodules.components.sample import Batch
from methods.components.synthesis.pipeline import Synthesis
from methods.components.synthesis.views import cut_masks, cut_views, view_labels

MIX = ("normal", "pixel", "latent")
#: How a fit mixes the kinds: each shot twice, as it is and with an anomaly, or once as one of the kinds.
Mixing = Literal["pairs", "kinds"]
#: Share of a token's pixels from which the token is anomalous.
TOKEN_AREA = 0.25


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Leaves a shot normal, paints an anomaly in, or masks tokens to be noised.

    Kinds take turns by the place in the fit, so that each batch has all of them as evenly as can be: "pairs" shows each
    shot in a row as it is and with an anomaly, whose kinds take turns; in "kinds" all kinds do.

    Raises:
        ValueError: `mix` is empty or names another kind, or pairs lack one side; `jitter` is not in [0, 1).
    """

    synthesis: Synthesis
    mix: tuple[str, ...]  # kinds that take turns
    mixing: Mixing
    jitter: float  # brightness, contrast and saturation change by up to this share
    patch: int  # pixels, side of a token in a tile

    def __post_init__(self) -> None:
        if not self.mix or not {*self.mix} <= {*MIX}:
            raise ValueError(f"mix must name one or more of {', '.join(MIX)}; got {self.mix}.")
        if self.mixing == "pairs" and ("normal" not in self.mix or {*self.mix} == {"normal"}):
            raise ValueError(
                f"batch=pairs shows each shot as it is and with an anomaly: mix must name normal and another kind; got "
                f"{self.mix}. For one kind alone take batch=kinds."
            )
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter must be 0 or more and below 1; got {self.jitter}.")

    @property
    def repeats(self) -> int:
        """How often in a row a shot must be shown."""
        return 2 if self.mixing == "pairs" else 1

    def kind(self, place: int) -> str:
        """What becomes of the shot at a place of the fit."""
        if self.mixing == "kinds":
            return self.mix[place % len(self.mix)]
        variants = [kind for kind in self.mix if kind != "normal"]
        pair, side = divmod(place, 2)
        return variants[pair % len(variants)] if side else "normal"

    def __call__(self, item: Item, seed: int, place: int) -> Item:
        """The item with another image, mask, label and kind; the mask is of the size of the image, (3, 2S, 2S).

        The tokens of a latent mask are those of the tiles.
        """
        rng = np.random.default_rng(seed)
        kind = self.kind(place)
        image = jitter_colours(item.image, rng, self.jitter)
        side = image.shape[-1]
        mask = torch.zeros(side, side, dtype=torch.bool)
        if kind == "pixel":
            image, mask = self.synthesis.edit(image, rng)
        if kind == "latent":
            tokens = self.synthesis.latent_mask(rng, (side // self.patch, side // self.patch))
            mask = tokens.repeat_interleave(self.patch, 0).repeat_interleave(self.patch, 1)
        return item._replace(image=image, mask=mask, label=kind != "normal", simulated=kind)


def jitter_colours(image: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """`image` (3, H, W) with brightness, contrast and saturation changed by up to the share `strength`."""
    brightness, contrast, saturation = 1 + rng.uniform(-strength, strength, 3)
    image = image * brightness  # one copy, which the rest is written into
    grey = torch.tensor(image.numpy().mean(dtype=np.float64), dtype=image.dtype)  # torch's depends on its threads
    torch.lerp(grey, image, contrast, out=image)
    torch.lerp(image.mean(dim=0, keepdim=True), image, saturation, out=image)
    return image.clamp_(0, 1)


class Cut(NamedTuple):
    """V views of each of B images, image by image, the whole one first."""

    image: Tensor  # (B·V, 3, S, S)
    mask: Tensor  # (B·V, S, S) bool
    label: Tensor  # (B·V,) bool
    view: Tensor  # (B·V,) long, 0 is the whole image
    noised: Tensor | None  # (B·V, N) bool, tokens with a latent anomaly; None where the batch has no such image


def cut(batch: Batch, n_views: int, patch: int) -> Cut:
    """The first `n_views` of 5 views of each image, with the masks and labels of each.

    A latent anomaly covers whole tokens, those of which a quarter or more is masked.

    Raises:
        ValueError: the images are no squares of an even side.
    """
    image, mask = (views[:, :n_views] for views in (cut_views(batch.image), cut_masks(batch.mask)))
    noised = None
    if "latent" in batch.simulated:
        latent = torch.tensor([kind == "latent" for kind in batch.simulated], device=mask.device)
        tokens = F.avg_pool2d(mask.float(), patch) >= TOKEN_AREA  # (B, V, rows, columns)
        tokens = tokens & latent[:, None, None, None]
        whole = tokens.repeat_interleave(patch, dim=2).repeat_interleave(patch, dim=3)
        mask = torch.where(latent[:, None, None, None], whole, mask)
        noised = tokens.flatten(2).flatten(0, 1)
    index = torch.arange(n_views, device=mask.device).repeat(len(image))
    return Cut(image.flatten(0, 1), mask.flatten(0, 1), view_labels(mask).flatten(), index, noised)
