"""Facts are read from the source, and say what the class says."""

import re

import pytest

from benchmark.request import code, registry
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


DOCUMENTED = """'''Settings.

        Attributes:
            rate, last: of SGD, 0.5 of
                the whole. More is told.
            size: side; see `other`. 3 in the paper.

        Not: an entry.
        '''
        rate: float = 1.0
        last: float = 1.0
        size: int = 1
        silent: int = 1
"""


def test_the_first_sentence_of_its_entry_is_what_a_setting_means(tmp_path):
    settings = read_source(write(tmp_path, FILE.format(field=DOCUMENTED)), ("paper",)).settings
    assert {key: setting.meaning for key, setting in settings.items()} == {
        "rate": "of SGD, 0.5 of the whole.",
        "last": "of SGD, 0.5 of the whole.",
        "size": "side; see `other`.",
        "silent": "",
    }


BASE = """
from beside import Kind as Renamed
Bank = Literal["one", "all"]
Banks = tuple[Bank, ...]
class Shared:
    class Config:
        '''.

        Attributes:
            size: side in pixels.
            bank: what is asked.
        '''
        size: Annotated[int, ">= 1"] = 4
        bank: Bank = "one"
class Lone:
    depth: int = 2
raise RuntimeError
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Read a class whose file imports from others, which are not run."""
    monkeypatch.syspath_prepend(str(tmp_path))
    code._homes.cache_clear()
    (tmp_path / "base_of_two.py").write_text(BASE)
    (tmp_path / "beside.py").write_text('Kind = Literal["soft", "hard"]')

    def of(*fields, bases="", before="", outer=""):
        head = f"from base_of_two import Bank, Banks, Lone, Renamed, Shared\n{before}\n"
        config = "".join(f"        {field}\n" for field in fields)
        config = f"    class Config{bases}:\n{config}" if fields else ""
        path = write(tmp_path, f"{head}class M{outer}:\n    paper = 'p'\n{config}")
        return read_source(path, ("paper",)).settings

    return of


def test_an_alias_is_what_it_stands_for_also_from_another_file(read):
    fields = ('a: Bank = "all"', 'b: Banks = ("one",)', "c: Bank | None = None", 'd: Renamed = "soft"', "e: Own = 1.0")
    assert read(*fields, before='Own = Annotated[float, "> 0"]') == {
        "a": Setting(str, "all", ("one", "all")),
        "b": Setting(list[str], ["one"], ("one", "all")),
        "c": Setting(str | None, None, ("one", "all")),
        "d": Setting(str, "soft", ("soft", "hard")),
        "e": Setting(float, 1.0, range="> 0"),
    }


def test_a_config_inherits_fields_meanings_and_their_order(read):
    settings = read('bank: Bank = "all"', "own: int = 3", bases="(Lone, Shared.Config)")
    assert list(settings) == ["size", "bank", "depth", "own"]  # as a dataclass: the last base first
    assert settings["size"] == Setting(int, 4, range=">= 1", meaning="side in pixels.")
    assert settings["bank"] == Setting(str, "all", ("one", "all"), meaning="what is asked.")
    assert list(read("pass", bases="(Mine.Config)", before="class Mine(Shared): ...")) == ["size", "bank"]
    assert list(read(outer="(Shared)")) == ["size", "bank"]
    assert read(outer="(Elsewhere)") == {}


@pytest.mark.parametrize(
    ("field", "more", "message"),
    [
        ("a: Absent = 1", {}, "Config.a must be a literal of type .* or of an alias of one; got 'a: Absent = 1'"),
        ("a: Shared = 1", {}, "Config.a must be a literal of type .*got 'a: Shared = 1'"),
        ("a: Bank = Bank", {}, "Config.a must be a literal of type"),
        ("pass", {"bases": "(Absent.Config)"}, "Config inherits Absent.Config, which must be a class of this file"),
        ("pass", {"bases": "(Shared.Other)"}, "Config inherits Shared.Other, which must be a class"),
        ("pass", {"bases": "(Bank)"}, "Config inherits Bank, which must be a class"),
        ("size = 3", {"bases": "(Shared.Config)"}, "Config.size = 3 must repeat the annotation"),
        ("a: Loop = 1", {"before": "Loop = Loop | None"}, "a base or an alias of Config must not lead back to itself"),
        ("pass", {"bases": "(M.Config)"}, "a base or an alias of Config must not lead back to itself"),
    ],
)
def test_an_alias_or_base_that_is_none_is_refused_by_file(read, field, more, message):
    with pytest.raises(SourceError, match=rf"m\.py: {message}"):
        read(field, **more)


def test_a_file_that_is_no_python_is_refused_by_its_line(read, tmp_path):
    with pytest.raises(SourceError, match=r"m\.py, line 6: "):
        read("a: int = (")
    (tmp_path / "bytes.py").write_bytes(b"x = '\xff'")
    with pytest.raises(SourceError, match=r"bytes\.py cannot be read: "):
        read_source(tmp_path / "bytes.py", ("paper",))
    (tmp_path / "beside.py").write_text("Kind = )")
    with pytest.raises(SourceError, match=r"beside\.py, line 1: "):
        read('a: Renamed = "soft"')


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
    with pytest.raises(ConfigError, match=r"unknown dataset 'mvtec_a'. Did you mean 'mvtec_ad'"):
        registry.dataset("mvtec_a")
