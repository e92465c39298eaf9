"""`bench new` writes into a checkout or a package, under a name that is free, and never over a file."""

import ast
import re

import pytest

from benchmark.commands import new
from benchmark.request import registry


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one method and one data set, in which the command is given."""
    root = tmp_path / "checkout"
    for floor in ("methods", "datamodules"):
        (root / floor / "components").mkdir(parents=True)
        (root / "tests" / floor).mkdir(parents=True)
    monkeypatch.setattr(registry, "ROOT", root)
    monkeypatch.chdir(root / "tests")
    registry.look_again()
    yield root
    monkeypatch.undo()
    registry.look_again()


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("words", "floor", "cls"),
    [
        (("method", "my_thing_2"), "methods", "MyThing2"),
        (("method", "my_thing_2", "--learns"), "methods", "MyThing2"),
        (("dataset", "my_thing_2"), "datamodules", "MyThing2"),
    ],
)
def test_in_a_checkout_a_file_and_its_test(bench, checkout, words, floor, cls):
    done = bench("new", *words)
    assert (done.code, done.err) == (0, "")
    written = files(checkout)
    assert set(written) == {f"{floor}/my_thing_2.py", f"tests/{floor}/test_my_thing_2.py"}
    assert cls in [
        node.name for node in ast.parse(written[f"{floor}/my_thing_2.py"]).body if isinstance(node, ast.ClassDef)
    ]
    assert not re.search("new_(method|dataset)|New(Method|Dataset)", "".join(written.values()))
    assert f"pytest tests/{floor}/test_my_thing_2.py" in done.out
    registry.look_again()
    assert registry.why_broken(words[0], "my_thing_2") == ""
    again = bench("new", *words)
    assert (again.code, files(checkout)) == (2, written)
    assert f"there is a {words[0]} 'my_thing_2' already" in again.err


def test_no_file_is_written_over_and_then_none_is_written(bench, checkout):
    (checkout / "tests" / "methods" / "test_mine.py").write_text("mine = 1\n")
    done = bench("new", "method", "mine")
    assert (done.code, files(checkout)) == (2, {"tests/methods/test_mine.py": "mine = 1\n"})
    assert "test_mine.py exists already: nothing was written." in done.err


def test_elsewhere_a_package(bench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = bench("new", "method", "mine_apart", "--learns")
    assert done.code == 0, done.err
    written = files(tmp_path)
    package = {f"mine_apart/mine_apart/{name}.py" for name in ("__init__", "method")}
    assert set(written) == {"mine_apart/pyproject.toml", "mine_apart/tests/test_mine_apart.py", *package}
    assert 'mine_apart = "mine_apart.method:MineApart"' in written["mine_apart/pyproject.toml"]
    assert "pip install --no-deps -e ./mine_apart" in done.out
    again = bench("new", "method", "mine_apart")
    assert (again.code, files(tmp_path)) == (2, written)


ODD = ("Mine", "my-x", "1a", "_a", "lambda", "a/b", "")


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        *(("method", name, "a name is made of lower-case letters") for name in ODD),
        ("method", "x" * (new.LONGEST + 1), "at most 40 characters"),
        ("method", "winclip", "there is a method 'winclip' already"),
        ("method", "toy_mean", "there is a method 'toy_mean' already"),
        ("dataset", "visa", "there is a dataset 'visa' already"),
        ("dataset", "mvtec", "the data set 'mvtec' is here already, as 'mvtec_ad'."),
        ("method", "components", "'components' is a name of the suite's own"),
        ("dataset", "methods", "'methods' is a name of the suite's own"),
        ("method", "json", "Python knows a package 'json' already"),
    ],
)
def test_a_name_that_cannot_be_is_refused(bench, tmp_path, monkeypatch, kind, name, why):
    monkeypatch.chdir(tmp_path)
    done = bench("new", kind, name)
    assert (done.code, why in done.err, files(tmp_path)) == (2, True, {}), done.err
