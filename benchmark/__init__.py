"""Floor 3: which cells, run one, measure it, keep it, rank it."""

from importlib import import_module
from typing import Any

#: What may be imported from here, and the module that it lies in, which is loaded when it is first asked for.
PUBLIC = {"Detector": "benchmark.detector"}


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        return getattr(import_module(PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
