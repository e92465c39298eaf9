"""What every method promises, checked for each file in methods/ and each protocol it names."""

import inspect
import typing
from dataclasses import fields

import pytest
import torch

from benchmark import registry
from benchmark.protocols import PROTOCOLS
from benchmark.ranges import lies_in
from datamodules.components.sample import Batch
from methods.components.base import Method

NAMES = registry.names("method")
CASES = [(name, protocol) for name in NAMES for protocol in registry.method(name).protocols]
WORDS = {"metal_nut": "metal nut", "pcb1": "printed circuit board"}
SIZE = 64


def build(name, backbone, categories):
    torch.manual_seed(0)
    words = {category: WORDS[category] for category in categories}
    return registry.load(registry.method(name), Method)(backbone, words).eval()


def prepare(name, protocol, backbone):
    """A method that has seen what the protocol shows it, and categories for four images."""
    categories = list(WORDS) if PROTOCOLS[protocol].joint or protocol == "zero_shot" else ["metal_nut"]
    method = build(name, backbone, categories)
    if PROTOCOLS[protocol].uses_shots:
        for seed, category in enumerate(categories):
            method.adapt(draw(2, seed), category)
    return method, [categories[i % len(categories)] for i in range(4)]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def prepared(request, backbone):
    """Shared by tests that only predict."""
    return prepare(*request.param, backbone)


def draw(count, seed=7):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def training_batch(method):
    """What the method is fitted on: shots are normal, auxiliary images have both labels and masks."""
    mask = torch.zeros(4, SIZE, SIZE, dtype=torch.bool)
    if method.fits_on == "auxiliary":
        mask[:2, 8:40, 16:32] = True
    keys = [list(WORDS)[i % len(method.categories)] for i in range(4)]
    return Batch(draw(4), mask, mask.any(dim=(1, 2)), keys, [f"{i}.png" for i in range(4)])


@pytest.mark.parametrize("name", NAMES)
def test_literals_read_from_the_source_are_the_class(name):
    facts = registry.method(name)
    cls = registry.load(facts, Method)
    assert facts.summary
    assert facts.paper.startswith("https://") or (not facts.paper and name.startswith("trivial_"))
    assert facts.protocols
    assert set(facts.protocols) <= PROTOCOLS.keys()
    if any(PROTOCOLS[protocol].holds_out for protocol in facts.protocols):
        assert facts.fits_on == "shots"  # else nothing would be held out of anything
        assert "multi_class" in facts.protocols  # one model for all the others
    for literal in ("paper", "protocols", "fits_on", "max_epochs"):
        assert getattr(facts, literal) == getattr(cls, literal), literal


@pytest.mark.parametrize("name", NAMES)
def test_config_read_from_the_source_is_the_dataclass(name):
    facts = registry.method(name)
    config = registry.load(facts, Method).Config
    assert [field.name for field in fields(config)] == list(facts.settings)
    assert all(field.kw_only for field in fields(config))
    hints, marked = typing.get_type_hints(config), typing.get_type_hints(config, include_extras=True)
    for key, setting in facts.settings.items():
        default = getattr(config(), key)
        assert setting.default == (list(default) if isinstance(default, tuple) else default), key
        of_tuple = typing.get_origin(hints[key]) is tuple
        parts = typing.get_args(hints[key]) if of_tuple else (hints[key],)
        assert setting.choices == (typing.get_args(parts[0]) if typing.get_origin(parts[0]) is typing.Literal else ())
        assert setting.length == (len(parts) if of_tuple and ... not in parts else None), key
        assert setting.range == "".join(getattr(marked[key], "__metadata__", ())), key


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_the_config_has_a_range_and_its_default_lies_in_it(name):
    config = registry.load(registry.method(name), Method).Config
    for key, value in vars(config()).items():
        numbers = [each for each in (value if isinstance(value, tuple) else (value,)) if type(each) in (int, float)]
        nullable = value is None and "str" not in str(typing.get_type_hints(config)[key])
        bounds = registry.method(name).settings[key].range
        assert bool(bounds) == bool(numbers or nullable), key
        assert all(lies_in(number, bounds) for number in numbers), key


