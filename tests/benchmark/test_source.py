"""Facts are read from the source, and say what the class says."""

import re

import pytest

from benchmark.request import registry
from benchmark.request.registry import ConfigError
from benchmark.request.source import Setting, SourceError, read_source

FILE = '''"""A summary.

More."""
class M:
    """Doc."""
    paper = "p"
    protocols = ("few_shot",)
    class Config:
        {field}
'''


def write(tmp_path, text):
    path = tmp_path / "m.py"
    path.write_text(text)
    return path


def test_the_first_line_of_a_file_is_its_summary(tmp_path):
    assert read_source(write(tmp_path, FILE.format(field="a: int = 1")), ("paper",)).summary == "A summary."


@pytest.mark.parametrize("field", ["a: int = 1 + x", "a: Path = 1", "a: dict[str, int] = {}"])
def test_a_setting_that_is_no_literal_is_refused(tmp_path, field):
    with pytest.raises(SourceError, match=re.escape(f"got {field!r}")):
        read_source(write(tmp_path, FILE.format(field=field)), ("paper",))


def setting(tmp_path, field):
    (read,) = read_source(write(tmp_path, FILE.format(field=field)), ("paper",)).settings.values()
    return read


def test_a_range_stands_beside_the_type(tmp_path):
    assert setting(tmp_path, 'a: Annotated[float, "> 0"] = 1.0') == Setting(float, 1.0, range="> 0")
    assert setting(tmp_path, 'a: Annotated[int | None, ">= 0, < 9"] = None') == Setting(
        int | None, None, range=">= 0, < 9"
    )
    assert setting(tmp_path, 'a: Annotated[tuple[float, ...], "<= 1"] = (1.0,)') == Setting(
        list[float], [1.0], range="<= 1"
    )
    assert setting(tmp_path, "a: tuple[int, int] = (1, 2)") == Setting(list[int], [1, 2], length=2)
    assert setting(tmp_path, 'a: tuple[Literal["x", "y"], ...] = ("x",)') == Setting(list[str], ["x"], ("x", "y"))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ('a: Annotated[float, "positive"] = 1.0', "Config.a: a range is one bound such as .* got 'positive'"),
        ('a: Annotated[float, ">0"] = 1.0', "Config.a: a range is .* got '>0'"),
        ('a: Annotated[float, "< 1, >= 0"] = 0.5', "Config.a: a range of two bounds is a lower and a higher one"),
        ('a: Annotated[str, "> 0"] = "x"', "Config.a has a range and is no number"),
        ('a: Annotated[bool, "> 0"] = True', "Config.a has a range and is no number"),
        ("a: Annotated[float, 0] = 1.0", "Config.a must be a literal of type"),
        ('a: Annotated[float, "> 0", "< 1"] = 0.5', "Config.a must be a literal of type"),
        ("a: Annotated[float] = 0.5", "Config.a must be a literal of type"),
        ("a: tuple[int, str] = (1, 'x')", "Config.a must be a literal of type"),
    ],
)
def test_a_range_that_is_none_is_refused_by_file_and_field(tmp_path, field, message):
    with pytest.raises(SourceError, match=rf"m\.py: {message}"):
        read_source(write(tmp_path, FILE.format(field=field)), ("paper",))


def test_a_file_without_its_class_is_refused(tmp_path):
    with pytest.raises(SourceError, match="exactly one class with the literals paper, protocols"):
        read_source(write(tmp_path, "x = 1"), ("paper", "protocols"))


def test_third_party_methods_are_found():
    assert {"toy_mean", "toy_breaks"} <= set(registry.names("method"))
    facts = registry.method("toy_mean")
    assert facts.protocols == ("few_shot", "multi_class", "zero_shot")
    assert facts.settings["sides"].default == [1, 2]
    assert facts.settings["kind"].choices == ("abs", "square")


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"unknown method 'toy_maen'. Did you mean 'toy_mean'\? Allowed: .*toy_learns"
    ):
        registry.method("toy_maen")
    with pytest.raises(ConfigError, match=r"unknown dataset 'mvtec'. Did you mean 'mvtec_ad'"):
        registry.dataset("mvtec")
