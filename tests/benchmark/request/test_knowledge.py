"""What a method knows is told from its settings and from the lists of words, and not from what its paper does."""

import pytest

from benchmark.request.knowledge import knowledge
from benchmark.request.plan import make_plan
from benchmark.request.settings import Layer, compose, parse_words


def known(method, protocol="multi_class", words=(), categories=("mono", "screw"), tested=()):
    """What is known in the first cell."""
    axes = {"methods": [method], "datasets": ["folder"], "protocols": [protocol], "categories": list(tested)}
    settings = compose([Layer("test", {"sweep": axes}), parse_words([f"method.{method}.{word}" for word in words])])
    return knowledge(make_plan(settings, {"folder": categories}).cells[0])


@pytest.mark.parametrize(
    ("method", "words", "expected"),
    [
        ("nearest_patch", (), ["category"]),
        ("nearest_patch", ("bank=pooled",), []),
        ("winclip", ("text=argmax",), ["category"]),
        ("winclip", ("bank=pooled",), ["category"]),
        ("winclip", ("text=argmax", "bank=pooled"), []),
        ("winclip", ("text=retrieved", "bank=retrieved"), []),
        ("promptad", (), ["category", "defect words"]),
        ("promptad", ("text=argmax", "bank=pooled"), ["defect words"]),
        ("promptad", ("text=argmax", "bank=pooled", "states=generic"), []),
        ("finegrainedad", ("states=generic",), ["category"]),
        ("anople", (), ["category"]),
    ],
)
def test_of_many_categories(method, words, expected):
    assert known(method, words=words) == expected


def test_of_one_category_the_label_selects_nothing():
    assert known("winclip", "few_shot") == known("nearest_patch", "few_shot") == []
    assert known("promptad", "few_shot", categories=("screw",)) == ["defect words"]
    assert known("promptad", "few_shot", categories=("mono",)) == []
    assert known("promptad", "few_shot", ("states=generic",), categories=("screw",)) == []


def test_a_held_out_category_is_selected_by_its_label():
    assert known("promptad", "leave_one_class_out", ("states=generic",)) == ["category"]
    assert known("promptad", "leave_one_class_out", tested=("mono",)) == ["category", "defect words"]


def test_own_words_are_known(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text('{"mono": ["with rust"]}')
    words = (f"states_file={file}",)
    assert known("promptad", "few_shot", words, categories=("mono",)) == ["defect words"]
    assert known("promptad", "few_shot", words, categories=("screw",)) == []
    words = (*words, "states=specific")
    assert known("promptad", "few_shot", words, categories=("mono",)) == ["defect words"]


def test_without_shots_the_name_of_the_tested_category_is_told_whatever_the_texts():
    for text in ("known", "argmax"):
        assert known("winclip", "zero_shot", (f"text={text}", "bank=pooled")) == ["category"]
    assert known("faprompt", "zero_shot") == known("anomalyclip", "zero_shot") == ["auxiliary anomalies"]
    assert known("trivial_colour_outlier", "zero_shot") == []
