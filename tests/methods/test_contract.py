"""What every method promises, checked for each file in methods/ and each protocol it names."""

import typing
from dataclasses import replace
from functools import lru_cache

import pytest
import torch

from benchmark.contract import candidates
from benchmark.contract import promises as contract
from benchmark.request import registry
from benchmark.request.ranges import lies_in
from datamodules.components.sample import Batch
from methods.components.base import Method

NAMES = registry.names("method")
CANDIDATES = [candidate for name in NAMES for candidate in candidates.candidates(name)]
CASES = [(each, promise) for each in CANDIDATES for promise in contract.PROMISES if promise.asked_of(each)]
#: Promises that take a whole run or a second method.
SLOW = (
    contract.scores_ignore_the_truth,
    contract.lives_under_a_plain_trainer,
    contract.a_second_one_starts_anew,
    contract.backbone_is_left_alone,
    contract.scores_need_no_other_image,
)


def words(value):
    return f"{value.name}-{value.protocol}" if isinstance(value, candidates.Candidate) else value.check.__name__


@lru_cache(maxsize=1)
def shared(candidate):
    """A copy for the promises of one candidate, which follow each other; it goes with the next one's."""
    return replace(candidate)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    """The sets that are rendered for a fit go into a cache of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.mark.parametrize(
    ("candidate", "promise"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case[1].check in SLOW else []) for case in CASES],
    ids=words,
)
def test_keeps_its_promise(candidate, promise):
    promise.check(shared(candidate))


def test_every_method_is_asked_every_promise_that_it_could_break():
    asked = {name: [promise.check for each, promise in CASES if each.name == name] for name in NAMES}
    unasked = {name: {promise.check for promise in contract.PROMISES} - {*checks} for name, checks in asked.items()}
    fitted = {name for name in NAMES if registry.method(name).fits_on != "nothing"}
    assert unasked == {name: {contract.other_categories_change_nothing} if name in fitted else set() for name in NAMES}
    each = {
        (candidate.name, candidate.protocol) for candidate, promise in CASES if promise.asked_of is not contract.once
    }
    assert each == {(name, protocol) for name in NAMES for protocol in registry.method(name).protocols}


@pytest.mark.parametrize("name", NAMES)
def test_baselines_alone_have_no_paper(name):
    assert bool(registry.method(name).paper) != name.startswith("trivial_")


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_the_config_has_a_range_and_its_default_lies_in_it(name):
    config = registry.load(registry.method(name), Method).Config
    for key, value in vars(config()).items():
        numbers = [each for each in (value if isinstance(value, tuple) else (value,)) if type(each) in (int, float)]
        nullable = value is None and "str" not in str(typing.get_type_hints(config)[key])
        bounds = registry.method(name).settings[key].range
        assert bool(bounds) == bool(numbers or nullable), key
        assert all(lies_in(number, bounds) for number in numbers), key


class Exhausted(Method):
    def loss(self, batch):
        return next(iter([]))

    def predict(self, images, categories):
        return next(iter([]))


def test_a_stop_iteration_is_no_end_of_the_data(backbone):
    """Lightning would end the loop without a word."""
    method, batch = (
        Exhausted(backbone, candidates.WORDS),
        Batch(candidates.noise_images(1), torch.zeros(1, 8, 8), torch.zeros(1), ["pcb1"], ["0"]),
    )
    for step, name in ((method.training_step, "training"), (method.test_step, "test")):
        with pytest.raises(RuntimeError, match=f"Exhausted raised StopIteration in a {name} step") as caught:
            step(batch, 0)
        assert isinstance(caught.value.__cause__, StopIteration)
