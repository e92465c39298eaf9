"""A sweep that is asked to stop does so at the next batch, with a record of the cell under way."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_asked: list[int] = []  # signals of this process since the sweep began: handlers belong to a process, not to an object


class Stopped(Exception):
    """The user or the system asked the sweep to stop."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Take SIGINT and SIGTERM as a wish to stop, whatever runs inside; a second one ends the process at once.

    Lightning leaves handlers alone that are there before its own. In an interactive session, which holds more than the
    sweep, a second one is a KeyboardInterrupt. Only a process's main thread may handle signals; others take none.
    """
    if threading.current_thread() is not threading.main_thread():
        _asked.clear()
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _asked.clear()
    for number in SIGNALS:
        signal.signal(number, _ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def asked() -> bool:
    """Whether the sweep shall stop."""
    return bool(_asked)


def check() -> None:
    """Raise `Stopped` if the sweep shall stop."""
    if _asked:
        raise Stopped(f"the sweep was asked to stop ({signal.Signals(_asked[0]).name}).")


def _ask(number: int, frame: FrameType | None) -> None:
    _asked.append(number)
    if len(_asked) > 1:
        if hasattr(sys, "ps1"):
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
