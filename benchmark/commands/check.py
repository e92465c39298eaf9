"""`bench check`: the promises of a method, a line each."""

from collections.abc import Sequence

from benchmark.contract import promises
from benchmark.execution.fitting import quiet


def check(method: str, words: Sequence[str]) -> int:
    """Print each promise and whether it is kept; 1 if one is broken, else 0."""
    quiet()
    broken = 0
    for promise, protocol, problem in promises.check(method, words):
        broken |= bool(problem)
        sentence = promise.sentence.removesuffix(".") + (f" ({protocol})" if protocol else "")
        print(f"BROKEN {sentence}: {problem}" if problem else f"ok     {sentence}")
    return broken
