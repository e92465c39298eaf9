"""A GPU, or one sentence that there is none."""

import pytest
import torch

from methods.components.clip.precision import set_arithmetic


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """The first GPU, with IEEE arithmetic."""
    if not torch.cuda.is_available():
        pytest.skip(f"torch {torch.__version__} sees no GPU, so nothing is said of one.")
    set_arithmetic("fp32")
    return torch.device("cuda", 0)
