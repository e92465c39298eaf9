"""What every method promises, a third party's too: `bench check NAME` and the tests run the same checks.

A check raises where a promise is broken and says how. All run on a small random CLIP; what a fit needs is cut short.
"""

import inspect
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor

from benchmark import registry
from benchmark.cell import Cell
from benchmark.fitting import fit
from benchmark.measure import predict_tests
from benchmark.merging import Layer
from benchmark.opening import build_method, open_data
from benchmark.plan import make_plan
from benchmark.protocols import PROTOCOLS
from benchmark.settings import compose
from datamodules.components.content import file_digest
from datamodules.components.sample import Batch
from methods.components.backbone import CLIPBackbone
from methods.components.backbone_seal import seal
from methods.components.base import Method

#: Categories that every method has words for, and how they are called.
WORDS = {"metal_nut": "metal nut", "pcb1": "printed circuit board"}
SIZE = 64  # side of the images, pixels
SMALL = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": SIZE, "layers": 8, "width": 48, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 6},
}
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}


@cache
def small_backbone() -> CLIPBackbone:
    """A random CLIP of 64 px, 4 x 4 patches, whose three widths differ; nobody may alter it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = open_clip.CLIP(**SMALL)
    return CLIPBackbone(clip, open_clip.SimpleTokenizer())


@dataclass(frozen=True)
class Candidate:
    """A method in one of its protocols."""

    name: str
    protocol: str

    @property
    def facts(self) -> registry.MethodFacts:
        """What its file says."""
        return registry.method(self.name)

    @property
    def cls(self) -> type[Method]:
        """Its class."""
        loaded: type[Method] = registry.load(self.facts, Method)
        return loaded

    @property
    def categories(self) -> list[str]:
        """Those it is made for: both, unless a model is one category's."""
        both = PROTOCOLS[self.protocol].joint or self.protocol == "zero_shot"
        return list(WORDS) if both else list(WORDS)[:1]

    def build(self, categories: Sequence[str]) -> Method:
        """The method as it begins."""
        torch.manual_seed(0)
        return self.cls(small_backbone(), {category: WORDS[category] for category in categories}).eval()

    def prepare(self) -> Method:
        """The method once it has seen what the protocol shows it."""
        method = self.build(self.categories)
        if PROTOCOLS[self.protocol].uses_shots:
            for seed, category in enumerate(self.categories):
                method.adapt(draw(2, seed), category)
        return method

    @cached_property
    def prepared(self) -> Method:
        """The same, shared by checks that only predict."""
        return self.prepare()

    def keys(self, count: int) -> list[str]:
        """Categories of `count` images."""
        return [self.categories[i % len(self.categories)] for i in range(count)]


class Promise(NamedTuple):
    """One thing that a method promises."""

    check: Callable[[Candidate], None]
    once: bool  # the same in every protocol

    @property
    def sentence(self) -> str:
        """What is promised, in words."""
        return str(self.check.__doc__).partition("\n")[0]


def candidates(name: str) -> list[Candidate]:
    """A method in each of its protocols."""
    return [Candidate(name, protocol) for protocol in registry.method(name).protocols]


def check(name: str) -> Iterator[tuple[Promise, str, str]]:
    """Check a method: each promise with the protocol, "" where it has none, and why it is broken, "" where it is kept.

    Raises:
        ConfigError: there is no such method.
    """
    for candidate in candidates(name):
        for promise in PROMISES:
            if promise.once and candidate.protocol != candidate.facts.protocols[0]:
                continue
            try:
                promise.check(candidate)
                problem = ""
            except Exception as error:  # noqa: BLE001  whatever a method raises breaks the promise
                problem = f"{type(error).__name__}: {error}"
            yield promise, "" if promise.once else candidate.protocol, problem


def draw(count: int, seed: int = 7) -> Tensor:
    """`count` images of noise, (count, 3, 64, 64)."""
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def require(holds: bool, otherwise: str) -> None:
    """Raise an AssertionError with `otherwise` unless something holds."""
    if not holds:
        raise AssertionError(otherwise)


def literals_are_the_class(candidate: Candidate) -> None:
    """Its file says what its class is."""
    facts, cls = candidate.facts, candidate.cls
    require(bool(facts.summary), f"{facts.path} must begin with a line that says what the method is.")
    good = facts.paper.startswith("https://") or not facts.paper
    require(good, f'paper must be an address, or "" for a baseline; got {facts.paper!r}.')
    unknown = set(facts.protocols) - PROTOCOLS.keys()
    require(bool(facts.protocols) and not unknown, f"protocols must be among {', '.join(PROTOCOLS)}.")
    if any(PROTOCOLS[protocol].holds_out for protocol in facts.protocols):
        joint = facts.fits_on == "shots" and "multi_class" in facts.protocols
        require(joint, "a method that holds a category out must fit on shots and honour multi_class.")
    for literal in ("paper", "protocols", "fits_on", "max_epochs"):
        same = getattr(facts, literal) == getattr(cls, literal)
        require(same, f"{literal} must be a literal of the class; the file says {getattr(facts, literal)!r}.")


