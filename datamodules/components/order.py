"""In which order images are read: the same whoever reads them, in one process or on several ranks.

The samplers are distributed ones, so that a trainer on several ranks takes them as they are: its own would read some
images twice, and split a batch of a fit whose loss is no mean over images.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DistributedSampler


class InOrder(DistributedSampler[int]):
    """All of `count` places, as they are, on every rank."""

    def __init__(self, count: int) -> None:
        places: Any = range(count)
        super().__init__(places, num_replicas=1, rank=0, shuffle=False)


class ShuffledByEpoch(InOrder):
    """All of `count` places on every rank, in an order that is a function of (seed, epoch) alone.

    A loader's own shuffle goes on with its generator, so its later epochs depend on how many iterators were made of it
    and on the number of workers. Lightning calls `set_epoch`; without it every pass is epoch 0.
    """

    def __init__(self, count: int, seed: int) -> None:
        super().__init__(count)
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        digest = hashlib.sha256(f"{self.seed}/{self.epoch}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        yield from torch.randperm(len(self), generator=generator).tolist()


class DealtBatches(InOrder):
    """The places of every `ranks`-th batch of `batch_size`, from batch `rank` on: each place on one rank, once.

    Whole batches are dealt, so that an image has the neighbours that it has in one process.
    """

    def __init__(self, count: int, batch_size: int, *, rank: int, ranks: int) -> None:
        """Deal `count` places.

        Raises:
            ValueError: there are fewer batches than ranks; the rank without one would wait for ever.
        """
        super().__init__(count)
        batches = [range(first, min(first + batch_size, count)) for first in range(0, count, batch_size)]
        if len(batches) < ranks:
            raise ValueError(
                f"{count} images in batches of {batch_size} are {len(batches)} batches, too few for {ranks} ranks: "
                f"use at most {len(batches)} devices or smaller batches."
            )
        self.places = [place for batch in batches[rank::ranks] for place in batch]

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[int]:
        yield from self.places
