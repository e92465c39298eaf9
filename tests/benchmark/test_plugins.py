"""Packages of a third party, written by `bench new` and installed by pip: found, checked, run, and hashed whole."""

import importlib
import importlib.util
import json
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

import benchmark
from benchmark.commands import listing
from benchmark.request import inputs, registry
from benchmark.request.code import code_of

pytestmark = pytest.mark.slow

PACKAGES = {"my_memory": ("method",), "my_prompts": ("method", "--learns"), "my_parts": ("dataset",)}
SHARED = "from my_shared.scale import SCALE\n"  # a second top-level package of the same distribution


def pip(*words):
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--disable-pip-version-check", *map(str, words)], check=True, capture_output=True)


def forget():
    for name in [name for name in sys.modules if name.partition(".")[0] in (*PACKAGES, "my_shared")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    inputs.look_again()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What `bench new` writes outside of a checkout; my_memory has got a second package."""
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, (kind, *options) in PACKAGES.items():
            patch.setattr(sys, "argv", ["bench", "new", kind, name, *options])
            with pytest.raises(SystemExit) as end:
                benchmark_main()
            assert end.value.code in (0, None)
    return folder


def benchmark_main():
    from benchmark.cli import main

    main()


@pytest.fixture(scope="module")
def installed(written, tmp_path_factory):
    """All three, as a release is installed."""
    place = tmp_path_factory.mktemp("installed") / "site-packages"
    shutil.copytree(written / "my_memory", project := place.parent / "my_memory")
    (project / "my_shared").mkdir()
    (project / "my_shared" / "__init__.py").touch()
    (project / "my_shared" / "scale.py").write_text("SCALE = 1.0\n")
    method = project / "my_memory" / "method.py"
    text = method.read_text().replace("from torch import Tensor\n", f"from torch import Tensor\n\n{SHARED}", 1)
    method.write_text(text.replace("return Prediction(distance.", "return Prediction(SCALE * distance."))
    (project / "my_memory" / "__init__.py").write_text("from my_memory.method import MyMemory as Offered\n")
    toml = project / "pyproject.toml"
    toml.write_text(
        toml.read_text()
        .replace("my_memory.method:MyMemory", "my_memory:Offered")
        .replace('packages = ["my_memory"]', 'packages = ["my_memory", "my_shared"]')
    )
    pip("--target", place, project, written / "my_prompts", written / "my_parts")
    return place


@pytest.fixture
def found(installed, tmp_path, monkeypatch):
    """A copy of what is installed, on the path of this process."""
    place = tmp_path / "site-packages"
    shutil.copytree(installed, place, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(str(place))
    forget()
    yield place
    monkeypatch.undo()
    forget()


def test_what_is_written_passes_ruff(written):
    for words in (("check",), ("format", "--check")):
        done = subprocess.run([shutil.which("ruff", path=str(Path(sys.executable).parent)) or "ruff", *words, "."],
                              cwd=written, capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", PACKAGES)
def test_what_is_written_passes_its_own_test(written, found, tmp_path, name):
    spec = importlib.util.spec_from_file_location("own_test", written / name / "tests" / f"test_{name}.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tests = {key: value for key, value in vars(module).items() if key.startswith("test_")}
    assert len(tests) == (1 if name == "my_parts" else 2)
    for test in tests.values():
        test(*([tmp_path / "twin"] if name == "my_parts" else []))


def test_it_is_told_where_it_comes_from(found, bench):
    for kind, name, distribution in (
        ("method", "my_memory", "my-memory 0.1.0"),
        ("dataset", "my_parts", "my-parts 0.1.0"),
    ):
        assert {its["name"]: its["from"] for its in listing.LISTS[f"{kind}s"][0]()}[name] == distribution
        assert name in bench("list", f"{kind}s").out
        assert f"# distribution: {distribution}\n" in bench("show", kind, name).out
        assert registry.distribution(kind, name) == distribution
    assert registry.left_out() == ()


def test_both_run_beside_the_suites_and_a_change_in_any_file_is_stale(found, bench, data, cells, tmp_path):
    asked = (
        "run",
        "--methods",
        "my_memory,my_prompts",
        *cells[:2],
        "--categories",
        "bottle",
        cells[-1],
        "--shots",
        "1",
    )
    asked += ("--seeds", "0", "--results", tmp_path / "r")
    assert bench(*asked).code == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "r").glob("cells/*/attempt-1.json")]
    by_method = {record["cell"]["method"]: record for record in records}
    assert by_method["my_memory"]["provenance"]["plugins"] == {"method my_memory": "my-memory 0.1.0"}
    code = {name for name in by_method["my_memory"]["content"]["code"] if name.startswith("my_")}
    assert code == {"my_memory/__init__.py", "my_memory/method.py", "my_shared/__init__.py", "my_shared/scale.py"}
    assert "2 done" in bench(*asked, "--dry-run").out
    for name in ("my_memory/__init__.py", "my_memory/method.py", "my_shared/scale.py"):
        before = (found / name).read_text()
        (found / name).write_text(before + "X = 1\n")
        forget()
        assert f"stale (code: {name})" in bench(*asked, "--dry-run").out
        (found / name).write_text(before)
        forget()
    assert "2 done" in bench(*asked, "--dry-run").out


def test_one_that_is_installed_editable_is_hashed_where_it_lies(written, tmp_path, monkeypatch):
    """By the names of its files alone, wherever the checkout is."""
    shutil.copytree(written / "my_prompts", project := tmp_path / "checkout")
    pip("--prefix", tmp_path / "prefix", "--editable", project)
    (place,) = (tmp_path / "prefix").glob("**/site-packages")
    monkeypatch.setattr(sys, "path", [*sys.path])
    site.addsitedir(str(place))
    forget()
    try:
        facts = registry.method("my_prompts")
        assert facts.path == project / "my_prompts" / "method.py"
        before = code_of(facts.modules)
        assert {name for name in before if name.startswith(("my_", "_"))} == {
            "my_prompts/__init__.py",
            "my_prompts/method.py",
        }
        facts.path.write_text(facts.path.read_text().replace("2e-3", "3e-3"))
        forget()
        after = code_of(registry.method("my_prompts").modules)
        assert [name for name in before if before[name] != after[name]] == ["my_prompts/method.py"]
    finally:
        monkeypatch.undo()
        forget()


def test_a_process_that_has_imported_older_code_says_so(found, data, tmp_path):
    """As a notebook whose author edits the method; a record would name the new code, and hold numbers of the old."""
    asked = {"datasets": f"parts={data}", "categories": "bottle", "shots": 1, "seeds": 0, "progress": False}
    asked |= {"settings": {"protocol.evaluation_size": 24}, "results": tmp_path / "r"}
    first = benchmark.run("my_memory", **asked)
    assert list(first["status"]) == ["ok"]
    scale = found / "my_shared" / "scale.py"
    scale.write_text("SCALE = 2.0\n")
    with pytest.raises(
        benchmark.UserError, match=r"my_shared/scale.py changed since this process imported 'my_memory'"
    ):
        benchmark.run("my_memory", **asked)
    scale.write_text('"""Prose."""\nSCALE = 1.0\n')
    assert benchmark.run("my_memory", **asked).equals(first)
