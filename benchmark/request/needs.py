"""What a method needs of the backbone and of a category, compared with what they offer. Loads no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.request.cell import CellSettings
from benchmark.request.registry import ConfigError, MethodFacts, unknown
from methods.components.states import STATES_FILE, anomalous_states, read_lists, remarks_on_lists

OF_BACKBONE = ("text_tower", "patch_tokens")
NEEDS = (*OF_BACKBONE, "category", "shots", "defect_words", "optional_defect_words")


class Need(NamedTuple):
    """One entry of a method's `needs`."""

    text: str  # as it is written: "NAME", or "NAME if KEY=VALUE"
    name: str  # one of `NEEDS`
    key: str  # of the setting that makes it a need; "" where it always is one
    value: str

    def holds(self, settings: Mapping[str, Any]) -> bool:
        """Whether it is a need with these settings of the method."""
        return not self.key or str(settings[self.key]).lower() == self.value.lower()


def read_need(method: MethodFacts, text: str) -> Need:
    """An entry of `needs`; ConfigError unless it has one of the two forms, a known name and a setting of the method."""
    name, _, condition = text.partition(" if ")
    key, equals, value = condition.partition("=")
    if name not in NEEDS:
        raise unknown(f"need of {method.name}", name, NEEDS)
    if condition and not (equals and key in method.settings):
        raise ConfigError(
            f"a need of {method.name} must be NAME, or NAME if KEY=VALUE with one of its settings as KEY "
            f"({', '.join(method.settings) or 'it has none'}); got {text!r}."
        )
    return Need(text, name, key, value)


def check_needs(method: MethodFacts, settings: CellSettings, categories: Sequence[str], *, shots: bool = True) -> None:
    """Refuse a method whose needs are not met.

    Args:
        method: its facts.
        settings: of its cells, resolved.
        categories: those that it sees images of.
        shots: whether the protocol shows some.

    Raises:
        ConfigError: naming the method, the need, what is offered and what to change.
    """
    for need in (read_need(method, text) for text in method.needs):
        if not need.holds(settings.method):
            continue
        if need.name in OF_BACKBONE and need.name not in settings.backbone.offers:
            raise ConfigError(
                f"{method.name} needs {need.text}, but the backbone {settings.backbone.name} offers "
                f"{' and '.join(settings.backbone.offers) or 'nothing'} (backbone.offers): "
                f"{_or_another_value('choose another --backbone', method, need)}."
            )
        if need.name == "shots" and not shots:
            raise ConfigError(
                f"{method.name} needs {need.text}, but zero_shot shows none: "
                f"{_or_another_value('choose another of its --protocols', method, need)}."
            )
        if need.name in ("defect_words", "optional_defect_words"):
            _check_words(method, need, settings, categories)


def note_words(method: MethodFacts, settings: CellSettings, categories: Sequence[str]) -> list[str]:
    """What a plan says of the categories without words of their own; nothing where none are looked for."""
    needs = [need for text in method.needs if (need := read_need(method, text)).holds(settings.method)]
    if not any(need.name == "optional_defect_words" for need in needs):
        return []
    file = settings.method.get("states_file")
    return [f"{method.name}: {remark}" for remark in remarks_on_lists(categories, "auto", file)]


def _check_words(method: MethodFacts, need: Need, settings: CellSettings, categories: Sequence[str]) -> None:
    file = settings.method.get("states_file")
    try:
        known = read_lists(file)
        for category in (category for category in categories if category in known):
            anomalous_states(category, "specific", file)
    except ValueError as error:
        raise ConfigError(f"{method.name} needs {need.text}, but {error}") from error
    if need.name == "defect_words" and (absent := [category for category in categories if category not in known]):
        own = "states_file" in method.settings
        mend = f"give method.{method.name}.states_file=FILE" if own else f"leave {absent[0]} out with --categories"
        raise ConfigError(
            f"{method.name} needs {need.text}, but the category {absent[0]} has no list in "
            f"{Path(file or STATES_FILE).name}: {_or_another_value(mend, method, need)}."
        )


def _or_another_value(mend: str, method: MethodFacts, need: Need) -> str:
    """What mends an unmet need, and the values of its setting that end it."""
    others = [str(choice) for choice in method.settings[need.key].choices] if need.key else []
    others = [choice for choice in others if choice != need.value]
    return f"{mend}, or set method.{method.name}.{need.key}={' or '.join(others)}" if others else mend
