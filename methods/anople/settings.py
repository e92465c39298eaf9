"""Settings of AnoPLe (arXiv:2408.13516), a group for each part of the method.

[i] is inferred from related work, [u] unknown; the others are stated by the authors or by a third party's summary.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from methods.anople.coupled_prompts import Coupling, Sides
from methods.anople.decoder import MaskHeadKind
from methods.anople.simulation import Mixing
from methods.components.category_choice import TextChoice
from methods.components.memory import Bank


@dataclass(kw_only=True)
class Prompting:
    """What is learnt in front of both towers.

    Attributes:
        variant: edition of the method; only the place of the signal differs, and "v1" refuses several categories.
        prompts: towers with learnt prompts; of "text" or "visual" alone nothing is coupled.
        coupling: which tower sees a projection of the other's prompts.
        prefix: False leaves the views' signals out.
        depth: [u] J, prompted blocks of each tower; None takes 9 of 12 of the shallower one.
        n_text, n_visual: [u] own prompts of a block, of the text and of the image tower.
        share_projections: [i] one projection for all blocks.
    """

    variant: Literal["v2", "v1"] = "v2"
    prompts: Sides = "both"
    coupling: Coupling = "both"
    prefix: bool = True
    depth: Annotated[int | None, ">= 1"] = None
    n_text: Annotated[int, ">= 1"] = 4
    n_visual: Annotated[int, ">= 1"] = 4
    share_projections: bool = False


@dataclass(kw_only=True)
class Simulating:
    """What is shown in a fit.

    Attributes:
        multi_scale: False fits on the whole image alone.
        batch_size: [u] shots of a batch, resampled evenly over categories; "pairs" makes two images of each, and
            `multi_scale` five views of an image.
        batch: [i] "pairs" shows each shot as it is and with an anomaly, whose kinds take turns; "kinds" shows it once,
            as each kind of the mix in turn.
        mix: [u] kinds that take turns: "normal", "pixel", "latent".
        pixel_kinds: [i] kinds of simulated anomalies of the pixels.
        exponents: [i] smallest and largest power of two of the cells of the Perlin noise.
        textures: [i] folder of images that textures are cut from; None takes the shots themselves.
        jitter: [u] largest change of brightness, contrast and saturation of a resampled shot.
        latent_block: [i] block before which tokens are noised, from 0; None takes 6 of 12.
        latent_ratio: [i] range of the noise's length, in lengths of the token.
    """

    multi_scale: bool = True
    batch_size: Annotated[int, ">= 1"] = 8
    batch: Mixing = "pairs"
    mix: tuple[Literal["normal", "pixel", "latent"], ...] = ("normal", "pixel", "latent")
    pixel_kinds: tuple[Literal["perlin", "cutpaste", "scar"], ...] = ("perlin",)
    exponents: Annotated[tuple[int, int], ">= 0"] = (0, 5)
    textures: str | None = None
    jitter: Annotated[float, ">= 0, < 1"] = 0.1
    latent_block: Annotated[int | None, ">= 0"] = None
    latent_ratio: Annotated[tuple[float, float], ">= 0"] = (0.25, 1.0)


@dataclass(kw_only=True)
class Decoding:
    """How patches become a map.

    Attributes:
        decoder: False compares CLIP's own patch features.
        vv_attention: [u] V-V attention from the first block on makes the patch features that are corrected.
        decoder_width: [u] of decoder and "conv" head, a multiple of 8; None takes 256 of a tower 896 wide.
        decoder_layers: [u] blocks whose tokens it reads, as fractions of the depth.
        mask_head: [i] "text" compares with the texts, "conv" does not.
    """

    decoder: bool = True
    vv_attention: bool = False
    decoder_width: Annotated[int | None, ">= 8"] = None
    decoder_layers: Annotated[tuple[float, ...], "> 0, <= 1"] = (1.0,)
    mask_head: MaskHeadKind = "text"


@dataclass(kw_only=True)
class Minimising:
    """What is minimised.

    Attributes:
        alignment: False leaves its loss out.
        dice_on: [i] views whose map is compared by Dice, the "anomalous" or "all"; code that related work shares takes
            all, whose empty masks have no gradient until the map is nearly zero, and then a huge one.
        focal_gamma: [i] exponent of the focal loss.
        image_texts: [i] the image's cross-entropy against the "pair" of its category or "all" texts.
        image_views: [u] views with that loss, "all" or the "whole" image.
        align_on: [i] views that are aligned, "abnormal" or "all".
        align_detach: [i] side of the alignment that gets no gradient: "none", "patches" or "image".
    """

    alignment: bool = True
    dice_on: Literal["anomalous", "all"] = "anomalous"
    focal_gamma: Annotated[float, ">= 0"] = 2.0
    image_texts: Literal["pair", "all"] = "pair"
    image_views: Literal["all", "whole"] = "all"
    align_on: Literal["abnormal", "all"] = "abnormal"
    align_detach: Literal["none", "patches", "image"] = "none"


@dataclass(kw_only=True)
class Optimising:
    """How it is minimised.

    Attributes:
        steps: [u] batches of the fit.
        lr: [u] learning rate of AdamW for prompts and signals.
        lr_decoder: [u] learning rate for decoder and head.
        lr_last: [u] learning rate where both cosines end.
        weight_decay: [u] weight decay of AdamW.
        warm_up: [u] steps in which the rates rise; of a shorter fit a twelfth.
        clip: [u] largest norm of the gradient.
    """

    steps: Annotated[int, ">= 1"] = 600
    lr: Annotated[float, "> 0"] = 5e-4
    lr_decoder: Annotated[float, "> 0"] = 1e-3
    lr_last: Annotated[float, ">= 0"] = 1e-5
    weight_decay: Annotated[float, ">= 0"] = 1e-4
    warm_up: Annotated[int, ">= 0"] = 50
    clip: Annotated[float, "> 0"] = 1.0


@dataclass(kw_only=True)
class Comparing:
    """How a test image is compared with the shots and scored.

    Attributes:
        bank: [i] which shots a test image is compared with, see `ShotMemory`.
        text: [i] whose texts judge a test image: those of its "known" category, of the category of the shot that is
            "retrieved" by class feature, or of that of the text most like the image ("argmax"). The last two and
            another bank than "per_class" do without the category.
        memory_layers: [i] blocks compared with the shots, as fractions of the depth; 3 and 8 of 12.
        memory_features: [i] of the "prompted" tower, or in a second pass "plain" CLIP's.
        image_score: [u] of p, the image's anomalous probability, m the distances and A the map before it is smoothed:
            "text_map" is the harmonic mean of p and max A, "text_memory" of p and max m, "map" is max A, "map_top" the
            mean of the highest 1 % of A.
        map_size: [u] side of the map, in pixels, at which it is smoothed.
        sigma: [i] deviation of the map's Gaussian, in pixels of the map.
    """

    bank: Bank = "per_class"
    text: TextChoice = "known"
    memory_layers: Annotated[tuple[float, ...], "> 0, <= 1"] = (0.25, 0.6667)
    memory_features: Literal["prompted", "plain"] = "prompted"
    image_score: Literal["text_map", "text_memory", "map", "map_top"] = "text_map"
    map_size: Annotated[int, ">= 1"] = 256
    sigma: Annotated[float, ">= 0"] = 4.0
