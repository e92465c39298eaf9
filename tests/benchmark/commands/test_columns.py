"""Tables of words in a pipe and in a terminal of 80 columns."""

import io

import pytest
from rich.console import Console

from benchmark.commands.columns import print_rows

HEAD = ("name", "what", "link", "summary")
LINK = "https://example.org/" + "a" * 90
ROWS = [("one", "x" * 30, LINK, "a summary of many words " * 6), ("a_longer_name", "y", "", "short")]


def in_terminal(head, rows, width):
    file = io.StringIO()
    print_rows(head, rows, Console(file=file, force_terminal=True, width=width, color_system=None))
    return file.getvalue()


def test_a_pipe_gets_one_line_for_each_row_with_tabs_between_its_words(capsys):
    print_rows(HEAD, ROWS, Console(file=io.StringIO()))
    assert [line.split("\t") for line in capsys.readouterr().out.splitlines()] == [list(HEAD), *map(list, ROWS)]


def test_what_would_part_a_line_or_a_word_is_spelt_out(capsys):
    print_rows(("a", "b"), [("one\ttwo\nthree", "\x1b[31m")], Console(file=io.StringIO()))
    assert capsys.readouterr().out == "a\tb\none\\ttwo\\nthree\t\\x1b[31m\n"


def test_a_terminal_shows_the_columns_that_fit_and_the_others_below_without_breaking_a_word():
    text = in_terminal(HEAD, ROWS, 80)
    lines = text.splitlines()
    assert lines[0].split() == ["name", "what"]
    assert lines[1].split() == ["one", "x" * 30]
    assert all(len(line) <= 80 or LINK in line for line in lines)
    assert LINK in text
    assert " ".join(text.split()).count("a summary of many words") == 6
    assert "\n  summary: short\n" in text
    assert "link: \n" not in text


@pytest.mark.parametrize(("width", "lines"), [(200, 3), (60, 5)])
def test_the_last_column_is_wrapped_beside_the_others_where_it_keeps_room(width, lines):
    rows = [("one", "word " * 30), ("two", "short")]
    text = in_terminal(("name", "what"), rows, width)
    assert len(text.splitlines()) == lines
    assert all(len(line) <= width for line in text.splitlines())
    assert all(line.startswith(("one ", "two ", "name", " " * 6)) for line in text.splitlines())


def test_facts_share_a_line_below_where_they_fit():
    text = in_terminal(("name", "a", "b", "c"), [("n" * 39, "1" * 10, "2" * 10, "3" * 30)], 40)
    assert text.splitlines()[1:] == ["n" * 39, f"  a: {'1' * 10}; b: {'2' * 10}", f"  c: {'3' * 30}"]
