"""A file that is broken, or a name that two files claim, is said to be so and stops nothing else."""

import importlib
import re
from functools import cache

import pytest

from benchmark.request import code, registry
from benchmark.request import plugins as plugins_module
from benchmark.request.plugins import Claim, Point
from benchmark.request.registry import ConfigError

GOOD = '''"""A method."""
class M:
    paper = ""
    protocols = ("few_shot",)
    class Config:
        """.

        Attributes:
            size: side in pixels.
        """
        size: {type} = 1
'''


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """Install modules of a third party: name of the entry point, module and source; None where there is no file."""

    def install(*points, group="methods"):
        before = plugins_module.points
        added = []
        for name, module, source in points:
            if source is not None:
                path = tmp_path.joinpath(*module.split(".")).with_suffix(".py")
                path.parent.mkdir(exist_ok=True)
                path.write_text(source)
            added.append(Point(name, module, "third-party 1.0"))
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        monkeypatch.setattr(
            plugins_module, "points", lambda kind: [*before(kind), *(added if group == f"{kind}s" else ())]
        )
        code._homes.cache_clear()
        registry._modules.cache_clear()
        registry._facts.cache_clear()

    return install


def test_every_file_of_the_suite_is_whole():
    assert not [
        why for kind in registry.PACKAGES for name in registry.names(kind) if (why := registry.why_broken(kind, name))
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("def (:", r"broken_plugin\.py, line 1: invalid syntax"),
        (GOOD.format(type="Path"), "Config.size must be a literal of type"),
        (GOOD.format(type='Annotated[int, "big"]'), "Config.size: a range is"),
        ("x = 1", "must define exactly one class with the literals paper, protocols"),
        (
            GOOD.format(type="int").replace("few_shot", "few_shots"),
            r"protocols must be among zero_shot, .*got \('few_sh",
        ),
        (GOOD.format(type="int").replace('("few_shot",)', "3"), r"protocols must be tuple\[str, \.\.\.\], got 3"),
        (GOOD.format(type="int").replace('("few_shot",)', "()"), r"protocols must be among .*; got \(\)"),
        (None, "entry point 'broken_plugin', which cannot be used: there is no Python file of the module 'broken_pl"),
    ],
)
def test_a_broken_method_is_listed_and_the_others_run(bench, plugins, data, cells, tmp_path, source, why):
    plugins(("broken", "broken_plugin", source))
    listed = bench("list", "methods")
    assert listed.code == 0
    (line,) = [line for line in listed.out.splitlines() if line.startswith("broken")]
    assert line.startswith("broken  broken: ")
    assert "winclip" in listed.out
    with pytest.raises(ConfigError, match=why):
        registry.method("broken")
    for words in (("show", "method", "broken"), ("run", "--methods", "broken", *cells, "--dry-run")):
        done = bench(*words)
        assert (done.code, "Traceback" in done.err) == (2, False)
        assert line.removeprefix("broken  broken: ") in done.err
    done = bench("run", "--methods", "toy_mean", *cells, "--shots", "1", "--seeds", "0", "--results", tmp_path / "r")
    assert done.code == 0, done


@pytest.mark.parametrize("end", ["raise RuntimeError('sad')", "import sys; sys.exit('sad')"])
def test_a_package_that_cannot_be_imported_breaks_its_own_method_alone(bench, plugins, data, cells, tmp_path, end):
    (tmp_path / "sad").mkdir()
    (tmp_path / "sad" / "__init__.py").write_text(end)
    plugins(("sad", "sad.method", GOOD.format(type="int")), ("absent", "absent.method", None))
    assert "there is no Python file of the module 'absent.method'" in registry.why_broken("method", "absent")
    assert registry.why_broken("method", "toy_mean") == ""
    assert "sad" in bench("list", "methods").out  # nothing of it runs
    done = bench("run", "--methods", "sad", *cells, "--shots", "1", "--seeds", "0", "--results", tmp_path / "r")
    assert done.code == 2
    assert re.search(
        r"error: 'sad' of third-party 1.0 cannot be imported: \w+: sad \(.*sad/__init__.py, line 1\)", done.err
    )
    assert not [*(tmp_path / "r").glob("cells/*")]
    checked = bench("check", "sad")
    assert (checked.code, checked.out) == (2, "")
    assert checked.err == done.err


def test_a_name_that_two_plug_ins_claim_is_ambiguous_and_the_others_are_not(bench, plugins):
    source = GOOD.format(type="int")
    plugins(("twice", "one_twice", source), ("twice", "two_twice:M", source))
    why = registry.why_broken("method", "twice")
    places = "'one_twice' of third-party 1.0, 'two_twice:M' of third-party 1.0"
    assert why == f"method 'twice' is ambiguous among {places}: keep one of them."
    assert registry.method("nearest_patch").settings
    assert f"twice  broken: {why}" in bench("list", "methods").out
    assert bench("show", "method", "twice").err == f"error: {why}\n"


