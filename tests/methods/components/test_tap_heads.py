"""One linear map for each tap, against plain matrix products."""

import pytest
import torch
from torch.testing import assert_close

from methods.components.tap_heads import TapHeads


@pytest.mark.parametrize("bias", [True, False])
def test_each_tap_passes_through_its_own_head(bias):
    torch.manual_seed(0)
    heads, taps = TapHeads(3, 6, 4, bias=bias), torch.randn(3, 2, 5, 6)
    state = heads.state_dict()
    assert len(state) == (6 if bias else 3)
    expected = torch.einsum("lbnw,ldw->lbnd", taps, torch.stack([state[f"heads.{i}.weight"] for i in range(3)]))
    if bias:
        expected += torch.stack([state[f"heads.{i}.bias"] for i in range(3)])[:, None, None]
    assert_close(heads(taps), expected)


def test_another_number_of_taps_is_refused():
    with pytest.raises(ValueError, match="There are 3 heads, one for each tap; got 2 taps"):
        TapHeads(3, 6, 4)(torch.zeros(2, 1, 5, 6))
