"""A number out of the range that its setting declares is refused wherever it comes from, before anything runs."""

import math

import pytest

from benchmark.request import registry
from benchmark.request.ranges import in_words, lies_in, read_range
from benchmark.request.registry import ConfigError
from benchmark.request.settings import GROUPS, Layer, compose, parse_words

TOY = Layer("test", {"sweep": {"methods": ["toy_mean"], "datasets": ["mvtec_ad"]}})
SETTINGS = [
    (kind, name, key, setting)
    for kind, package in (("method", registry.method), ("dataset", registry.dataset))
    for name in registry.names(kind)
    for key, setting in package(name).settings.items()
    if setting.range
]
FLOATS = [(kind, name, key, setting) for kind, name, key, setting in SETTINGS if "float" in str(setting.type)]


@pytest.mark.parametrize(
    ("text", "inside", "outside", "words"),
    [
        ("> 0", (1e-9, 3, 1e9), (0, -1, -0.0, math.nan), "above 0"),
        (">= 1", (1, 1.5), (0.999, -2), "at least 1"),
        ("< 0.5", (0.49, -7), (0.5, 1), "below 0.5"),
        ("<= -2", (-2, -3), (-1.99, 0), "at most -2"),
        (">= 0, < 1", (0, 0.999), (-1e-9, 1), "at least 0 and below 1"),
        ("> 0, <= 1e-3", (1e-3, 1e-9), (0, 0.0011), "above 0 and at most 1e-3"),
        (">= 0, <= 4294967295", (0, 2**32 - 1), (-1, 2**32), "at least 0 and at most 4294967295"),
    ],
)
def test_a_range_holds_what_it_says(text, inside, outside, words):
    assert [lies_in(number, text) for number in inside] == [True] * len(inside)
    assert [lies_in(number, text) for number in outside] == [False] * len(outside)
    assert in_words(text) == words


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "> ",
        ">0",
        "== 1",
        "> x",
        "> nan",
        "> inf",
        "> 0,< 1",
        "> 0 < 1",
        "> 1, < 0",
        "< 1, > 0",
        "> 0, > 1",
        "> 0, < 1, < 2",
        "> 1, < 1",
    ],
)
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ValueError, match=r"a range .* got '"):
        read_range(text)


def outside(setting):
    """Numbers of the setting's type beyond each of its bounds, by hand rather than by `lies_in`."""
    whole = "float" not in str(setting.type)
    for sign, limit in read_range(setting.range):
        number = float(limit)
        beyond = number if len(sign) == 1 else number + (1 if sign == "<=" else -1)
        yield int(beyond) if whole else beyond


def as_said(setting, value):
    length = setting.length or 1
    return [value] * length if isinstance(setting.default, list) else value


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name", "key", "setting"), SETTINGS, ids=lambda value: str(value)[:30])
def test_every_declared_range_is_kept_before_anything_runs(bench, tmp_path, monkeypatch, kind, name, key, setting):
    monkeypatch.chdir(tmp_path)
    names = {"method": "toy_mean", "dataset": "mvtec_ad"} | {kind: name}
    words = ("--methods", names["method"], "--datasets", names["dataset"], "--shots", "1", "--results", tmp_path / "r")
    for value in outside(setting):
        done = bench("run", *words, f"{kind}.{name}.{key}={as_said(setting, value)}")
        assert done.code == 2
        assert f"error: {kind}.{name}.{key} (command line) must " in done.err
        assert in_words(setting.range) in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_no_float_is_nan_or_infinite_also_in_a_list():
    assert len(FLOATS) > 30
    for number, (kind, name, key, setting) in enumerate(FLOATS):
        value = (math.nan, math.inf)[number % 2]
        asked = {"methods": ["toy_mean"], "datasets": ["mvtec_ad"]} | {f"{kind}s": [name]}
        said = {kind: {name: {key: as_said(setting, value)}}}
        with pytest.raises(ConfigError, match=rf"{kind}.{name}.{key} \(mine.yaml\) must be finite, got .*{value}"):
            compose([Layer("test", {"sweep": asked}), Layer("mine.yaml", said)])


