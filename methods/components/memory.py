"""What a method remembers of the normal shots, and how far a feature is from it."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

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


class ShotMemory:
    """Features of the normal shots of each category, one tensor for each kind of feature.

    It is no module: nothing of it stands in a state dict, because the shots are seen anew before every test.
    Its tensors follow the device of the features they are compared with.
    """

    def __init__(self) -> None:
        self._features: dict[str, tuple[Tensor, ...]] = {}  # each (k·N, D)

    def __len__(self) -> int:
        """Number of categories whose shots were seen."""
        return len(self._features)

    def remember(self, category: str, features: Iterable[Tensor]) -> None:
        """Keep features of k shots, (k, N, D) of each kind; N and D, one axis or more, may differ from kind to kind."""
        self._features[category] = tuple(kind.flatten(0, 1) for kind in features)

    def distances(self, features: Iterable[Tensor], categories: Sequence[str]) -> list[Tensor]:
        """Distance of each unit feature to the nearest one of the shots of its image's category, also unit.

        Args:
            features: unit features of B images, (B, N, D) of each kind, kinds in the order of `remember`.
            categories: B category keys.

        Returns:
            (B, N) of each kind, in [0, 2].

        Raises:
            ValueError: no shots of a category were seen.
        """
        features = tuple(features)
        distances = [kind.new_empty(kind.shape[:-1]) for kind in features]
        for rows, memories in self.by_category(categories, features[0].device):
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
            yield rows, self._recall(category, device)

    def _recall(self, category: str, device: torch.device) -> tuple[Tensor, ...]:
        if category not in self._features:
            seen = ", ".join(self._features) or "none"
            raise ValueError(f"No normal shots of {category!r} were seen; `adapt` has seen: {seen}.")
        self._features[category] = tuple(kind.to(device) for kind in self._features[category])
        return self._features[category]
