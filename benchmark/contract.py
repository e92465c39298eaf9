"""What every method promises, a third party's too: `bench check NAME` and the tests run the same checks.

A check raises where a promise is broken and says how. All run on small random CLIPs; what a fit needs is cut short.
"""

import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor

from benchmark import registry
from benchmark.cell import Cell
from benchmark.data import open_data
from benchmark.fitting import fit
from benchmark.measure import predict_tests
from benchmark.merging import Layer
from benchmark.opening import build_method
from benchmark.plan import make_plan
from benchmark.protocols import PROTOCOLS
from benchmark.settings import compose, parse_words
from datamodules.components.content import file_digest
from datamodules.components.sample import Batch
from methods.components.backbone import CLIPBackbone
from methods.components.backbone_seal import Seal, seal
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


def small_backbone() -> CLIPBackbone:
    """A new random CLIP of 64 px, 4 x 4 patches, whose three widths differ; always the same numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = open_clip.CLIP(**SMALL)
    return CLIPBackbone(clip, open_clip.SimpleTokenizer())


class Loan(NamedTuple):
    """A CLIP and what it was before a method had it."""

    backbone: CLIPBackbone
    seal: Seal


@cache
def lend() -> Loan:
    """The CLIP that candidates share until one of them is found to have altered it."""
    return Loan(backbone := small_backbone(), seal(backbone))


@dataclass(frozen=True, eq=False)
class Candidate:
    """A method in one of its protocols."""

    name: str
    protocol: str
    settings: Mapping[str, Any]

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
        config = self.cls.Config(**{key: tuple(v) if isinstance(v, list) else v for key, v in self.settings.items()})
        return self.cls(lend().backbone, {each: WORDS[each] for each in categories}, config).eval()

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
    asked_of: Callable[[Candidate], bool] = lambda candidate: True  # False where any method would keep it

    @property
    def sentence(self) -> str:
        """What is promised, in words."""
        return str(self.check.__doc__).partition("\n")[0]


class Outcome(NamedTuple):
    """What became of a promise."""

    promise: Promise
    protocol: str  # "" of a promise that is the same in every protocol
    problem: str  # why it is broken, one line; "" where it is kept


def candidates(name: str, words: Sequence[str] = ()) -> list[Candidate]:
    """A method in each of its protocols, one or more.

    Args:
        name: of a method.
        words: `method.key=value`, as of `bench run`: a variant of it.

    Raises:
        ConfigError: there is no such method, it names no protocol or one that is none, or a word is wrong.
    """
    protocols, said = registry.method(name).protocols, parse_words(words)
    if not protocols or not PROTOCOLS.keys() >= {*protocols}:
        raise registry.ConfigError(f"protocols of {name} must be among {', '.join(PROTOCOLS)}; got {protocols!r}.")
    if strangers := [*said.chosen, *(group for group in said.values if group != "method")]:
        raise registry.ConfigError(f"a check takes words of the form method.key=value alone; got {strangers[0]}.")
    settings = compose([Layer("contract", {"sweep": {"methods": [name]}}), said])["method"][name]
    return [Candidate(name, protocol, settings) for protocol in protocols]


def check(name: str, words: Sequence[str] = ()) -> Iterator[Outcome]:
    """Check a method, or the variant that `words` make of it, in all its protocols.

    Raises:
        ConfigError: see `candidates`.
    """
    for candidate in candidates(name, words):
        for promise in (each for each in PROMISES if each.asked_of(candidate)):
            problem = ""
            try:
                promise.check(candidate)
            except Exception as error:  # noqa: BLE001  whatever a method raises breaks the promise
                problem = " ".join(f"{type(error).__name__}: {error}".split())
            yield Outcome(promise, "" if promise.asked_of is once else candidate.protocol, problem)


def once(candidate: Candidate) -> bool:
    """Asked in the first protocol: the others are the same."""
    return candidate.protocol == candidate.facts.protocols[0]


def where_categories_meet(candidate: Candidate) -> bool:
    """Asked where one model has several categories, and none is fitted: a fitted one may share what it learns."""
    return len(candidate.categories) > 1 and candidate.facts.fits_on == "nothing"


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
    require(facts.paper[:8] in ("https://", ""), f'paper must be an address, or "" for a baseline: {facts.paper!r}.')
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
    hints, marked = get_type_hints(config), get_type_hints(config, include_extras=True)
    for key, setting in facts.settings.items():
        default, of_tuple = getattr(config(), key), get_origin(hints[key]) is tuple
        parts = get_args(hints[key]) if of_tuple else (hints[key],)
        own = {
            "default": list(default) if isinstance(default, tuple) else default,
            "choices": get_args(parts[0]) if get_origin(parts[0]) is Literal else (),
            "length": len(parts) if of_tuple and ... not in parts else None,
            "range": "".join(getattr(marked[key], "__metadata__", ())),
        }
        for what, value in own.items():
            read = getattr(setting, what)
            require(read == value, f"the {what} of {key} is {value!r} in the class and {read!r} in its source.")


def predict_sees_no_label(candidate: Candidate) -> None:
    """Predict is asked with images and categories alone."""
    cls: Any = candidate.cls
    for name in ("test_step", "forward"):
        require(getattr(cls, name) is getattr(Method, name), f"{name} belongs to the base class; it is overridden.")
    arguments = list(inspect.signature(cls.predict).parameters)
    require(arguments == ["self", "images", "categories"], f"predict takes images and categories; got {arguments}.")


def scores_are_finite(candidate: Candidate) -> None:
    """Scores and maps are finite and differ between images."""
    score, anomaly_map = candidate.prepared(draw(4), candidate.keys(4))
    shapes = f"got {tuple(score.shape)} and {tuple(anomaly_map.shape)}"
    require(score.shape == (4,), f"the score of 4 images must be (4,), {shapes}.")
    require(anomaly_map.ndim == 3 and len(anomaly_map) == 4, f"the maps of 4 images must be (4, h, w), {shapes}.")
    _check_values(score, anomaly_map)


def _check_values(score: Tensor, maps: Tensor) -> None:
    require(bool(score.isfinite().all() and maps.isfinite().all()), "scores and maps must be finite.")
    require(score.unique().numel() > 1, f"different images must not all have the score {score[0]:.6g}.")
    require(all(each.unique().numel() > 1 for each in maps), "the map of an image must not be constant.")


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
    first = next(iter(WORDS))
    single = candidate.build([first])
    if PROTOCOLS[candidate.protocol].uses_shots:
        single.adapt(draw(2, 0), first)
    images, keys = draw(3), [first] * 3
    joint, alone = candidate.prepared(images, keys), single(images, keys)
    torch.testing.assert_close(joint.score, alone.score, **CLOSE)
    torch.testing.assert_close(joint.anomaly_map, alone.anomaly_map, **CLOSE)


def backbone_is_left_alone(candidate: Candidate) -> None:
    """The shared CLIP is left as it was, whatever was asked of the method."""
    backbone, before = lend()
    method = candidate.prepare()
    method.train()
    method.eval()(draw(4), candidate.keys(4))
    if broken := before.broken(backbone):
        lend.cache_clear()
    require(not broken, f"the method changed the shared CLIP: {', '.join(broken[:5])}.")


def owns_no_backbone(candidate: Candidate) -> None:
    """The CLIP is in no checkpoint, nor a part of a tensor of it."""
    method, backbone = candidate.prepared, lend().backbone
    tensors = [*backbone.parameters(), *backbone.buffers()], [*method.state_dict().values(), *method.buffers()]
    theirs, ours = ({each.untyped_storage().data_ptr() for each in some if each.numel()} for some in tensors)
    require(not theirs & ours, "a tensor of the CLIP would be in the checkpoint.")
    require(not {*map(id, backbone.modules())} & {*map(id, method.modules())}, "the CLIP must not be a submodule.")


def loss_trains_its_own(candidate: Candidate) -> None:
    """The loss trains all that is its own and nothing else."""
    method = candidate.prepare()
    if method.fits_on == "nothing":
        require(not list(method.parameters()), "a method that fits on nothing must have no parameters.")
        require(candidate.cls.loss is Method.loss, "a method that fits on nothing must define no loss.")
        return
    require(method.max_epochs > 0, f"max_epochs must be above 0; got {method.max_epochs}.")
    loss = method.train().loss(_training_batch(method))
    require(loss.ndim == 0 and bool(loss.isfinite()), f"the loss must be a finite scalar; got {loss}.")
    loss.backward()  # type: ignore[no-untyped-call]
    learnt = {key: p for key, p in method.named_parameters() if p.requires_grad}
    idle = [key for key, p in learnt.items() if p.grad is None]
    require(bool(learnt) and not idle, f"every parameter must get a gradient; without one: {', '.join(idle) or 'all'}.")
    touched = [key for key, p in lend().backbone.named_parameters() if p.grad is not None]
    require(not touched, f"the CLIP must get no gradient; {', '.join(touched[:3])} did.")


def _training_batch(method: Method) -> Batch:
    """What the method is fitted on: shots are normal, auxiliary images have both labels and masks."""
    mask = torch.zeros(4, SIZE, SIZE, dtype=torch.bool)
    if method.fits_on == "auxiliary":
        mask[:2, 8:40, 16:32] = True
    keys = [list(WORDS)[i % len(method.categories)] for i in range(4)]
    return Batch(draw(4), mask, mask.any(dim=(1, 2)), keys, [f"{i}.png" for i in range(4)])


def scores_ignore_the_truth(candidate: Candidate) -> None:
    """Scores are the same, to the last bit, whatever the labels of the test images.

    A whole run, twice, on the same images with all labels and masks turned round: whoever looks at the truth, or at
    what tells it, is found. Images come one by one, so that none has other neighbours in its batch.
    """
    with tempfile.TemporaryDirectory() as folder:
        cell = _cell(candidate, folder)
        first, second = (_run(cell, Path(folder, str(turned)), turned=turned) for turned in (False, True))
    require(first.keys() == second.keys(), "both runs must measure the same images.")
    for image, (score, anomaly_map) in first.items():
        other, same = second[image][0], all(map(torch.equal, (score, anomaly_map), second[image]))
        change = f"differs once labels are turned round (scores {score:.9g} and {other:.9g})"
        require(same, f"the score or the map of an image {change}.")


def _run(cell: Cell, root: Path, *, turned: bool) -> dict[str, tuple[Tensor, Tensor]]:
    """Score and map of each test image, by its content."""
    cell = replace(cell, where={**cell.where, "root": str(root)})
    _write_images(root, turned=turned)
    torch.manual_seed(0)
    data, device = open_data(cell, SIZE), torch.device("cpu")
    method = build_method(cell, lend().backbone, data)
    method.max_epochs = min(method.max_epochs, 1)  # type: ignore[misc]
    fit(method, cell, data, device, ())
    samples = data.test_samples
    found = {
        file_digest(samples[int(index)].image): (score, anomaly_map)
        for part in predict_tests(method, data, 32, device, ())
        for index, score, anomaly_map in zip(*part, strict=True)
    }
    require(len(found) == len(samples), f"a run must measure all {len(samples)} test images; it measured {len(found)}.")
    _check_values(*map(torch.stack, zip(*found.values(), strict=True)))
    return found


def _cell(candidate: Candidate, folder: str) -> Cell:
    axes = {"methods": [candidate.name], "datasets": ["folder"], "protocols": [candidate.protocol]}
    few = {"size": SIZE, "train": 1, "normal": 1, "per_defect": 1}
    short = {"steps": 2} if "steps" in candidate.settings else {}
    values = {
        "sweep": {**axes, "shots": [2], "seeds": [0]},
        "dataset": {"folder": {"root": folder}, "procedural_auxiliary": few},
        "protocol": {"evaluation_size": 32, "auxiliary": "procedural_auxiliary"},
        "method": {candidate.name: {**candidate.settings, **short}},
        "trainer": {"accelerator": "cpu", "batch_size": 1},
    }
    return make_plan(compose([Layer("contract", values)]), {"folder": tuple(WORDS)}).cells[0]


def _write_images(root: Path, *, turned: bool) -> None:
    """Both categories in MVTec layout: three shots, and two test images of either label; the anomalous have masks."""
    rng = np.random.default_rng(0)
    mask = np.pad(np.full((32, 16), 255, np.uint8), ((8, SIZE - 40), (16, SIZE - 32)))
    turn = {"test/good": "test/broken", "test/broken": "test/good"} if turned else {}
    for category in WORDS:
        for place in ("train/good", "test/good", "test/broken"):
            label = turn.get(place, place)
            for number in range(3 if place == "train/good" else 2):
                _save(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8), root / category / label / f"{number}.png")
                if label == "test/broken":
                    _save(mask, root / category / "ground_truth" / "broken" / f"{number}_mask.png")


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


PROMISES = (
    Promise(literals_are_the_class, once),
    Promise(settings_are_the_config, once),
    Promise(predict_sees_no_label, once),
    Promise(scores_are_finite),
    Promise(scores_need_no_other_image),
    Promise(other_categories_change_nothing, where_categories_meet),
    Promise(owns_no_backbone),
    Promise(loss_trains_its_own),
    Promise(scores_ignore_the_truth),
    Promise(backbone_is_left_alone),  # the last: all that was asked before counts
)
