"""Whose texts judge an image, against loops over single features."""

import pytest
import torch
import torch.nn.functional as F

from methods.components.category_choice import choose_texts

CATEGORIES = ("nut", "pcb", "tile")


def unit(*shape, seed):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


class Unread(list):
    """Labels that must not be looked at."""

    def __iter__(self):
        raise AssertionError("the labels were read")

    __getitem__ = __len__ = __iter__


def never(images, categories):
    raise AssertionError("the shots were looked at")


def test_known_is_the_label():
    labels = ["tile", "nut", "tile"]
    rows = choose_texts("known", labels, unit(3, 8, seed=0), unit(3, 2, 8, seed=1), CATEGORIES, never)
    assert rows.tolist() == [2, 0, 2]


def test_argmax_is_the_loop_over_all_texts():
    images, texts = unit(30, 8, seed=0), unit(3, 2, 8, seed=1)
    found = choose_texts("argmax", Unread(), images, texts, CATEGORIES, never).tolist()
    pairs = [(row, side) for row in range(3) for side in range(2)]
    best = [max(pairs, key=lambda pair: float(texts[pair] @ image)) for image in images]
    assert set(best) == set(pairs)  # each of the six wins somewhere
    assert found == [row for row, _ in best]


def test_retrieved_is_the_category_that_the_shots_tell():
    images, told = unit(3, 8, seed=0), torch.tensor([1, 2, 0])
    asked = []
    rows = choose_texts("retrieved", Unread(), images, None, CATEGORIES, lambda *given: asked.append(given) or told)
    assert rows.tolist() == [1, 2, 0]
    assert asked == [(images, CATEGORIES)]


@pytest.mark.parametrize("choice", ["known", "retrieved", "argmax"])
def test_of_one_category_all_choices_agree(choice):
    images, texts = unit(4, 8, seed=0), unit(1, 2, 8, seed=1)
    rows = choose_texts(choice, ["nut"] * 4, images, texts, ("nut",), lambda *_: torch.zeros(4, dtype=torch.long))
    assert (rows.dtype, rows.tolist()) == (torch.long, [0] * 4)


def test_what_is_unknown_is_named():
    images, texts = unit(1, 8, seed=0), unit(3, 2, 8, seed=1)
    with pytest.raises(ValueError, match="text must be one of known, retrieved, argmax; got 'guessed'"):
        choose_texts("guessed", ["nut"], images, texts, CATEGORIES, never)
    with pytest.raises(ValueError, match="among nut, pcb, tile; got cable"):
        choose_texts("known", ["cable"], images, texts, CATEGORIES, never)
