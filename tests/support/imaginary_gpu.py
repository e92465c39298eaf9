"""A GPU that is not there: what is computed on it has a shape and a device and no values."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("cuda", 0)


class ImaginaryGPU(FakeTensorMode):
    """While it is on, tensors of the CPU are real and those of "cuda" are torch's fake ones.

    So two devices that meet in one operation raise, and so does whatever needs a value of the GPU on the CPU: `item`,
    `int`, `bool`, a boolean index. What copies from the CPU to the GPU does not, though it may wait as well.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run on the CPU for real what takes nothing from the GPU and puts nothing there."""
        leaves = tree_leaves((args, kwargs or {}))
        devices = {each.type for each in leaves if isinstance(each, torch.device)}
        fake = {each.device.type for each in leaves if isinstance(each, FakeTensor)}
        if "cuda" in fake and "cpu" in devices:
            raise RuntimeError(f"{func} copies from the GPU to the CPU, which waits for it.")
        if fake or "cuda" in devices:
            return super().dispatch(func, types, args, kwargs)
        return func(*args, **kwargs or {})


@contextmanager
def imaginary_gpu(*modules: nn.Module) -> Iterator[None]:
    """Move `modules` to the imaginary GPU, for good, and work on it."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # a real parameter cannot become a fake one
    try:
        with ImaginaryGPU():
            for module in modules:
                module.to(DEVICE)
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
