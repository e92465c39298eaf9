"""Learning rates that depend on the step."""

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warm_cosine(optimizer: Optimizer, steps: int, warm_up: int, last: float) -> LambdaLR:
    """Each group's own rate: reached in equal parts after `warm_up` steps, then along a cosine to `last` after `steps`.

    Raises:
        ValueError: no step is left for the cosine.
    """
    if not 0 <= warm_up < steps:
        raise ValueError(f"warm_up must be 0 or more and below the {steps} steps of the fit; got {warm_up}.")
    rates = [group["lr"] for group in optimizer.param_groups]
    return LambdaLR(optimizer, [partial(_factor, steps=steps, warm_up=warm_up, last=last / rate) for rate in rates])


def _factor(step: int, *, steps: int, warm_up: int, last: float) -> float:
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / (steps - warm_up)
    return last + (1 - last) * (1 + math.cos(math.pi * done)) / 2
