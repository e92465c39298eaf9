"""The documentation, built once, and the modules that make it."""

from pathlib import Path

import built_site
import pytest

SOURCES = Path(__file__).parents[2] / "docs/site"


@pytest.fixture(scope="session")
def site(tmp_path_factory, worker_id) -> Path:
    shared = tmp_path_factory.getbasetemp()
    return built_site.build((shared if worker_id == "master" else shared.parent) / "documentation")


@pytest.fixture(autouse=True)
def _sources(monkeypatch) -> None:
    """What the hook imports, as MkDocs lets it."""
    monkeypatch.syspath_prepend(str(SOURCES))
