"""What tests of several folders share."""

import pytest

from benchmark.contract import candidates
from methods.components.clip.backbone import CLIPBackbone


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fixture", metavar="PATH", help="another file for the parity test that is named beside it")


@pytest.fixture(scope="session")
def backbone() -> CLIPBackbone:
    """The small random CLIP that methods are checked on. Shared: it must never be altered."""
    return candidates.small_backbone()
