"""What a method needs of the backbone and of a category, compared with what they offer. Loads no torch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmark.request.cell import CellSettings
from benchmark.request.registry import ConfigError, MethodFacts, unknown
from methods.components.states import anomalous_states

OF_BACKBONE = ("text_tower", "patch_tokens")
NEEDS = (*OF_BACKBONE, "category", "defect_words")


class Need(NamedTuple):
    """One entry of a method's `needs`: "NAME", or "NAME if KEY=VALUE"."""

    name: str  # one of `NEEDS`
    key: str = ""  # of the setting that makes it one; "" of a need that always holds
    value: str = ""

    def holds(self, settings: Any) -> bool:
        """Whether a method with these settings has this need."""
        return not self.key or str(settings[self.key]) == self.value


def read_need(method: MethodFacts, text: str) -> Need:
    """An entry of `needs`; ConfigError unless it has one of the two forms, a known name and a setting of the method."""
    name, _, condition = text.partition(" if ")
    key, equals, value = condition.partition("=")
    if name not in NEEDS:
        raise unknown(f"need of {method.name}", name, NEEDS)
    if condition and not (equals and key in method.settings):
        raise ConfigError(
            f"need {text!r} of {method.name} must be NAME or NAME if KEY=VALUE with a KEY of "
            f"{', '.join(method.settings) or 'no setting'}; got {condition!r}."
        )
    return Need(name, key, value)


def check_needs(method: MethodFacts, settings: CellSettings, categories: Sequence[str]) -> None:
    """Refuse a method whose needs are not met.

    Args:
        method: its facts.
        settings: of its cells, resolved.
        categories: those that it sees images of.

    Raises:
        ConfigError: naming the method, the need, what is offered and what to change.
    """
    for need in (read_need(method, text) for text in method.needs):
        if not need.holds(settings.method):
            continue
        if need.name in OF_BACKBONE:
            _check_backbone(method, need, settings)
        elif need.name == "defect_words" and not settings.method.get("states_file"):
            _check_words(method, need, categories)


def _check_backbone(method: MethodFacts, need: Need, settings: CellSettings) -> None:
    offers = settings.backbone.offers
    if need.name not in offers:
        raise ConfigError(
            f"{method.name} needs {need.name}, but backbone.offers of {settings.backbone.name} is "
            f"[{', '.join(offers)}]: choose another --backbone{_or_other_setting(method, need)}."
        )


def _check_words(method: MethodFacts, need: Need, categories: Sequence[str]) -> None:
    for category in categories:
        try:
            anomalous_states(category, "specific")
        except ValueError as error:
            own = f"give method.{method.name}.states_file=FILE" if "states_file" in method.settings else ""
            raise ConfigError(
                f"{method.name} needs defect_words, but category {category!r} has no list of them: "
                f"{own or 'leave it out'}{_or_other_setting(method, need)}."
            ) from error


def _or_other_setting(method: MethodFacts, need: Need) -> str:
    if not need.key:
        return ""
    others = [str(choice) for choice in method.settings[need.key].choices if str(choice) != need.value]
    return f", or set method.{method.name}.{need.key}={'|'.join(others) or '…'} (the need comes of {need.value})"
