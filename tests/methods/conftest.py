"""Backbones with a feature store and without."""

import pytest

from methods.components.clip.backbone import CLIPBackbone
from methods.components.feature_store.store import FeatureStore


@pytest.fixture
def plain(backbone) -> CLIPBackbone:
    """The shared CLIP in a backbone of the test's own."""
    return CLIPBackbone(backbone.clip, backbone.tokenizer)


@pytest.fixture
def stored(backbone, tmp_path) -> CLIPBackbone:
    """Likewise, with an empty store in `tmp_path`."""
    other = CLIPBackbone(backbone.clip, backbone.tokenizer)
    other.store = FeatureStore(tmp_path / "features", 2**28)
    return other
