"""Images that are named one by one, in the place of a data set: what a method outside of a benchmark is fitted on."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.components.base import AnomalyDataModule
from datamodules.components.roots import plain_path
from datamodules.components.sample import Sample


class GivenImages(AnomalyDataModule):
    """Normal images by category, all of which are shots, in their order. There are no test images."""

    categories = ()
    source = "your own images"
    licence = "yours"
    has_masks = False

    @dataclass(kw_only=True)
    class Config:
        """The images and the words for what they show.

        Attributes:
            images: of each category.
            words: that name the object of each category.
        """

        images: Mapping[str, Sequence[Path]] = field(default_factory=dict)
        words: Mapping[str, str] = field(default_factory=dict)

    config: Config

    @classmethod
    def of(
        cls, images: Mapping[str, Sequence[Path]], words: Mapping[str, str], *, image_size: int, seed: int
    ) -> "GivenImages":
        """The images of each category, read as squares of side `image_size`; `seed` orders the batches of a fit."""
        absolute = {category: [plain_path(path) for path in paths] for category, paths in images.items()}
        every = [path.parent for paths in absolute.values() for path in paths]
        root = Path(os.path.commonpath(every)) if every else Path.cwd()
        most = max(map(len, absolute.values()), default=0)
        config = cls.Config(images=absolute, words=words)
        return cls(root, [*absolute], image_size=image_size, shots=most, seed=seed, config=config)

    @classmethod
    def find_categories(cls, root: Path, config: Any = None) -> tuple[str, ...]:
        return tuple(config.images)

    def object_name(self, category: str) -> str:  # type: ignore[override]  # each one is given its own words
        return self.config.words[category]

    def normals(self, category: str) -> list[Sample]:
        return [Sample(path, category) for path in self.config.images[category]]

    def tests(self, category: str) -> list[Sample]:
        return []

    def sample_shots(self, category: str) -> list[Sample]:
        return self.normals(category)
