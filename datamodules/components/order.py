"""In which order images are read: shuffled anew in each epoch, the same whoever reads them."""

import hashlib
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class ShuffledByEpoch(Sampler[int]):
    """All of `count` places in an order that is a function of (seed, epoch) alone.

    A loader's own shuffle goes on with its generator, so its later epochs depend on how many iterators were made of it
    and on the number of workers. Lightning calls `set_epoch`; without it every pass is epoch 0.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, of the passes that follow."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        digest = hashlib.sha256(f"{self.seed}/{self.epoch}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        yield from torch.randperm(self.count, generator=generator).tolist()
