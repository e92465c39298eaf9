"""What tests of several folders share."""

import open_clip
import pytest
import torch

from methods.components.backbone import CLIPBackbone

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": 8, "width": 48, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 6},
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fixture", metavar="PATH", help="another file for the parity test that is named beside it")


@pytest.fixture(scope="session")
def backbone() -> CLIPBackbone:
    """A random CLIP of 64 px, 4 x 4 patches, whose three widths differ. Shared: it must never be altered."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = open_clip.CLIP(**TINY)
    return CLIPBackbone(clip, open_clip.SimpleTokenizer())
