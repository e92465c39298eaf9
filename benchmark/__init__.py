"""Floor 3: which cells, run one, measure it, keep it, rank it.

What a script or a notebook calls, `benchmark.run` and what else stands in `PUBLIC`, loads with its first use.
"""

from importlib import import_module
from typing import Any

#: What `import benchmark` offers, and the module that holds it: nothing heavy loads before it is asked for.
PUBLIC = {
    "Detector": "benchmark.detector",
    "run": "benchmark.api",
    "leaderboard": "benchmark.api",
    "CellsFailed": "benchmark.api",
    "UserError": "datamodules.components.sample",
}
__all__ = list(PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'benchmark' has no attribute {name!r}; it offers {', '.join(PUBLIC)}.")
    return getattr(import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC})
