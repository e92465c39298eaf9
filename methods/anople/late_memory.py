"""A memory of shots as a tower sees them that is fitted after the shots are shown."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.components.clip.backbone import ImageFeatures
from methods.components.memory import Bank, ShotMemory
from methods.components.prompts import Unchanged

#: Sees images; its last taps are what is remembered.
Look = Callable[[Tensor], ImageFeatures]


class LateMemory(nn.Module):
    """Keeps the shots, and their features until what is learnt changes; a checkpoint holds the shots alone."""

    def __init__(self, bank: Bank, n_taps: int) -> None:
        """Remember the last `n_taps` taps of each shot in a `ShotMemory` of kind `bank`."""
        super().__init__()
        self.bank, self.n_taps = bank, n_taps
        self._shots: dict[str, Tensor] = {}
        self._filled = Unchanged[ShotMemory]()
        ShotMemory(bank)  # refuses what is no bank now and not after the fit

    def keep(self, category: str, shots: Tensor) -> None:
        """Keep k shots of a category, (k, 3, H, W), and forget earlier ones."""
        self._shots[category] = shots
        self._filled = Unchanged[ShotMemory]()

    def remembered(self) -> dict[str, Any]:
        """The shots, as `restore` takes them."""
        return dict(self._shots)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Keep the shots that `remembered` gave, and no others."""
        self._shots = dict(state)
        self._filled = Unchanged[ShotMemory]()

    def filled(self, look: Look, learnt: Iterable[Tensor], device: torch.device) -> ShotMemory:
        """The shots as `look` sees them, which depends on `learnt` alone."""
        return self._filled(learnt, lambda: self._fill(look, device))

    def distances(self, memory: ShotMemory, seen: ImageFeatures, categories: Sequence[str]) -> Tensor:
        """Half the cosine distance of each patch to the nearest one of the bank, mean over taps.

        Args:
            memory: what `filled` gave.
            seen: what its `look` gives of B images.
            categories: of the images.

        Returns:
            (B, N), in [0, 1].

        Raises:
            ValueError: no shots of a category were kept.
        """
        return torch.stack(memory.distances(self._unit_taps(seen), categories, seen.image)).mean(dim=0) / 2

    @torch.no_grad()
    def _fill(self, look: Look, device: torch.device) -> ShotMemory:
        memory = ShotMemory(self.bank)
        for category, shots in self._shots.items():
            seen = look(shots.to(device))
            memory.remember(category, self._unit_taps(seen), seen.image)
        return memory

    def _unit_taps(self, seen: ImageFeatures) -> Tensor:
        return F.normalize(seen.taps[-self.n_taps :], dim=-1)
