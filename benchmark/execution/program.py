"""From a fitted method to a program of its own: an image in, a score and an anomaly map out, all else constant.

Texts, learnt or written, are encoded before the program is traced, memories are constants of it, and of CLIP the image
tower alone is left. What does not depend on the image alone has no such program, see `why_not`.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.optim.optimizer import register_optimizer_step_pre_hook

from datamodules.components.sample import UserError
from methods.components.base import Method

INPUT, OUTPUTS = "image", ("score", "anomaly_map")
Rows = tuple[Tensor, Tensor]  # scores (B,) and finished maps (B, h, w)


class ExportError(UserError):
    """A method cannot be exported; the message says why in one sentence."""


class Judge(nn.Module):
    """A method that is always asked for one category: images (B, 3, S, S) in [0, 1] to scores and finished maps."""

    method: Method

    def __init__(self, method: Method, category: str) -> None:
        """Borrow the method: not a submodule, so that a program holds the tensors that it reads and no others."""
        super().__init__()
        object.__setattr__(self, "method", method)
        self.category, self.name = category, type(method).__name__

    def forward(self, images: Tensor) -> Rows:
        score, anomaly_map = self.method.predict(images, [self.category] * len(images))
        return score, anomaly_map


def check_fixed(judge: Judge, image: Tensor) -> None:
    """ExportError unless what a method says of an image (1, 3, S, S) is a fixed function of it, see `why_not`."""
    if reason := why_not(judge, image):
        raise ExportError(f"{judge.name} cannot be exported: {reason}.")


@torch.no_grad()
def why_not(judge: Judge, image: Tensor) -> str:
    """Why what a method says of an image (1, 3, S, S) is no fixed function of it, in words; "" where it is.

    Predicts three times: the first time whatever can be kept for later images is computed.
    """
    method = judge.method
    if method.transductive:
        return "its image scores depend on the other test images of the category"
    judge(image)
    with _watched(method) as seen:
        first = judge(image)
    if seen:
        return seen[0]
    again = judge(image)
    if not all(torch.equal(one, other) for one, other in zip(first, again, strict=True)):
        return "it says something else of the same image each time: it draws random numbers"
    return ""


@contextmanager
def _watched(method: Method) -> Iterator[list[str]]:
    """What is done inside that no program of the image alone can do, in words."""
    seen: list[str] = []

    def text(*_: Any) -> None:
        seen.append("its texts depend on the image: it runs the text tower for each one")

    def step(*_: Any) -> None:
        seen.append("it is fitted on each test image before it judges it")

    hooks = [block.register_forward_pre_hook(text) for block in method.backbone.clip.transformer.resblocks]
    hooks.append(register_optimizer_step_pre_hook(step))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def trace(judge: Judge, images: Tensor) -> ExportedProgram:
    """The program of a method whose prediction is fixed, for batches of as many images as `images` (B, 3, S, S).

    Raises:
        ExportError: `torch.export` cannot trace it.
    """
    judge(images)  # what is computed once is constant from here on
    try:
        program: ExportedProgram = torch.export.export(judge.eval(), (images,), strict=False).run_decompositions({})
    except Exception as error:  # torch raises what it likes
        raise ExportError(f"torch.export cannot trace it ({_first_line(error)})") from error
    return program


def save_program(program: ExportedProgram, path: Path) -> None:
    """Write a file that `torch.export.load` reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a view without its whole: what is read again is proven
        torch.export.save(program, path)


@torch.no_grad()
def run_program(path: Path, batches: Sequence[Tensor]) -> Rows:
    """What a saved program says of batches, row by row."""
    logging.getLogger("torch._export").setLevel(logging.ERROR)  # it tells of symbols that nothing needs
    loaded = torch.export.load(path).module()
    return _rows([loaded(batch) for batch in batches])


def save_onnx(program: ExportedProgram, path: Path) -> int:
    """Write an ONNX file that onnxruntime has every operator of; returns its opset.

    Raises:
        ExportError: torch's exporter does not know how to write some operator.
    """
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made: Any = torch.onnx.export(
                program.run_decompositions(PLAIN),
                dynamo=True,
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                verbose=False,
            )
            for node in made.model.graph:
                node.metadata_props.clear()  # where in the source it comes from, with the paths of this machine
            made.save(path)
    except Exception as error:  # as above
        raise ExportError(f"torch.onnx.export cannot write it ({_last_line(error)})") from error
    return int(made.model.opset_imports[""])


def run_onnx(path: Path, batches: Sequence[Tensor]) -> Rows:
    """What onnxruntime says of batches on the CPU, row by row.

    Raises:
        ExportError: it cannot run the file.
    """
    import onnxruntime  # noqa: PLC0415  (an extra)

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        said = [session.run(list(OUTPUTS), {INPUT: batch.numpy()}) for batch in batches]
    except Exception as error:  # onnxruntime's errors share no public base
        raise ExportError(f"onnxruntime cannot run it ({_first_line(error)})") from error
    return _rows([(torch.from_numpy(score), torch.from_numpy(maps)) for score, maps in said])


def _rows(said: Sequence[Rows]) -> Rows:
    return torch.cat([score for score, _ in said]), torch.cat([maps for _, maps in said])


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"


def _last_line(error: Exception) -> str:
    """The exporter's own headline says how to debug it; what is wrong stands in the error behind it."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0] if lines else 'no message'}"


def _fold(columns: Tensor, size: Sequence[int], kernel: Any, dilation: Any, padding: Any, stride: Any) -> Tensor:
    """`col2im` as a sum over numbered pixels, for types that onnxruntime has no Col2Im of, such as double."""
    height, width = size
    pixels = torch.arange(height * width, dtype=torch.float64).view(1, 1, height, width)
    places = F.unfold(pixels, kernel, dilation, padding, stride).long()  # (1, kernel, windows); needs no padding
    given = columns.unflatten(1, (-1, places.shape[1])).flatten(2)  # (B, C, kernel · windows)
    empty = columns.new_zeros(*given.shape[:2], height * width)
    summed: Tensor = empty.index_add(2, places.flatten(), given).unflatten(2, (height, width))
    return summed


def _distances(here: Tensor, there: Tensor, p: float = 2.0, compute_mode: int | None = None) -> Tensor:
    """`cdist` of any norm p, whose own operator ONNX does not have."""
    distances: Tensor = (here.unsqueeze(-2) - there.unsqueeze(-3)).norm(p=p, dim=-1)
    return distances


#: What an operator is made of where torch's exporter or onnxruntime lack it.
PLAIN: dict[Any, Any] = {
    torch.ops.aten.col2im.default: _fold,
    torch.ops.aten.cdist.default: _distances,
    torch.ops.aten._cdist_forward.default: _distances,
}
