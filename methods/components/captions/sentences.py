"""Words in sentences: where they stand, what stands around them, and other words in their place."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple


class Place(NamedTuple):
    """What stands around words in a sentence, in lower case."""

    before: str  # the word before, "" at the start
    glued: str  # what follows without a space: "", ",", "-like"
    behind: str  # the word behind, "" at the end


def mentions(text: str, words: str) -> bool:
    """Whether `words` stand in `text`, as whole words; case does not matter."""
    return re.search(whole(words), text, re.IGNORECASE) is not None


def places(text: str, words: str) -> Iterator[Place]:
    """Each occurrence of `words` in `text`, as whole words; case does not matter."""
    for found in re.finditer(whole(words), text, re.IGNORECASE):
        before = text[: found.start()].lower().split()
        glued, _, rest = text[found.end() :].lower().partition(" ")
        yield Place(before[-1] if before else "", glued, re.split(r"[^\w-]", rest)[0])


def in_state(text: str, names: Sequence[str], state: str) -> str:
    """`text` with every one of `names` in an anomalous state; see `replace_words`.

    Args:
        text: a sentence.
        names: words.
        state: with "{}" in the place of the name, "{} with crack".
    """
    return replace_words(text, dict.fromkeys(names, state))


def replace_words(text: str, others: Mapping[str, str]) -> str:
    """`text` with other words in the place of some; "a" becomes "an" where they ask for it.

    Args:
        text: a sentence.
        others: words to those in their place, "{}" being the words themselves. Each occurrence as whole words is
            replaced, whatever its case, the longest words first, and what was put in is not looked at again.
    """
    new = {words.lower(): other for words, other in others.items()}
    pattern = "|".join(whole(words) for words in sorted(others, key=len, reverse=True))

    def replace(found: re.Match[str]) -> str:
        article, words = found["article"] or "", found["words"]
        other = new[words.lower()].replace("{}", words)
        if article and not other.startswith(words):
            article = article[0] + ("n " if other[0].lower() in "aeiou" else " ")
        return article + other

    return re.sub(rf"(?P<article>(?<!\w)an? )?(?P<words>{pattern})", replace, text, flags=re.IGNORECASE)


def whole(words: str) -> str:
    """The pattern of `words` where no letter or digit stands right before or behind them."""
    return rf"(?<!\w){re.escape(words)}(?!\w)"
