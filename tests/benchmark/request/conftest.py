"""Requests as they were when their ids were written down."""

import pytest

from benchmark.request import inputs
from benchmark.request.cell import VERSIONS
from datamodules.components.content import file_digest
from methods.components.clip.published_weights import DEMO_FILE

EMBEDDED_OF_4 = "f0d11b9418d81af767dea8c19e79c2cb47fdef2dfaffb9c8d4532a4f9c01a80c"  # the file's sha256 under protocol 4


@pytest.fixture
def protocol_4(monkeypatch):
    """The version of the protocol that ids were written down under, and the embedded CLIP of that time."""
    monkeypatch.setitem(VERSIONS, "protocol", 4)
    monkeypatch.setattr(inputs, "file_digest", lambda path: EMBEDDED_OF_4 if path == DEMO_FILE else file_digest(path))