def settings_are_the_config(candidate: Candidate) -> None:
    """Its settings can be read from its file."""
    facts, config = candidate.facts, candidate.cls.Config
    names = [field.name for field in fields(config)]
    require(names == list(facts.settings), f"Config has {names}, its source {list(facts.settings)}.")
    require(all(field.kw_only for field in fields(config)), "Config must be a dataclass(kw_only=True).")
    hints = get_type_hints(config)
    for key, setting in facts.settings.items():
        default = getattr(config(), key)
        default = list(default) if isinstance(default, tuple) else default
        require(setting.default == default, f"{key} is {default!r} in the class and {setting.default!r} in its source.")
        choices = get_args(hints[key]) if str(get_origin(hints[key])) == "typing.Literal" else ()
        require(not choices or setting.choices == choices, f"{key} has other choices in its source.")


def predict_sees_no_label(candidate: Candidate) -> None:
    """Predict is asked with images and categories alone."""
    cls: Any = candidate.cls
    for name in ("test_step", "forward"):
        require(getattr(cls, name) is getattr(Method, name), f"{name} belongs to the base class; it is overridden.")
    arguments = list(inspect.signature(cls.predict).parameters)
    require(
        arguments == ["self", "images", "categories"], f"predict takes images and categories; it takes {arguments}."
    )


def scores_are_finite(candidate: Candidate) -> None:
    """Scores and maps are finite and differ between images."""
    score, anomaly_map = candidate.prepared(draw(4), candidate.keys(4))
    shapes = f"got {tuple(score.shape)} and {tuple(anomaly_map.shape)}"
    require(score.shape == (4,), f"the score of 4 images must be (4,), {shapes}.")
    require(anomaly_map.ndim == 3 and len(anomaly_map) == 4, f"the maps of 4 images must be (4, h, w), {shapes}.")
    require(bool(score.isfinite().all() and anomaly_map.isfinite().all()), "scores and maps must be finite.")
    require(score.unique().numel() > 1, f"4 different images must not all have the score {score[0]}.")
    require(all(each.unique().numel() > 1 for each in anomaly_map), "the map of an image must not be constant.")


def scores_need_no_other_image(candidate: Candidate) -> None:
    """An image scores as if it were alone."""
    method, images, keys = candidate.prepared, draw(4), candidate.keys(4)
    together = method(images, keys)
    for i, category in enumerate(keys):
        alone = method(images[i : i + 1], [category])
        torch.testing.assert_close(together.score[i], alone.score[0], **CLOSE)
        torch.testing.assert_close(together.anomaly_map[i], alone.anomaly_map[0], **CLOSE)


def other_categories_change_nothing(candidate: Candidate) -> None:
    """Other categories change nothing that is not fitted."""
    if candidate.protocol != "multi_class" or candidate.facts.fits_on != "nothing":
        return  # a fitted method may share what it learns
    first = next(iter(WORDS))
    single = candidate.build([first])
    single.adapt(draw(2, 0), first)
    images, keys = draw(3), [first] * 3
    joint = candidate.prepared(images, keys)
    torch.testing.assert_close(joint.anomaly_map, single(images, keys).anomaly_map, **CLOSE)


def backbone_is_left_alone(candidate: Candidate) -> None:
    """The shared CLIP is left as it was."""
    before = seal(small_backbone())
    method = candidate.prepare()
    method.train()
    method.eval()(draw(4), candidate.keys(4))
    if broken := before.broken(small_backbone()):
        small_backbone.cache_clear()
        raise AssertionError(f"the method changed the shared CLIP: {', '.join(broken[:5])}.")


def owns_no_backbone(candidate: Candidate) -> None:
    """The CLIP is in no checkpoint."""
    method, backbone = candidate.build(list(WORDS)), small_backbone()
    theirs = {value.data_ptr() for value in (*backbone.parameters(), *backbone.buffers())}
    ours = [*method.parameters(), *method.buffers(), *method.state_dict().values()]
    require(not theirs & {value.data_ptr() for value in ours}, "a tensor of the CLIP would be in the checkpoint.")
    require(not {*map(id, backbone.modules())} & {*map(id, method.modules())}, "the CLIP must not be a submodule.")