def test_a_name_of_the_suite_stays_the_suites(bench, plugins, data, cells):
    plugins(("winclip", "other_winclip", GOOD.format(type="int")))
    assert registry.method("winclip").path == registry.ROOT / "methods" / "winclip.py"
    note = "note: method 'winclip' of third-party 1.0 is left out: the suite has one of this name.\n"
    assert note in bench("list", "methods").out
    assert note in bench("run", "--methods", "winclip", *cells, "--dry-run").out
    assert note not in bench("list", "datasets").out


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("my-method", "named", "its name must be made of letters, digits and underscores"),
        ("named", "named:", "it must have the form module:Class"),
        ("named", "named:M.Config", "it must have the form module:Class"),
        ("named", ":M", "there is no Python file of the module ''"),
        ("named", "named:N", "named.py must define the class N, or import it by its name"),
        ("named", "named:Other", "named.py: Other must have the literals paper, protocols"),
        ("named", "named:x", "named.py must define the class x, or import it by its name"),
    ],
)
def test_an_entry_point_that_names_no_class(bench, plugins, data, cells, tmp_path, name, value, why):
    plugins((name, value, None))
    (tmp_path / "named.py").write_text(GOOD.format(type="int") + "class Other: pass\nx = 1\n")
    assert why in registry.why_broken("method", name)
    done = bench("run", "--methods", "toy_mean", *cells, "--dry-run")
    assert done.code == 0
    assert f"note: method {name!r} of third-party 1.0 is left out: " in done.out
    asked = bench("run", "--methods", name, *cells, "--dry-run")
    assert (asked.code, why in asked.err) == (2, True)


NO_METHOD = """class M:
    paper = ""
    protocols = ("few_shot",)
"""


def test_a_class_that_is_no_method_is_refused_before_anything_runs(bench, plugins, data, cells, tmp_path):
    plugins(("wrong", "wrong_class:M", None))
    (tmp_path / "wrong_class.py").write_text(NO_METHOD)
    done = bench("run", "--methods", "wrong", *cells, "--shots", "1", "--seeds", "0", "--results", tmp_path / "r")
    assert done.code == 2
    assert "M of 'wrong_class' is no Method: it must inherit methods.components.base.Method" in done.err


def test_a_class_that_is_imported_from_another_file(plugins, tmp_path):
    """Its facts are read where it is defined; both files are its code, and one in a package without `__init__.py`."""
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart" / "__init__.py").write_text("from .inner.deep import M as Renamed\n")
    (tmp_path / "apart" / "inner").mkdir()
    (tmp_path / "apart" / "inner" / "deep.py").write_text(GOOD.format(type="int"))
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "space.py").write_text(GOOD.format(type="float") + "class Second(M):\n    paper = ''\n")
    plugins(("apart", "apart:Renamed", None), ("space", "open.space:M", None))
    facts = registry.method("apart")
    assert (facts.path, facts.modules) == (tmp_path / "apart/inner/deep.py", ("apart", "apart.inner.deep"))
    assert facts.summary == "A method."
    assert set(code.code_of(facts.modules)) == {"apart/__init__.py", "apart/inner/deep.py"}
    assert set(code.code_of(registry.method("space").modules)) == {"open/space.py"}


def test_a_file_and_a_folder_of_one_name_are_ambiguous(tmp_path, monkeypatch):
    (tmp_path / "methods" / "mine").mkdir(parents=True)
    for place in ("mine.py", "mine/method.py", "other.py"):
        (tmp_path / "methods" / place).write_text(GOOD.format(type="int"))
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    registry._modules.cache_clear()
    assert "is ambiguous among" in registry.why_broken("method", "mine")
    assert registry.method("other").settings["size"].meaning == "side in pixels."


def test_a_broken_data_set_is_said_by_list_and_doctor_and_stops_no_other(bench, plugins, data, cells, tmp_path):
    plugins(("sadset", "sad_set", "class :"), group="datasets")
    assert "sadset  broken: " in bench("list", "datasets").out
    assert "sadset is broken: " in bench("doctor", "--results", tmp_path / "r").out
    assert bench("run", "--methods", "toy_mean", *cells, "--dry-run").code == 0
    assert bench("run", "--methods", "toy_mean", "--datasets", "sadset").code == 2


def test_a_broken_auxiliary_set_stops_only_what_is_fitted_on_it(bench, data, cells, tmp_path, monkeypatch):
    (tmp_path / "visa.py").write_text("class :")
    before = registry._modules
    broken = {"visa": [Claim("datamodules.visa", tmp_path / "visa.py")]}
    monkeypatch.setattr(registry, "_modules", cache(lambda kind: before(kind) | (broken if kind == "dataset" else {})))
    assert bench("run", "--methods", "toy_mean", *cells, "--dry-run").code == 0
    done = bench("run", "--methods", "toy_transfers", *cells, "--dry-run")
    assert (done.code, "visa" in done.err) == (2, True)


def test_a_data_set_asked_for_by_a_name_that_it_has_elsewhere():
    with pytest.raises(ConfigError, match=r"the data set 'MVTec' is called 'mvtec_ad' here\."):
        registry.dataset("MVTec")
