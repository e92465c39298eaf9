"""Ranges of numbers in words: one bound such as "> 0" or ">= 1", or a lower and an upper one such as ">= 0, < 1"."""

import operator
import re
from functools import cache
from typing import NamedTuple

GRAMMAR = 'one bound such as "> 0" or "<= 1", or a lower and an upper one such as ">= 0, < 1"'
_SIGNS = {
    ">": (operator.gt, "above"),
    ">=": (operator.ge, "at least"),
    "<": (operator.lt, "below"),
    "<=": (operator.le, "at most"),
}
_BOUND = re.compile(r"([<>]=?) (-?\d+(?:\.\d+)?(?:e-?\d+)?)")


class Bound(NamedTuple):
    """One end of a range."""

    sign: str  # a key of `_SIGNS`
    limit: str  # as it is written

    @property
    def number(self) -> int | float:
        """The limit; whole numbers stay exact."""
        return int(self.limit) if self.limit.lstrip("-").isdigit() else float(self.limit)


@cache
def read_range(text: str) -> tuple[Bound, ...]:
    """The bounds of a range; ValueError if the text is none or no number can lie in it."""
    matches = [_BOUND.fullmatch(part) for part in text.split(", ")]
    bounds = tuple(Bound(*match.groups()) for match in matches if match)
    if len(bounds) < len(matches) or len(bounds) > 2:
        raise ValueError(f"a range is {GRAMMAR}; got {text!r}.")
    if len(bounds) == 2:
        low, high = bounds
        if low.sign[0] != ">" or high.sign[0] != "<" or low.number >= high.number:
            raise ValueError(f"a range of two bounds is a lower and a higher one, as in '>= 0, < 1'; got {text!r}.")
    return bounds


def lies_in(value: float, text: str) -> bool:
    """Whether a number lies in a range; NaN lies in none."""
    return all(_SIGNS[bound.sign][0](value, bound.number) for bound in read_range(text))


def in_words(text: str) -> str:
    """A range as a part of a sentence: ">= 0, < 1" is "at least 0 and below 1"."""
    return " and ".join(f"{_SIGNS[bound.sign][1]} {bound.limit}" for bound in read_range(text))
