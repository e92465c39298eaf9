"""Words in sentences: replaced, and what stands around them."""

import pytest

from methods.components.captions.sentences import in_state, mentions, places, replace_words


def test_every_occurrence_takes_the_state_and_the_longest_name_wins():
    text = "The hub and the Hub cap; hubs are no hub."
    assert in_state(text, ["hub", "hub cap"], "{} with dent") == (
        "The hub with dent and the Hub cap with dent; hubs are no hub with dent."
    )


def test_what_was_put_in_is_not_replaced_again():
    others = {"tube": "{} snapped in the middle", "in the middle": "at the edge"}
    assert replace_words("A tube lies in the middle.", others) == "A tube snapped in the middle lies at the edge."


@pytest.mark.parametrize(
    ("text", "state", "written"),
    [
        ("A nut lies.", "abnormal {}", "An abnormal nut lies."),
        ("An axle and an Axle turn.", "broken {}", "A broken axle and a broken Axle turn."),
        ("Data of a nut.", "{} with rust", "Data of a nut with rust."),
        ("The nut lies.", "abnormal {}", "The abnormal nut lies."),
    ],
)
def test_the_article_fits_the_word_behind_it(text, state, written):
    assert in_state(text, ["nut", "axle"], state) == written


def test_words_are_whole_ones_in_any_case():
    assert mentions("The Hub.", "hub")
    assert not mentions("The hubs, a subhub.", "hub")


def test_what_stands_around_words():
    text = "Hub, then the hub-cap, and a hub (old) of the hub."
    assert list(places(text, "hub")) == [
        ("", ",", "then"),
        ("the", "-cap,", "and"),
        ("a", "", ""),
        ("the", ".", ""),
    ]
