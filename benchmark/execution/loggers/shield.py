"""A logger beside the CSV that costs no cell anything: its first error turns it off."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from lightning.pytorch.loggers import Logger

from benchmark.records.predictions import Predicted
from benchmark.records.store import Record


class Outlet(Protocol):
    """Where an attempt at a cell is told of."""

    @property
    def logger(self) -> Logger:
        """What the Trainer logs to."""
        ...

    def tell(self, record: Record, values: Mapping[str, float], predicted: Predicted | None) -> None:
        """Say what a finished cell came to."""
        ...

    def close(self, *, well: bool) -> None:
        """End it, as failed unless all went well."""
        ...


class Shielded(Logger):
    """Hands everything on to an outlet until that raises; `problem` then says why, of two errors the later one."""

    def __init__(self, called: str, opened: Callable[[], Outlet]) -> None:
        """Open an outlet.

        Args:
            called: the logger's name among the settings.
            opened: makes the outlet.
        """
        super().__init__()
        self._called, self.problem = called, ""
        self._outlet: Outlet | None = None
        self._try(lambda: setattr(self, "_outlet", opened()))

    @property
    def name(self) -> str:
        return self._called

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._ask(lambda outlet: outlet.logger.log_metrics(metrics, step))

    def log_hyperparams(self, params: Any, *arguments: Any, **named: Any) -> None:
        """Leave it: the whole request is told by the outlet."""

    def save(self) -> None:
        self._ask(lambda outlet: outlet.logger.save())

    def tell(self, record: Record, values: Mapping[str, float], predicted: Predicted | None) -> None:
        """As `Outlet.tell`."""
        self._ask(lambda outlet: outlet.tell(record, values, predicted))

    def close(self, *, well: bool) -> None:
        """As `Outlet.close`, also after an error."""
        outlet, self._outlet = self._outlet, None
        if outlet:
            self._try(lambda: outlet.close(well=well))

    def _ask(self, work: Callable[[Outlet], None]) -> None:
        outlet = self._outlet
        if outlet and not self.problem:
            self._try(lambda: work(outlet))

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  (a dashboard is no reason to lose a measurement)
            words = f"{type(error).__name__}: {error}".partition("\n")[0]
            self.problem = f"logger={self._called} stopped ({words}); the record is complete."
