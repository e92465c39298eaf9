"""Where a data set is looked for."""

import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.components.roots import DATA_VARIABLE, find_root, plain_path
from datamodules.components.sample import DataError


@pytest.fixture
def base(tmp_path):
    (tmp_path / "visa").mkdir()
    (tmp_path / "mine").mkdir()
    return tmp_path


def find(explicit, **environment):
    return find_root("visa", "visa", "https://example.org/visa", explicit, environment)


def test_explicit_comes_first(base):
    assert find(str(base / "mine"), BENCH_DATA=str(base)) == base / "mine"


def test_then_the_variable(base):
    assert DATA_VARIABLE == "BENCH_DATA"
    assert find(None, BENCH_DATA=str(base)) == find("", BENCH_DATA=str(base)) == base / "visa"


def test_neither_is_an_error_that_tells_both_ways():
    with pytest.raises(
        DataError, match=r"no data for 'visa': neither .* Set dataset.visa.root .* BENCH_DATA .* holds visa/.*org/visa"
    ):
        find(None)


def test_a_missing_folder_is_named(base):
    with pytest.raises(DataError, match=r"looked at .*/visa \(\$BENCH_DATA/visa\), which is no folder"):
        find(None, BENCH_DATA=str(base / "nowhere"))
    with pytest.raises(DataError, match=r"looked at .*/gone \(root=.*gone\), which is no folder"):
        find(str(base / "gone"), BENCH_DATA=str(base))


def test_the_process_environment_is_the_default(base, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(base))
    assert find_root("visa", "visa", "there") == base / "visa"


def test_paths_are_made_plain(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert plain_path(Path()) == plain_path(Path("a/..")) == tmp_path
    assert plain_path(Path("~/data")) == tmp_path / "home" / "data"


def test_no_torch_is_loaded(base):
    code = (
        "import sys; from datamodules.components.roots import find_root; "
        f"find_root('visa', 'visa', '', {str(base / 'visa')!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
