"""What numbers are computed in: the type of the towers, and the switches that let float32 products be rounded."""

from typing import Any, Literal

import torch

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
#: Type that autocast runs the towers in, if any.
AUTOCAST = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_SWITCHES = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")


def set_arithmetic(precision: Precision) -> dict[str, str]:
    """Set the switches of the process and return them as read back, for the record.

    Only "tf32" lets the factors of float32 products be rounded to 10 bits of fraction; all else is IEEE float32
    wherever it is float32, also on a GPU, where torch by itself rounds in convolutions.
    """
    rounded = precision == "tf32"
    # Both interfaces are set, and alike: from torch 2.9 on the older one, which Lightning reads on a GPU, raises where
    # they differ.
    torch.set_float32_matmul_precision("high" if rounded else "highest")
    torch.backends.cudnn.allow_tf32 = rounded
    if _has_switches():
        for name in _SWITCHES:
            _part(name).fp32_precision = "tf32" if rounded else "ieee"
    return read_switches()


def read_switches() -> dict[str, str]:
    """The switches by name; "none" leaves a choice to torch."""
    if _has_switches():
        return {name: str(_part(name).fp32_precision) for name in _SWITCHES}
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    return {"float32_matmul_precision": products, "cudnn.allow_tf32": str(convolutions)}


def _has_switches() -> bool:
    return hasattr(torch.backends, "fp32_precision")  # from torch 2.9 on


def _part(name: str) -> Any:
    backend, operation = name.split(".")
    return getattr(getattr(torch.backends, backend), operation)
