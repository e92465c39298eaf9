"""Writes what a fitted method says as files that run without this package, and proves on the way out that they do.

Equality is that of each number with what the method itself says of that image alone, up to `TOLERANCE`, also in a file
that was written, closed and read again.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.execution.program import (
    ExportError,
    Judge,
    Rows,
    run_onnx,
    run_program,
    save_onnx,
    save_program,
    trace,
)

#: Of a number, and in parts of it where it is larger than 1: float32 has no digit left for less there.
TOLERANCE = 1e-4
PROGRAM, ONNX = "model.pt2", "model.onnx"
N_RANDOM = 2  # images of noise among those that equality is proven on


class Exported(NamedTuple):
    """What was written, and what was not."""

    proven: dict[str, dict[str, float]]  # by file, the largest differences of scores and of maps
    refused: dict[str, str]  # by file, why it was not written
    opset: int | None  # of the ONNX file
    map_shape: tuple[int, ...]  # (h, w)


def export(judge: Judge, images: Tensor, batch: int, folder: Path) -> Exported:
    """Write `PROGRAM`, and `ONNX` where it can be proven, to a folder.

    Args:
        judge: of the fitted method, on the CPU, one that `check_fixed` lets pass.
        images: (n, 3, S, S) in [0, 1], on which equality is proven; images of noise are added.
        batch: images that the program takes at once.
        folder: there already.

    Raises:
        ExportError: torch cannot trace the method, or the program says something else.
    """
    noise = torch.rand(N_RANDOM, *images.shape[1:], generator=torch.Generator().manual_seed(0))
    images = torch.cat([images, noise])
    with torch.no_grad():
        alone = [judge(image) for image in images.split(1)]
    expected = torch.cat([score for score, _ in alone]), torch.cat([maps for _, maps in alone])
    batches = _batches(images, batch)
    try:
        program = trace(judge, batches[0])
        save_program(program, folder / PROGRAM)
        proven = {PROGRAM: prove(run_program(folder / PROGRAM, batches), expected)}
    except ExportError as error:
        raise ExportError(f"{judge.name} cannot be exported: {error}.") from error
    shape = tuple(expected[1].shape[1:])
    try:
        opset = save_onnx(program, folder / ONNX)
        proven[ONNX] = prove(run_onnx(folder / ONNX, batches), expected)
    except ExportError as error:
        for path in folder.glob(f"{ONNX}*"):  # with what lies beside a file of more than 2 GB
            path.unlink()
        return Exported(proven, {ONNX: str(error)}, None, shape)
    return Exported(proven, {}, opset, shape)


def _batches(images: Tensor, batch: int) -> list[Tensor]:
    """The images in whole batches, the first ones again where the last is not full."""
    places = torch.arange(-(-len(images) // batch) * batch) % len(images)
    return list(images[places].split(batch))


def prove(said: Rows, expected: Rows) -> dict[str, float]:
    """The largest differences of scores and maps; rows of `said` beyond those expected are repetitions.

    Raises:
        ExportError: one is larger than `TOLERANCE`, or no number, or the shapes differ.
    """
    found = {}
    for what, its, wanted in zip(("score", "anomaly_map"), said, expected, strict=True):
        if its.shape[1:] != wanted.shape[1:] or len(its) < len(wanted):
            raise ExportError(f"it says {what}s of the shape {tuple(its.shape)}, expected {tuple(wanted.shape)}")
        found[what] = largest_difference(its[: len(wanted)], wanted)
        if not found[what] <= TOLERANCE:  # also of NaN
            raise ExportError(f"its {what}s differ by up to {found[what]:.2g}, allowed is {TOLERANCE:g}")
    return found


def largest_difference(said: Tensor, expected: Tensor) -> float:
    """The largest |a - b| / max(1, |b|) of two tensors of one shape."""
    said, expected = said.double(), expected.double()
    return float(((said - expected).abs() / expected.abs().clamp(min=1)).max())
