"""What a method knows of a test besides its images, the shots and what its CLIP has learnt. Loads no torch."""

from typing import NamedTuple

from benchmark.request import registry
from benchmark.request.cell import Cell
from benchmark.request.needs import Need, read_need
from benchmark.request.protocols import PROTOCOLS
from methods.components.states import without_list


class Known(NamedTuple):
    """Words of the column `knows` of the leaderboard, in its order."""

    category: str = "category"
    defect_words: str = "defect words"
    auxiliary: str = "auxiliary anomalies"


KNOWN = Known()


def knowledge(cell: Cell) -> list[str]:
    """What the method of a cell knows, with its settings and the lists of words of today.

    Returns:
        Words of `KNOWN`, in their order. "category": a label selects what judges an image. Where all that a model sees
        is one category's, the protocol says it to every method: few_shot lists none. In zero_shot the model is given
        that category's name alone, so that a choice among texts has nothing to choose from: it is listed with any
        `text`. "defect words": some category that it sees has words for its own defects. "auxiliary anomalies": it is
        fitted on anomalous images of another data set.
    """
    method = registry.method(cell.method)
    needs = [read_need(method, text) for text in method.needs]
    alone, without_shots = not (cell.joint or cell.fitted), not PROTOCOLS[cell.protocol].uses_shots
    holding = [need for need in needs if need.holds(cell.settings.method)]
    told = needs if without_shots else [] if alone else holding
    found = {KNOWN.category: any(need.name == "category" for need in told)}
    found[KNOWN.defect_words] = any(_has_words(need, cell) for need in holding)
    found[KNOWN.auxiliary] = method.fits_on == "auxiliary"
    return [word for word in KNOWN if found[word]]


def _has_words(need: Need, cell: Cell) -> bool:
    if need.name == "optional_defect_words":
        return len(without_list(cell.seen, "auto", cell.settings.method.get("states_file"))) < len(cell.seen)
    return need.name == "defect_words"
