"""What a method remembers of the normal shots, and how far a feature is from it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

#: Which shots the features of a test image are compared with; `ShotMemory` says how.
Bank = Literal["per_class", "pooled", "retrieved"]
_PAIRS_AT_ONCE = 2**24  # cosines; 64 MiB of float32


def nearest_distance(features: Tensor, memory: Tensor) -> Tensor:
    """One minus the largest cosine: the distance of each feature to its nearest neighbour in the memory.

    Args:
        features: unit features, (..., D).
        memory: unit features, (M, D), M > 0.

    Returns:
        (...), in [0, 2].
    """
    parts = features.flatten(0, -2).split(max(1, _PAIRS_AT_ONCE // len(memory)))
    nearest = torch.cat([(part @ memory.T).amax(dim=-1) for part in parts])
    return (1 - nearest).clamp(min=0).view(features.shape[:-1])  # a cosine may round to just above 1


class Memory(Protocol):
    """What is remembered of shots, as a checkpoint keeps it: plain containers and tensors."""

    def remembered(self) -> dict[str, Any]:
        """All that is remembered."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Remember that and nothing else."""


class ShotMemory:
    """Features of the normal shots of each category, one tensor for each kind of feature.

    A test image is compared with a bank of them. "per_class": the shots of its own category, which must be known.
    "pooled": the shots of all categories. "retrieved": of all shots the k whose class features are nearest to the
    image's by cosine, with k the shots of one category. The last two do not ask what the image shows.

    It is no module: a checkpoint of the method holds it, and what is learnt (the module's state dict) does not.
    Its tensors follow the device of the features they are compared with.
    """

    def __init__(self, bank: Bank = "per_class") -> None:
        if bank not in get_args(Bank):
            raise ValueError(f"bank must be one of {', '.join(get_args(Bank))}; got {bank!r}.")
        self.bank = bank
        self._features: dict[str, tuple[Tensor, ...]] = {}  # each (k, N, D)
        self._images: dict[str, Tensor] = {}  # (k, D)
        self._pool: tuple[Tensor, ...] = ()  # each (shots of all categories, N, D)

    def __len__(self) -> int:
        """Number of categories whose shots were seen."""
        return len(self._features)

    def remembered(self) -> dict[str, Any]:
        """All that is remembered, as `restore` takes it."""
        return {"features": {c: list(kinds) for c, kinds in self._features.items()}, "images": dict(self._images)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Remember what `remembered` gave, and nothing else."""
        self._features = {category: tuple(kinds) for category, kinds in state["features"].items()}
        self._images, self._pool = dict(state["images"]), ()

    def remember(self, category: str, features: Iterable[Tensor], images: Tensor | None = None) -> None:
        """Keep features of k shots, and forget what was kept of the same category.

        Args:
            category: key of the category.
            features: (k, N, D) of each kind; N and D, one axis or more, may differ from kind to kind.
            images: unit class features of the shots, (k, D); "retrieved" alone uses them.

        Raises:
            ValueError: "retrieved" without `images`.
        """
        if self.bank == "retrieved":
            self._images[category] = _required(images, "remember")
        self._features[category] = tuple(features)
        self._pool = ()

    def distances(
        self, features: Iterable[Tensor], categories: Sequence[str], images: Tensor | None = None
    ) -> list[Tensor]:
        """Distance of each unit feature to the nearest one, also unit, of the bank of its image.

        Args:
            features: unit features of B images, (B, N, D) of each kind, kinds in the order of `remember`.
            categories: B category keys; "per_class" alone uses them.
            images: unit class features of the B images, (B, D); "retrieved" alone uses them.

        Returns:
            (B, N) of each kind, in [0, 2].

        Raises:
            ValueError: no shots of a category (or, unless "per_class", none at all) were seen; "retrieved" without
                `images`.
        """
        features = tuple(features)
        distances = [kind.new_empty(kind.shape[:-1]) for kind in features]
        for rows, memories in self.banks(categories, images, features[0].device):
            for kind, memory, distance in zip(features, memories, distances, strict=True):
                distance[rows] = nearest_distance(kind[rows], memory)
        return distances

    def by_category(
        self, categories: Sequence[str], device: torch.device
    ) -> Iterator[tuple[list[int], tuple[Tensor, ...]]]:
        """The rows of each category in a batch, and what is remembered of it, (k·N, D) of each kind, on `device`.

        Args:
            categories: B category keys.
            device: of the features of the batch.

        Raises:
            ValueError: no shots of a category were seen.
        """
        for category in dict.fromkeys(categories):
            rows = [row for row, key in enumerate(categories) if key == category]
            yield rows, _flat(self._recall(category, device))

    def banks(
        self, categories: Sequence[str], images: Tensor | None, device: torch.device
    ) -> Iterator[tuple[list[int], tuple[Tensor, ...]]]:
        """Rows of a batch that share a bank, and that bank, (M, D) of each kind, on `device`; arguments as above."""
        if self.bank == "per_class":
            yield from self.by_category(categories, device)
        elif self.bank == "pooled":
            yield list(range(len(categories))), _flat(self._recall_all(device))
        else:
            pool, chosen = self._recall_all(device), self._retrieve(_required(images, "distances"))
            for row, shots in enumerate(chosen):
                yield [row], _flat(kind[shots] for kind in pool)

    def _retrieve(self, images: Tensor) -> Tensor:
        """Rows of the pool that each image is compared with, (B, k)."""
        known = torch.cat([shots.to(images.device) for shots in self._images.values()])
        k = max(len(shots) for shots in self._images.values())
        return (images @ known.T).topk(k, dim=-1).indices

    def _recall(self, category: str, device: torch.device) -> tuple[Tensor, ...]:
        if category not in self._features:
            seen = ", ".join(self._features) or "none"
            raise ValueError(f"No normal shots of {category!r} were seen; `adapt` has seen: {seen}.")
        self._features[category] = tuple(kind.to(device) for kind in self._features[category])
        return self._features[category]

    def _recall_all(self, device: torch.device) -> tuple[Tensor, ...]:
        if not self._features:
            raise ValueError("No normal shots were seen; `adapt` has seen: none.")
        if not self._pool or self._pool[0].device != device:
            shots = [self._recall(category, device) for category in self._features]
            self._pool = tuple(torch.cat(kind) for kind in zip(*shots, strict=True))
        return self._pool


def _flat(features: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """(k, N, D) of each kind to (k·N, D)."""
    return tuple(kind.flatten(0, 1) for kind in features)


def _required(images: Tensor | None, where: str) -> Tensor:
    if images is None:
        raise ValueError(f'bank="retrieved" compares class features: `{where}` needs images, (B, D); got None.')
    return images
