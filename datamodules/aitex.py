"""AITEX: photographs of fabrics on a loom, cut into squares as the tables of this field have it."""

import re
from pathlib import Path
from typing import ClassVar

from datamodules.components.layouts import list_folders, list_images
from datamodules.components.sample import DataError
from datamodules.components.tiles import Photograph, TiledDataModule

SIDE = 256
#: Number in the name of a photograph → defect.
DEFECTS = {
    "002": "broken_end", "006": "broken_yarn", "010": "broken_pick", "016": "weft_curling", "019": "fuzzyball",
    "022": "cut_selvage", "023": "crease", "025": "warp_ball", "027": "knots", "029": "contamination", "030": "nep",
    "036": "weft_crack",
}  # fmt: skip
_MASK = re.compile(r"(.+)_mask\d*")


class AITEX(TiledDataModule):
    """Silvestre-Blanes et al., AUTEX 2019: strips of 4096 x 256, 105 with a defect of one of twelve kinds.

    Each is cut into sixteen squares. Anomalous are those with a marked pixel, normal those of strips without defect, of
    which a quarter is tested, as DRA, InCTRL and FAPrompt do (564 and 183, as remembered); they draw it with a random
    generator, here it is drawn by names. Unmarked squares of a strip with a defect are left out. A strip may have
    several masks (`_mask1`, `_mask2`), whose marks count together.
    """

    categories = ("fabric",)
    source = "https://www.aitex.es/afid/"
    obtain = "Fetch the three archives from that page and unpack them to <root>."
    licence = "not verified; see the page"
    citation = "Silvestre-Blanes et al., A public fabric database for defect detection methods, AUTEX 19, 2019"
    aliases = ("AFID",)
    layout = "<root>/NODefect_images/<fabric>/*.png, <root>/Defect_images/*.png, <root>/Mask_images/*_mask.png"
    folder_name = "aitex"
    variant = "squares"
    unmarked_are_normal = False
    counts: ClassVar[dict[str, dict[str, tuple[int, int, int]]]] = {"squares": {"fabric": (1692, 564, 183)}}
    unconfirmed = ("squares",)

    def photographs(self) -> list[Photograph]:
        normal = [path for folder in list_folders(self.originals / "NODefect_images") for path in list_images(folder)]
        masks: dict[str, list[Path]] = {}
        for path in list_images(self.originals / "Mask_images"):
            match = _MASK.fullmatch(path.stem)
            masks.setdefault(match[1] if match else path.stem, []).append(path)
        found = [Photograph(path, ()) for path in normal]
        for path in list_images(self.originals / "Defect_images"):
            if path.stem not in masks:
                raise DataError(f"anomalous image without mask: {path} needs {path.stem}_mask.png in Mask_images.")
            code = path.stem.split("_")[1] if "_" in path.stem else ""
            found.append(Photograph(path, tuple(masks[path.stem]), DEFECTS.get(code, "defect")))
        return found

    def boxes(self, width: int, height: int) -> list[tuple[int, int, int, int]]:
        return [(left, 0, left + SIDE, height) for left in range(0, width - SIDE + 1, SIDE)]
