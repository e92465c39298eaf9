"""The domain-aware prompts of AnoVL: seven states a side, in 22 phrases, each in three ways to name the picture.

Structure and counts are the publication's; apart from the states, which are those that every prompt ensemble of the
field shares, the words are ours, so published figures may differ.
"""

from collections.abc import Iterator, Sequence

NORMAL_STATES = (
    "normal {}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
ANOMALOUS_STATES = (
    "damaged {}",
    "abnormal {}",
    "imperfect {}",
    "blemished {}",
    "{} with flaw",
    "{} with defect",
    "{} with damage",
)
#: How a picture is named: of an object, of a texture, and of anything where the domain is left out.
OF_OBJECTS = ("industrial picture", "factory photo", "production line image")
OF_TEXTURES = ("industrial picture", "texture photo", "close surface image")
ANY = ("photo",)
PHRASES = (
    "a {picture} of {article} {state}",
    "a cropped {picture} of {article} {state}",
    "a close-up {picture} of {article} {state}",
    "a bright {picture} of {article} {state}",
    "a dark {picture} of {article} {state}",
    "a blurry {picture} of {article} {state}",
    "a low resolution {picture} of {article} {state}",
    "a {picture} of {article} small {state}",
    "a {picture} of {article} large {state}",
    "a {picture} of {article} {state} for quality inspection",
    "a {picture} of {article} {state} for finding anomalies",
)
ARTICLES = ("a", "the")


def compose(states: Sequence[str], name: str, pictures: Sequence[str]) -> list[str]:
    """Every state of the object in every phrase and with every name of the picture."""
    return list(_compose(states, name, pictures))


def _compose(states: Sequence[str], name: str, pictures: Sequence[str]) -> Iterator[str]:
    for state in states:
        for phrase in PHRASES:
            for article in ARTICLES:
                for picture in pictures:
                    yield phrase.format(picture=picture, article=article, state=state.format(name))