@pytest.mark.parametrize("name", NAMES)
def test_predict_cannot_see_labels(name):
    cls = registry.load(registry.method(name), Method)
    assert list(inspect.signature(cls.predict).parameters) == ["self", "images", "categories"]
    assert cls.test_step is Method.test_step
    assert cls.forward is Method.forward


def test_predicts_a_finite_score_and_map(prepared):
    method, categories = prepared
    score, anomaly_map = method(draw(4), categories)
    assert score.shape == (4,)
    assert anomaly_map.ndim == 3
    assert len(anomaly_map) == 4
    assert score.isfinite().all()
    assert anomaly_map.isfinite().all()
    assert score.unique().numel() > 1
    assert all(each.unique().numel() > 1 for each in anomaly_map)


def test_scores_each_image_as_if_alone(prepared):
    """Also where a batch mixes categories."""
    method, categories = prepared
    images = draw(4)
    together = method(images, categories)
    for i, category in enumerate(categories):
        alone = method(images[i : i + 1], [category])
        torch.testing.assert_close(together.score[i], alone.score[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(together.anomaly_map[i], alone.anomaly_map[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, protocol in CASES if protocol == "multi_class"])
def test_other_categories_change_nothing(name, backbone):
    """Shots and words of a second category leave the first as it was, for what is not fitted."""
    if registry.method(name).fits_on != "nothing":
        pytest.skip("a fitted method may share what it learns")
    joint, _ = prepare(name, "multi_class", backbone)
    single = build(name, backbone, ["metal_nut"])
    single.adapt(draw(2, 0), "metal_nut")
    images, key = draw(3), ["metal_nut"] * 3
    torch.testing.assert_close(joint(images, key).anomaly_map, single(images, key).anomaly_map, rtol=1e-4, atol=1e-6)


def traits(backbone):
    modules = list(backbone.modules())
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in modules)
    flags = [p.requires_grad for p in backbone.parameters()]
    return hooks, [type(m) for m in modules], [m.training for m in modules], flags


@pytest.mark.parametrize(("name", "protocol"), CASES)
def test_leaves_the_backbone_alone(name, protocol, backbone):
    weights = {key: value.clone() for key, value in backbone.state_dict().items()}
    before = traits(backbone)
    method, categories = prepare(name, protocol, backbone)
    method.train()
    method.eval()(draw(4), categories)
    assert traits(backbone) == before
    assert backbone.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_owns_no_backbone(name, backbone):
    method = build(name, backbone, WORDS)
    theirs = {value.data_ptr() for value in (*backbone.parameters(), *backbone.buffers())}
    ours = [*method.parameters(), *method.buffers(), *method.state_dict().values()]
    assert not theirs & {value.data_ptr() for value in ours}
    assert not set(map(id, backbone.modules())) & set(map(id, method.modules()))


@pytest.mark.parametrize(("name", "protocol"), CASES)
def test_loss_trains_exactly_its_own(name, protocol, backbone):
    method, _ = prepare(name, protocol, backbone)
    batch = training_batch(method)
    if method.fits_on == "nothing":
        assert not list(method.parameters())
        with pytest.raises(NotImplementedError, match="defines no loss"):
            method.loss(batch)
        return
    assert method.max_epochs > 0
    loss = method.train().loss(batch)
    assert loss.ndim == 0
    assert loss.isfinite()
    loss.backward()
    assert [key for key, p in method.named_parameters() if p.requires_grad and p.grad is None] == []
    assert [key for key, p in method.named_parameters() if p.requires_grad]
    assert [key for key, p in backbone.named_parameters() if p.grad is not None] == []


class Exhausted(Method):
    def loss(self, batch):
        return next(iter([]))

    def predict(self, images, categories):
        return next(iter([]))


def test_a_stop_iteration_is_no_end_of_the_data(backbone):
    """Lightning would end the loop without a word."""
    method, batch = Exhausted(backbone, WORDS), Batch(draw(1), torch.zeros(1, 8, 8), torch.zeros(1), ["pcb1"], ["0"])
    for step, name in ((method.training_step, "training"), (method.test_step, "test")):
        with pytest.raises(RuntimeError, match=f"Exhausted raised StopIteration in a {name} step") as caught:
            step(batch, 0)
        assert isinstance(caught.value.__cause__, StopIteration)
