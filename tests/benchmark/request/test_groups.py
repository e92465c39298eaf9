"""The settings of every run are declared once, and all that is said of them elsewhere agrees."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from benchmark.request import groups, registry
from benchmark.request.settings import CONFIGS, GROUPS

IN_HOUSE = [
    (kind, name)
    for kind, facts in (("method", registry.method), ("dataset", registry.dataset))
    for name in registry.names(kind)
    if facts(name).path.is_relative_to(Path(registry.__file__).parents[2])
]


@pytest.mark.parametrize("group", groups.CLASSES)
def test_what_is_read_from_the_source_is_the_class(group):
    fields = {field.name: field.default for field in dataclasses.fields(groups.CLASSES[group])}
    read = {key: setting.default for key, setting in GROUPS[group].items()}
    assert read == {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}
    assert all(setting.meaning for setting in GROUPS[group].values())


def test_the_base_holds_the_defaults_of_the_classes():
    base = yaml.safe_load((CONFIGS / "base.yaml").read_text())
    for group, values in base.items():
        values = yaml.safe_load((CONFIGS / group / f"{values}.yaml").read_text()) if isinstance(values, str) else values
        defaults = {key: setting.default for key, setting in GROUPS[group].items() if key in values}
        assert values == defaults
        assert group == "sweep" or values.keys() == GROUPS[group].keys()


@pytest.mark.parametrize(("kind", "name"), IN_HOUSE)
def test_every_setting_of_a_method_or_data_set_says_what_it_means(kind, name):
    facts = registry.method(name) if kind == "method" else registry.dataset(name)
    silent = [key for key, setting in facts.settings.items() if len(setting.meaning.split()) < 2]
    assert silent == []
    doubted = [key for key, setting in facts.settings.items() if setting.meaning.startswith("see ")]
    assert doubted == []


def test_plain_data_become_typed_with_tuples_and_without_strangers():
    made = groups.from_values(groups.SweepSettings, {"shots": [1], "methods": ["a"], "gone": 1})
    assert made == groups.SweepSettings(shots=(1,), methods=("a",))
