"""The code behind a number is all that is imported, and nothing that is only said."""

import ast
import re
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from benchmark.request import code, registry
from benchmark.request.code import MEASURING, code_of, hash_code

ROOT = Path(__file__).parents[3]
METHOD = (
    "import json, __main__\nimport friend\nfrom mine import near\n"
    'from .inner import part as other\nWORDS = "words.json"\n'
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A third party's package: a method that imports a neighbour, a package of its own, and a neighbour's neighbour."""
    home = tmp_path / "mine"
    for name, text in {
        "__init__.py": "",
        "method.py": METHOD,
        "near.py": "from mine.far import value\n",
        "far.py": "value = 1  # one\n",
        "inner/__init__.py": "LEVEL = 1\n",
        "inner/part.py": "x = 1\n",
        "unrelated.py": "y = 1\n",
        "words.json": "{}",
        "other.json": "{}",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    (tmp_path / "friend.py").write_text("z = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    clear()
    yield home
    clear()


def clear():
    for cached in (code._closure, code._read, code._digest, code._homes):
        cached.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def test_a_package_that_is_installed_beside_it_is_no_part_and_one_of_the_users_own_is(package):
    before = again()
    assert not any(name.startswith("json") for name in before)
    (package.parent / "friend.py").write_text("z = 2\n")
    after = again()
    assert [file for file in after if before[file] != after[file]] == ["friend.py"]


def test_the_program_that_runs_is_no_part_of_the_code(package, monkeypatch):
    """Whether it has a spec, as with `python -m`, or none, as with `python -c`, where importlib refuses to look."""
    before = again()
    for spec in (None, ModuleSpec("__main__", None, origin=str(package / "method.py"))):
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec, raising=False)
        assert again() == before


def again(module="mine.method"):
    clear()
    return code_of([module])


def test_the_code_of_a_module_is_all_it_imports(package):
    inside = ("__init__.py", "method.py", "near.py", "far.py", "inner/__init__.py", "inner/part.py", "words.json")
    assert set(again()) == {"friend.py", *(f"mine/{name}" for name in inside)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("far.py", "value = 2\n"),
        ("inner/__init__.py", "LEVEL = 2\n"),
        ("inner/part.py", "x = 1.0\n"),
        ("words.json", "{ }"),
        ("near.py", "from mine.far import value\nvalue\n"),
    ],
)
def test_a_change_in_any_of_them_is_seen_and_named(package, name, text):
    before = again()
    (package / name).write_text(text)
    after = again()
    assert [file for file in after if before[file] != after[file]] == [f"mine/{name}"]
    assert hash_code(before) != hash_code(after)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("far.py", '"""Prose."""\n\n# more\nvalue   =  1\n'),
        ("unrelated.py", "y = 2\n"),
        ("other.json", "[]"),
    ],
)
def test_prose_layout_and_what_is_not_imported_are_not_code(package, name, text):
    before = again()
    (package / name).write_text(text)
    assert again() == before


def test_docstrings_of_everything_that_has_one_are_left_out(package):
    body = (
        "{}\nclass A:\n    {}\n    def f(self):\n        {}\n        return None\n    async def g(self):\n        {}\n"
    )
    (package / "far.py").write_text(body.format(*['"""One."""'] * 3, '"""One."""\n        return 1'))
    before = again()
    (package / "far.py").write_text(body.format(*['"""Two."""'] * 3, '"""Two."""\n        return 1'))
    assert again() == before
    (package / "far.py").write_text(body.format(*['"""Two."""'] * 3, '"""Two."""\n        return 2'))
    assert again() != before


def imported_by(module):
    """In-house files that importing a module really loads, in a process of its own."""
    show = "import sys, {0}; print(*sorted(m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)))"
    done = subprocess.run(
        [sys.executable, "-c", show.format(module)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    files = [Path(name) for name in done.stdout.split() if Path(name).is_relative_to(ROOT)]
    return {path.relative_to(ROOT).as_posix() for path in files if path.relative_to(ROOT).parts[0] in code.FLOORS}


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [
        MEASURING,
        "methods.anople.method",
        *(
            pytest.param(each, marks=pytest.mark.campaign)
            for each in ("methods.finegrainedad.method", "datamodules.procedural")
        ),
    ],
)
def test_all_that_python_loads_is_in_the_code(module):
    assert imported_by(module) <= set(code_of([module]))


@pytest.mark.slow
def test_every_method_has_its_components_in_its_code():
    for name in registry.names("method"):
        facts = registry.method(name)
        found = code_of([facts.module])
        named = re.findall(r"^from (methods\.components\.\w+) import", facts.path.read_text(), re.MULTILINE)
        assert {f"{module.replace('.', '/')}.py" for module in named} <= set(found), name
        assert "methods/components/base.py" in found


def test_a_tree_is_spelt_alike_whatever_its_layout():
    one, other = (code._spell(ast.parse(text)) for text in ("f(1, x=None)", "f(\n  1,\n  x=None,\n)"))
    assert one == other
    assert code._spell(ast.parse("f(1, x=0)")) != one
    assert code._spell(ast.parse("return_ = None")) != code._spell(ast.parse("return_ = 0"))
