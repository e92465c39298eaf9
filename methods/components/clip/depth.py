"""Blocks named by their depth in a tower, so that a setting of the paper's tower also fits a shallower one."""

from collections.abc import Sequence


def blocks_at(fractions: Sequence[float], n_blocks: int) -> tuple[int, ...]:
    """Blocks, counted from 1, at fractions of a tower's depth; in a shallow tower several may meet in one.

    Raises:
        ValueError: a fraction is not in (0, 1], or there is none.
    """
    if not fractions or not all(0 < fraction <= 1 for fraction in fractions):
        raise ValueError(f"layers must be one or more fractions of the depth, above 0 and at most 1; got {fractions}.")
    return tuple(dict.fromkeys(max(1, round(fraction * n_blocks)) for fraction in fractions))


def in_proportion(count: int, of: int, n_blocks: int) -> int:
    """As many of `n_blocks` blocks as `count` are of `of`, rounded down."""
    return count * n_blocks // of