@pytest.mark.parametrize("word", ["nan", ".nan", "NaN", "inf", "-inf", ".inf", "1e999"])
@pytest.mark.parametrize("key", ["method.toy_mean.scale", "features.max_gib"])  # with and without a range
def test_no_word_is_nan_or_infinite(key, word):
    with pytest.raises(ConfigError, match=rf"{key} \(command line\) must be finite, got '?(nan|inf|-inf|{word})'?\."):
        compose([TOY, parse_words([f"{key}={word}"])])


def test_a_value_out_of_range_is_refused_also_where_a_later_layer_mends_it():
    wrong = Layer("mine.yaml", {"protocol": {"evaluation_size": 7}})
    with pytest.raises(ConfigError, match=r"evaluation_size \(mine.yaml\) must be at least 8 and at most 4096, got 7"):
        compose([TOY, wrong, Layer("later", {"protocol": {"evaluation_size": 8}})])


def test_a_variant_keeps_the_range():
    asked = Layer("test", {"sweep": {"methods": ["winclip"], "datasets": ["mvtec_ad"]}})
    variants = Layer("mine.yaml", {"variants": {"winclip": {"a": {}, "b": {"temperature": 0}}}})
    with pytest.raises(ConfigError, match=r"temperature \(mine.yaml, variant 'b'\) must be above 0, got 0.0"):
        compose([asked, variants])


@pytest.mark.parametrize(
    ("method", "word", "message"),
    [
        ("anople", "sweep.seeds=[0,4294967296]", r"sweep.seeds .* at most 4294967295, got [0, 4294967296]"),
        ("nearest_patch", "method.layers=[2.0]", "method.nearest_patch.layers"),
        ("winclip", "method.temperature=0", "method.winclip.temperature (command line) must be above 0, got 0.0"),
        ("anople", "method.steps=0", "method.anople.steps (command line) must be at least 1, got 0"),
        ("winclip", "protocol.evaluation_size=100000", "must be at least 8 and at most 4096, got 100000"),
        ("anople", "method.latent_ratio=[0.5]", "latent_ratio (command line) must hold 2 values, got [0.5]"),
        ("anople", "method.mix=[normal,pixels]", "'pixels'. Did you mean 'pixel'?"),
        ("winclip", "sweep.limit=0", "sweep.limit (command line) must be at least 1, got 0"),
        ("winclip", "backbone.image_size=4097", "must be at least 1 and at most 4096, got 4097"),
        ("winclip", "trainer.num_workers=513", "must be at least 0 and at most 512, got 513"),
    ],
)
def test_examples(bench, tmp_path, monkeypatch, method, word, message):
    monkeypatch.chdir(tmp_path)
    done = bench("run", "--methods", method, "--datasets", "procedural", "--shots", "1", word)
    assert (done.code, list(tmp_path.iterdir())) == (2, [])
    assert all(part in done.err for part in message.split(" .* "))


def test_every_number_of_the_groups_and_of_the_data_sets_has_a_range():
    groups = [(f"{group}.{key}", setting) for group, keys in GROUPS.items() for key, setting in keys.items()]
    sets = [(f"{n}.{key}", s) for n in registry.names("dataset") for key, s in registry.dataset(n).settings.items()]
    for key, setting in (*groups, *sets):
        assert bool(setting.range) == any(number in str(setting.type) for number in ("int", "float")), key
        assert not setting.range or read_range(setting.range), key


def test_show_tells_the_range_after_the_origin(bench):
    out = bench("show", "method", "winclip").out.splitlines()
    comments = {line.split(":")[0].strip(): line.rpartition("# ")[2] for line in out if line.startswith("    ")}
    assert comments["temperature"] == "methods/winclip.py, > 0"
    assert comments["bank"] == "methods/winclip.py"
    shown = bench("show", "preset", "smoke").out.splitlines()
    (at,) = [number for number, line in enumerate(shown) if line.strip() == "per_kind: 50"]
    assert shown[at - 1].strip() == "# configs/preset/smoke.yaml, >= 1, <= 500, default 500"
