"""The version of the suite: of the checkout whose code runs, else of the installation."""

import tomllib
from importlib.metadata import version

from benchmark.request.registry import ROOT

NAME = "clip-ad-bench"


def suite_version() -> str:
    """The version in the `pyproject.toml` beside the code, in an installation without one that of its metadata.

    A checkout on PYTHONPATH may run beside an installation of another version, whose metadata Python finds.
    """
    file = ROOT / "pyproject.toml"
    if not file.is_file():
        return version(NAME)
    declared: str = tomllib.loads(file.read_text(encoding="utf-8"))["project"]["version"]
    return declared
