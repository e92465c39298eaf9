"""Which cell runs next: fits that several share come first, wide cells before narrow ones, like cells to one worker."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Literal

from benchmark.execution.attempt import Job
from benchmark.request.cell import Cell
from benchmark.request.sharing import fit_key, likeness


class Schedule:
    """The cells of a sweep that are still to run, handed out one by one to an executor."""

    def __init__(self, cells: Sequence[Cell], begin: Callable[[Cell], Job | None], *, shared_fits: bool) -> None:
        """Put cells in order.

        Args:
            cells: in the order of the plan.
            begin: claims an attempt at a cell and returns its job, or None where another process runs the cell.
            shared_fits: make a fit that several cells share a job of its own, which they wait for; that is no gain
                where one cell runs after another.
        """
        self._begin = begin
        self._key = {cell.id: fit_key(cell) for cell in cells}
        self._like = {cell.id: likeness(cell) for cell in cells}
        uses = Counter(key for key in self._key.values() if key)
        self._fits: dict[str, Literal["to make", "in the making", "made"]] = {
            key: "to make" for key, count in uses.items() if shared_fits and count > 1
        }
        self._left: dict[str, Cell] = {}
        self._alike: dict[str, dict[str, Cell]] = {}
        for cell in sorted(cells, key=lambda cell: -cell.where.trainer.devices):  # stable: else in the plan's order
            self.put_back(cell)

    @property
    def left(self) -> int:
        """The number of cells that nobody has begun."""
        return len(self._left)

    def take(self, near: Cell | None = None) -> Job | None:
        """The next job, of a cell like `near` if there is one; None while all that are left wait for a fit."""
        while (cell := self._next(near)) is not None:
            job = self._begin(cell)
            if job is not None and self._fits.get(key := self._key[cell.id]) == "to make":
                self._fits[key] = "in the making"
                return replace(job, fit_alone=True)
            self._remove(cell)
            if job is not None:
                return job
        return None

    def put_back(self, cell: Cell) -> None:
        """Let a cell run again, after all others."""
        self._left[cell.id] = self._alike.setdefault(self._like[cell.id], {})[cell.id] = cell

    def made(self, job: Job, *, well: bool) -> list[Cell]:
        """A shared fit has ended; returns the cells that cannot run, since it has failed."""
        key = self._key[job.cell.id]
        self._fits[key] = "made"
        lost = [] if well else [cell for cell in self._left.values() if self._key[cell.id] == key]
        for cell in lost:
            self._remove(cell)
        return lost

    def make_again(self, job: Job) -> None:
        """A shared fit has taken its process with it: let it be made once more."""
        self._fits[self._key[job.cell.id]] = "to make"

    def _next(self, near: Cell | None) -> Cell | None:
        alike = self._alike.get(self._like[near.id], {}) if near else {}
        ready = (
            cell
            for cell in chain(alike.values(), self._left.values())
            if self._fits.get(self._key[cell.id]) != "in the making"
        )
        return next(ready, None)

    def _remove(self, cell: Cell) -> None:
        del self._left[cell.id], self._alike[self._like[cell.id]][cell.id]
