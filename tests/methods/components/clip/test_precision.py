"""The switches of float32 arithmetic, as torch reads them itself and through both of its interfaces."""

from typing import get_args

import pytest
import torch

from methods.components.clip import precision
from methods.components.clip.backbone import CLIPBackbone
from methods.components.clip.cached_passes import arithmetic
from methods.components.clip.precision import Precision, read_switches, set_arithmetic

PRECISIONS = get_args(Precision)


@pytest.fixture(autouse=True)
def restored():
    """The process as it was: torch's own defaults, or what another test left."""
    before = read_switches()
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = convolutions
    for name, value in before.items():
        precision._part(name).fp32_precision = value
    assert read_switches() == before


def seen_by_torch():
    """The switches read without the suite; each of the older ones raises where old and new ones differ."""
    backends = torch.backends
    parts = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    parts += (backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn)
    old = (backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, torch.get_float32_matmul_precision())
    return {part.fp32_precision for part in parts}, old


@pytest.mark.parametrize("first", PRECISIONS)
@pytest.mark.parametrize("then", PRECISIONS)
def test_only_tf32_rounds_whatever_came_before(first, then):
    set_arithmetic(first)
    said = set_arithmetic(then)
    if then == "tf32":
        assert seen_by_torch() == ({"tf32"}, (True, True, "high"))
    else:
        assert seen_by_torch() == ({"ieee"}, (False, False, "highest"))
    assert set(said.values()) == seen_by_torch()[0]
    assert {"cuda.matmul", "cudnn.conv", "mkldnn.matmul", "mkldnn.conv"} <= said.keys()


@pytest.mark.parametrize("setter", ["older", "newer"])
def test_what_a_method_set_does_not_last(setter):
    if setter == "older":
        torch.set_float32_matmul_precision("medium")
        torch.backends.cudnn.allow_tf32 = True
    else:
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        torch.backends.cudnn.rnn.fp32_precision = "tf32"
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    set_arithmetic("fp32")
    assert seen_by_torch() == ({"ieee"}, (False, False, "highest"))


def test_torch_before_the_newer_switches(monkeypatch):
    monkeypatch.setattr(precision, "_has_switches", lambda: False)
    assert set_arithmetic("tf32") == {"float32_matmul_precision": "high", "cudnn.allow_tf32": "True"}
    assert set_arithmetic("bf16") == {"float32_matmul_precision": "highest", "cudnn.allow_tf32": "False"}


def test_the_store_keeps_fp32_and_tf32_apart_and_the_tower_has_no_autocast_for_them(backbone):
    said = set()
    for name in ("fp32", "tf32"):
        set_arithmetic(name)
        said.add(arithmetic(torch.device("cuda")))
        assert not CLIPBackbone(backbone.clip, backbone.tokenizer, precision=name).autocast()._enabled
    assert len(said) == 2
    set_arithmetic("bf16")
    assert arithmetic(torch.device("cuda")) in said
