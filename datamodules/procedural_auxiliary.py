"""A second synthetic set, to fit on and then test elsewhere: the other eight categories, in styles of their own."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from datamodules.components.synthetic import SyntheticDataModule


class ProceduralAuxiliary(SyntheticDataModule):
    """The half of the synthetic categories that may be learnt from; `procedural` holds the other half out."""

    categories: ClassVar[tuple[str, ...]] = (
        "brushed_metal",
        "fabric",
        "terrazzo",
        "wire_mesh",
        "bracket",
        "connector",
        "keypad",
        "screw",
    )
    kinds: ClassVar[dict[str, str]] = {
        "brushed_metal": "texture",
        "fabric": "texture",
        "terrazzo": "texture",
        "wire_mesh": "texture",
        "bracket": "object",
        "connector": "object",
        "keypad": "object",
        "screw": "object",
    }
    source = "rendered by datamodules/components/rendering"
    licence = "Apache-2.0"
    variant = "drawn-v3"
    has_masks = True
    needs_root = False

    @dataclass(kw_only=True)
    class Config(SyntheticDataModule.Config):
        """As of every synthetic set, with images of its own."""

        draw_seed: Annotated[int, ">= 0"] = 1
