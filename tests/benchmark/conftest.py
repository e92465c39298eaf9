"""`bench` as a user calls it, in this process, with a third party's methods installed."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from twins import write_mvtec_ad

from benchmark import cli
from benchmark.request import registry

PLUGIN = Path(__file__).parents[1] / "plugin"
BENCH = [sys.executable, "-c", "from benchmark.cli import main; main()"]


class Finished(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _plugin(monkeypatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(PLUGIN))
    monkeypatch.delenv("BENCH_DATA", raising=False)
    importlib.invalidate_caches()
    clear()
    yield
    clear()


def clear() -> None:
    registry._modules.cache_clear()
    registry._facts.cache_clear()


@pytest.fixture
def bench(monkeypatch, capsys) -> Callable[..., Finished]:
    """Run `bench` with these words; returns exit code, stdout and stderr."""

    def call(*words: object) -> Finished:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, words)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        return Finished(code, *capsys.readouterr())

    return call


@pytest.fixture
def bench_process(tmp_path) -> Callable[..., subprocess.Popen]:
    """Start `bench` in a process of its own."""

    def start(*words: object, **environment: str) -> subprocess.Popen:
        paths = os.pathsep.join([str(PLUGIN), str(Path(__file__).parents[2])])
        variables = {**os.environ, "PYTHONPATH": paths, **environment}
        command = [*BENCH, *map(str, words)]
        return subprocess.Popen(
            command, env=variables, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    return start


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A data folder with a twin of MVTec AD, two categories, which the test may damage."""
    write_mvtec_ad(tmp_path / "data" / "mvtec_ad")
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "mvtec_ad"


CELLS = ("--datasets", "mvtec_ad", "--categories", "bottle,metal_nut", "protocol.evaluation_size=24")


@pytest.fixture
def cells() -> tuple[str, ...]:
    """Words that ask for the twin's two categories."""
    return CELLS
