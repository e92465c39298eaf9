"""Training by steps: an endless supply from few samples, the same whatever number of workers reads it."""

import hashlib
from collections.abc import Callable

from torch.utils.data import Dataset

from datamodules.components.reading import Item, SampleImages

#: Makes of an item and a seed what is trained on; picklable, so that workers can take it along.
Augment = Callable[[Item, int], Item]


def unchanged(item: Item, seed: int) -> Item:
    """The item as it is."""
    return item


class ResampledImages(Dataset[Item]):
    """One or more images resampled with replacement `count` times; each passes `augment` with a seed of its own.

    What item i shows, and its seed in [0, 2^63), come from the sha256 of "<seed>/<i>": from no other item and no random
    generator, so neither the number of workers nor a release of torch changes them. An image is read when it is first
    shown and then kept, so `augment` must not write to its item.
    """

    def __init__(self, images: SampleImages, count: int, seed: int, augment: Augment) -> None:
        self.images, self.count, self.seed, self.augment = images, count, seed, augment
        self._kept: dict[int, Item] = {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Item:
        digest = hashlib.sha256(f"{self.seed}/{index}".encode()).digest()
        chosen = int.from_bytes(digest[:8], "big") % len(self.images)
        if chosen not in self._kept:
            self._kept[chosen] = self.images[chosen]
        return self.augment(self._kept[chosen], int.from_bytes(digest[8:16], "big") >> 1)
