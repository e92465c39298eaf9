"""A file that is broken, or a name that two files claim, is said to be so and stops nothing else."""

import importlib
from types import SimpleNamespace

import pytest

from benchmark.request import registry
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
        before = registry.entry_points
        added = []
        for name, module, source in points:
            if source is not None:
                path = tmp_path.joinpath(*module.split(".")).with_suffix(".py")
                path.parent.mkdir(exist_ok=True)
                path.write_text(source)
            added.append(SimpleNamespace(name=name, value=module))
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        mine = f"clip_ad_bench.{group}"
        monkeypatch.setattr(registry, "entry_points", lambda group: [*before(group=group), *(added * (group == mine))])
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
        (None, "method 'broken' is the entry point 'broken_plugin', which cannot be found: no such module"),
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


def test_a_package_that_cannot_be_imported_breaks_its_own_method_alone(plugins, tmp_path):
    (tmp_path / "sad").mkdir()
    (tmp_path / "sad" / "__init__.py").write_text("raise RuntimeError('sad')")
    plugins(("sad", "sad.method", GOOD.format(type="int")), ("absent", "absent.method", None))
    assert "which cannot be found: RuntimeError: sad" in registry.why_broken("method", "sad")
    assert "ModuleNotFoundError" in registry.why_broken("method", "absent")
    assert registry.why_broken("method", "toy_mean") == ""


def test_a_name_that_two_files_claim_is_ambiguous_and_the_others_are_not(bench, plugins):
    source = GOOD.format(type="int")
    plugins(("winclip", "other_winclip", source), ("twice", "one_twice", source), ("twice", "two_twice", source))
    why = registry.why_broken("method", "winclip")
    assert why.startswith("method 'winclip' is ambiguous among ")
    assert "methods/winclip.py, " in why
    assert why.endswith("other_winclip.py: rename all but one.")
    assert "one_twice.py, " in registry.why_broken("method", "twice")
    assert registry.method("nearest_patch").settings
    listed = bench("list", "methods").out
    assert f"winclip  broken: {why}" in listed
    assert bench("show", "method", "winclip").err == f"error: {why}\n"


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


def test_a_broken_auxiliary_set_stops_only_what_is_fitted_on_it(bench, data, plugins, cells):
    plugins(("visa", "other_visa", "class :"), group="datasets")
    assert bench("run", "--methods", "toy_mean", *cells, "--dry-run").code == 0
    done = bench("run", "--methods", "toy_transfers", *cells, "--dry-run")
    assert (done.code, "visa" in done.err) == (2, True)


def test_a_data_set_asked_for_by_a_name_that_it_has_elsewhere():
    with pytest.raises(ConfigError, match=r"the data set 'MVTec' is called 'mvtec_ad' here\."):
        registry.dataset("MVTec")
