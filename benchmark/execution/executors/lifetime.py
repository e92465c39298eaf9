"""A process that is part of a sweep ends with whoever started it, however that one ends."""

import ctypes
import signal
import sys

DEATH_OF_PARENT = 1  # PR_SET_PDEATHSIG


def end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends; only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_OF_PARENT, signal.SIGKILL)
