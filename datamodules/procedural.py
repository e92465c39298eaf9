"""A synthetic set: eight products and materials that are made on this machine, without a download."""

from typing import ClassVar

from datamodules.components.synthetic import SyntheticDataModule


class Procedural(SyntheticDataModule):
    """The half of the synthetic categories that is held out, to test on.

    Nothing that is learnt from `procedural_auxiliary` has seen them. Generator, lamps and kinds of defects are
    shared, so a transfer to this set shows that a pipeline works, not that a method transfers.
    """

    categories: ClassVar[tuple[str, ...]] = (
        "corduroy",
        "leather",
        "tiles",
        "wood",
        "blister_pack",
        "circuit_board",
        "gear",
        "zipper",
    )
    kinds: ClassVar[dict[str, str]] = {
        "corduroy": "texture",
        "leather": "texture",
        "tiles": "texture",
        "wood": "texture",
        "blister_pack": "object",
        "circuit_board": "object",
        "gear": "object",
        "zipper": "object",
    }
    source = "rendered by datamodules/components/rendering"
    licence = "Apache-2.0"
    variant = "drawn-v3"
    has_masks = True
    needs_root = False