def loss_trains_its_own(candidate: Candidate) -> None:
    """The loss trains all that is its own and nothing else."""
    method = candidate.prepare()
    batch = _training_batch(method)
    if method.fits_on == "nothing":
        require(not list(method.parameters()), "a method that fits on nothing must have no parameters.")
        try:
            method.loss(batch)
        except NotImplementedError:
            return
        raise AssertionError("a method that fits on nothing must define no loss.")
    require(method.max_epochs > 0, f"max_epochs must be above 0; got {method.max_epochs}.")
    loss = method.train().loss(batch)
    require(loss.ndim == 0 and bool(loss.isfinite()), f"the loss must be a finite scalar; got {loss}.")
    loss.backward()  # type: ignore[no-untyped-call]
    learnt = {key: p for key, p in method.named_parameters() if p.requires_grad}
    idle = [key for key, p in learnt.items() if p.grad is None]
    require(bool(learnt) and not idle, f"every parameter must get a gradient; without one: {', '.join(idle) or 'all'}.")
    touched = [key for key, p in small_backbone().named_parameters() if p.grad is not None]
    require(not touched, f"the CLIP must get no gradient; {', '.join(touched[:3])} did.")


def _training_batch(method: Method) -> Batch:
    """What the method is fitted on: shots are normal, auxiliary images have both labels and masks."""
    mask = torch.zeros(4, SIZE, SIZE, dtype=torch.bool)
    if method.fits_on == "auxiliary":
        mask[:2, 8:40, 16:32] = True
    keys = [list(WORDS)[i % len(method.categories)] for i in range(4)]
    return Batch(draw(4), mask, mask.any(dim=(1, 2)), keys, [f"{i}.png" for i in range(4)])


def scores_ignore_the_truth(candidate: Candidate) -> None:
    """Scores are the same whatever the labels of the test images.

    A whole run, twice, on the same images with all labels turned round: whoever looks at the truth is found.
    """
    with tempfile.TemporaryDirectory() as folder:
        first, second = (_run(candidate, Path(folder) / name, turned=name == "turned") for name in ("as", "turned"))
    for image, (score, anomaly_map) in first.items():
        other, other_map = second[image]
        same = torch.allclose(score, other, **CLOSE) and torch.allclose(anomaly_map, other_map, **CLOSE)
        require(same, f"an image scores {score:.6g} and, once its label is turned round, {other:.6g}.")


def _run(candidate: Candidate, root: Path, *, turned: bool) -> dict[str, tuple[Tensor, Tensor]]:
    """Score and map of each test image, by its content."""
    _write_images(root, turned=turned)
    cell, device = _cell(candidate, root), torch.device("cpu")
    torch.manual_seed(0)
    data = open_data(cell, SIZE)
    method = build_method(cell, small_backbone(), data)
    method.max_epochs = min(method.max_epochs, 1)  # type: ignore[misc]
    fit(method, cell, data, device, ())
    kept = predict_tests(method, data, 32, device, ())
    samples = data.test_samples
    return {
        file_digest(samples[index].image): (part.score[row], part.anomaly_map[row])
        for part in kept
        for row, index in enumerate(part.indices.tolist())
    }


def _cell(candidate: Candidate, root: Path) -> Cell:
    axes = {"methods": [candidate.name], "datasets": ["folder"], "protocols": [candidate.protocol]}
    few = {"size": SIZE, "train": 1, "normal": 1, "per_defect": 1}
    short = {"steps": 2} if "steps" in candidate.facts.settings else {}
    values = {
        "sweep": {**axes, "shots": [2], "seeds": [0]},
        "dataset": {"folder": {"root": str(root)}, "procedural_auxiliary": few},
        "protocol": {"evaluation_size": 32, "auxiliary": "procedural_auxiliary"},
        "method": {candidate.name: short},
        "trainer": {"accelerator": "cpu"},
    }
    return make_plan(compose([Layer("contract", values)]), {"folder": tuple(WORDS)}).cells[0]


def _write_images(root: Path, *, turned: bool) -> None:
    """Both categories in MVTec layout without masks: three shots and two test images of either label."""
    rng = np.random.default_rng(0)
    for category in WORDS:
        for place in ("train/good", "test/good", "test/broken"):
            label = {"test/good": "test/broken", "test/broken": "test/good"}.get(place, place) if turned else place
            for number in range(3 if place == "train/good" else 2):
                path = root / category / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(path)


PROMISES = (
    Promise(literals_are_the_class, once=True),
    Promise(settings_are_the_config, once=True),
    Promise(predict_sees_no_label, once=True),
    Promise(scores_are_finite, once=False),
    Promise(scores_need_no_other_image, once=False),
    Promise(other_categories_change_nothing, once=False),
    Promise(backbone_is_left_alone, once=False),
    Promise(owns_no_backbone, once=True),
    Promise(loss_trains_its_own, once=False),
    Promise(scores_ignore_the_truth, once=False),
)
