"""Training by steps: an endless supply from few samples, the same whatever number of workers reads it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch.utils.data import Dataset

from datamodules.components.reading import Item, SampleImages

#: Makes of an item, a seed and its place in the fit, from 0, what is trained on; picklable: workers take it along.
Augment = Callable[[Item, int, int], Item]


def unchanged(item: Item, seed: int, place: int) -> Item:
    """The item as it is."""
    return item


class ResampledImages(Dataset[Item]):
    """A few images resampled for all batches of a fit, each time through `augment` with a seed of its own.

    Which image a place shows comes from `deal`, its seed in [0, 2^63) from the sha256 of "<seed>/<place>": from no
    random generator, so neither the number of workers nor a release of torch changes them. An image is read when it is
    first shown and then kept, so `augment` must not write to its item.
    """

    def __init__(
        self, images: SampleImages, *, batches: int, batch_size: int, seed: int, augment: Augment, repeats: int = 1
    ) -> None:
        """Deal the images, `batch_size` for each batch; each is shown `repeats` times in a row."""
        self.images, self.seed, self.augment, self.repeats = images, seed, augment, repeats
        self._dealt = deal([sample.category for sample in images.samples], batches, batch_size, seed)
        self._kept: dict[int, Item] = {}

    def __len__(self) -> int:
        return len(self._dealt) * self.repeats

    def __getitem__(self, place: int) -> Item:
        chosen = self._dealt[place // self.repeats]
        if chosen not in self._kept:
            self._kept[chosen] = self.images[chosen]
        seed = int.from_bytes(hashlib.sha256(f"{self.seed}/{place}".encode()).digest()[:8], "big") >> 1
        return self.augment(self._kept[chosen], seed, place)


def deal(categories: Sequence[str], batches: int, batch_size: int, seed: int) -> list[int]:
    """Which image each place of a fit shows, batch by batch, as evenly as can be.

    Within a batch, and over all batches so far, no category is shown twice more than another; of a category no image is
    shown twice more than another. Beyond that the choice, and the order in a batch, is that of sha256.

    Args:
        categories: of the images, one or more.
        batches: of the fit; a shorter fit begins like a longer one.
        batch_size: images of each.
        seed: of the choice.

    Returns:
        `batches` times `batch_size` numbers of images.
    """
    groups: dict[str, list[int]] = {}
    for image, category in enumerate(categories):
        groups.setdefault(category, []).append(image)
    shown, dealt = Counter[str | int](), list[int]()  # how often a category or an image was dealt
    for batch in range(batches):
        chosen = _deal_batch(groups, shown, batch_size, partial(_luck, seed, batch))
        order = sorted(range(batch_size), key=partial(_luck, seed, batch, "place"))
        dealt += [chosen[place] for place in order]
    return dealt


def _deal_batch(
    groups: Mapping[str, Sequence[int]], shown: Counter[str | int], size: int, luck: Callable[[str, object], bytes]
) -> list[int]:
    """The images of one batch, counted in `shown`: the least shown come first, and luck decides between equals."""
    here, chosen = Counter[str](), list[int]()
    for _ in range(size):
        category = min(groups, key=lambda name: (here[name], shown[name], luck("category", name)))
        image = min(groups[category], key=lambda number: (shown[number], luck("image", number)))
        here[category] += 1
        shown.update((category, image))
        chosen.append(image)
    return chosen


def _luck(seed: int, batch: int, kind: str, key: object) -> bytes:
    return hashlib.sha256(f"{seed}/{batch}/{kind}/{key}".encode()).digest()
