"""The protocols: what a method may see before it is tested, and how a data set is cut into cells."""

from typing import NamedTuple

#: Raised by one whenever a change of this suite changes numbers; CHANGELOG.md says what changed.
PROTOCOL_VERSION = 7


class Protocol(NamedTuple):
    """Rules of a comparison."""

    summary: str
    uses_shots: bool = False  # k normal images of the target are seen
    joint: bool = False  # one cell, so one model, for all categories of a data set
    holds_out: bool = False  # the tested category is not fitted on; all others of the data set are


PROTOCOLS = {
    "zero_shot": Protocol("no image of the target; fitted, if at all, on an auxiliary data set's test split"),
    "few_shot": Protocol("k normal images, one model per category", uses_shots=True),
    "multi_class": Protocol("k normal images per category, one model for all categories", uses_shots=True, joint=True),
    "leave_one_class_out": Protocol(
        "fitted on k normal images of every other category; the tested one's own k are remembered, never fitted on",
        uses_shots=True,
        holds_out=True,
    ),
}
