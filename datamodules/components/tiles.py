"""Data sets whose photographs are cut into tiles before anything else: the tiles lie in the cache, made once.

Which tiles there are depends on the bytes of the originals alone, and so does the folder in which they lie.
"""

import shutil
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from filelock import FileLock
from PIL import Image

from datamodules.components.base import AnomalyDataModule
from datamodules.components.checks import check_root
from datamodules.components.content import folder_digest
from datamodules.components.decoding import open_image
from datamodules.components.layouts import mvtec_normals, mvtec_tests
from datamodules.components.roots import cache_folder
from datamodules.components.sample import DataError, Sample
from datamodules.components.shares import deal

DONE = "complete"
VERSION = 1  # of the rule by which tiles are cut


class Photograph(NamedTuple):
    """One original."""

    image: Path
    masks: tuple[Path, ...]  # none where it is normal
    defect: str = "defect"


class TiledDataModule(AnomalyDataModule):
    """A tile is anomalous if some pixel of it is marked; a share of the normal ones is tested, chosen by name."""

    #: Whether a tile without a mark is normal where its photograph has one; else it is left out.
    unmarked_are_normal: ClassVar[bool] = True

    def __init__(self, root: Path | str | None, categories: Sequence[str], **settings: Any) -> None:
        """See the base; `root` is that of the originals, `self.root` becomes that of the tiles."""
        super().__init__(root, categories, **settings)
        self.originals = self.root
        self._place: Path | None = None

    @abstractmethod
    def photographs(self) -> list[Photograph]:
        """The originals."""

    @property
    def tested(self) -> float:
        """Share of the normal tiles that is tested."""
        return 0.25

    @abstractmethod
    def boxes(self, width: int, height: int) -> list[tuple[int, int, int, int]]:
        """The tiles of an original of that size, as left, upper, right and lower edge."""

    def prepare_data(self) -> None:
        """Cut the tiles, unless they are there."""
        check_root(self.originals, self.layout, self.source)
        variant = getattr(self.config, "variant", self.variant)
        name = f"{type(self).__name__.lower()}-{variant}-{folder_digest(self.originals)[:16]}-v{VERSION}"
        self.root = cache_folder() / "tiles" / name
        with FileLock(self._lock(self.root)):
            if not self._is_whole():
                self._cut()

    @property
    def watched(self) -> tuple[Path, ...]:
        return self.originals, self.root

    def setup(self, stage: str) -> None:
        check_root(self.originals, self.layout, self.source)

    def normals(self, category: str) -> list[Sample]:
        return mvtec_normals(self.root, category)

    def tests(self, category: str) -> list[Sample]:
        return mvtec_tests(self.root, category)

    def _lock(self, folder: Path) -> Path:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return folder.with_name(f"{folder.name}.lock")

    def _cut(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        category = self.categories[0]
        place, normal = self.root / category, []
        for photograph in self.photographs():
            for name, tile, mask in self._tiles(photograph):
                if not mask.any():
                    if self.unmarked_are_normal or not photograph.masks:
                        normal.append(_write(place / "normal" / name, tile))
                else:
                    _write(place / "test" / photograph.defect / name, tile)
                    marks = Image.fromarray(mask.view(np.uint8) * 255)
                    _write(place / "ground_truth" / photograph.defect / name, marks)
        if not normal:
            raise DataError(f"no tile of {self.originals} is normal: expected {self.layout}.")
        for folder, chosen in zip(("train", "test"), deal(normal, self.tested), strict=True):
            (place / folder / "good").mkdir(parents=True, exist_ok=True)
            for path in chosen:
                path.replace(place / folder / "good" / path.name)
        (place / "normal").rmdir()
        (self.root / DONE).write_text(folder_digest(place), encoding="utf-8")

    def _is_whole(self) -> bool:
        """Whether the tiles in the cache are those that were cut: a disk or a user may have altered some."""
        done = self.root / DONE
        return done.is_file() and done.read_text(encoding="utf-8") == folder_digest(self.root / self.categories[0])

    def _tiles(self, photograph: Photograph) -> Iterator[tuple[str, Image.Image, np.ndarray]]:
        with open_image(photograph.image) as image:
            marked = np.zeros((image.height, image.width), bool)
            for path in photograph.masks:
                with open_image(path) as mask:
                    if mask.size != image.size:
                        raise DataError(
                            f"the mask {path} is {mask.size}, but its image {photograph.image} {image.size}."
                        )
                    marked |= np.array(mask.convert("L")) > 0
            for number, (left, upper, right, lower) in enumerate(self.boxes(*image.size)):
                tile = image.crop((left, upper, right, lower))
                name = "-".join(photograph.image.relative_to(self.originals).with_suffix("").parts)
                yield f"{name}-{number:02}.png", tile, marked[upper:lower, left:right].copy()


def _write(path: Path, tile: Image.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tile.save(path)
    return path
