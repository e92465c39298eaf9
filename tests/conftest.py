"""What tests of several folders share. A process that only hands tests out reads this file too: nothing heavy here."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from methods.components.clip.backbone import CLIPBackbone


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fixture", metavar="PATH", help="another file for the parity test that is named beside it")


@pytest.fixture(scope="session")
def backbone() -> "CLIPBackbone":
    """The small random CLIP that methods are checked on. Shared: it must never be altered."""
    from benchmark.contract import candidates

    return candidates.small_backbone()
