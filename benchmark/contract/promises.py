"""What every method promises, a third party's too: `bench check NAME` and the tests run the same checks.

A check raises where a promise is broken and says how. All run on small random CLIPs; what a fit needs is cut short.
"""

import inspect
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from benchmark.contract.candidates import (
    SIZE,
    WORDS,
    Candidate,
    by_content,
    candidates,
    lend,
    live,
    noise_images,
    run,
    small_backbone,
    small_cell,
)
from benchmark.execution.evaluator import Kept
from benchmark.request.cell import overrides
from benchmark.request.protocols import PROTOCOLS
from datamodules.components.sample import Batch
from methods.components.base import Method
from methods.components.prediction import Prediction

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}


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
                problem = " ".join(f"{type(error).__name__}: {error}{_place(error, candidate)}".split())
            yield Outcome(promise, "" if promise.asked_of is once else candidate.protocol, problem)


def _place(error: Exception, candidate: Candidate) -> str:
    """The line of the method's own file that an error of its own comes from; "" of a promise that is not kept."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == str(candidate.facts.path)]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own and not isinstance(error, AssertionError) else ""


def once(candidate: Candidate) -> bool:
    """Asked in the first protocol: the others are the same."""
    return candidate.protocol == candidate.facts.protocols[0]


def where_categories_meet(candidate: Candidate) -> bool:
    """Asked where one model has several categories, none is fitted, since a fit may share, and none chosen from all."""
    alone = candidate.facts.fits_on == "nothing" and not candidate.chooses_category
    return len(candidate.categories) > 1 and alone


def require(holds: bool, otherwise: str) -> None:
    """Raise an AssertionError with `otherwise` unless something holds."""
    if not holds:
        raise AssertionError(otherwise)


@contextmanager
def explained(why: str) -> Iterator[None]:
    """Raise an AssertionError that says `why` where a method fails."""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        raise AssertionError(f"{why}: {kind}{error}") from error


def literals_are_the_class(candidate: Candidate) -> None:
    """Its file says what its class is."""
    facts, cls = candidate.facts, candidate.cls
    require(bool(facts.summary), f"{facts.path} must begin with a line that says what the method is.")
    require(facts.paper[:8] in ("https://", ""), f'paper must be an address, or "" for a baseline: {facts.paper!r}.')
    if any(PROTOCOLS[protocol].holds_out for protocol in facts.protocols):
        joint = facts.fits_on == "shots" and "multi_class" in facts.protocols
        require(joint, "a method that holds a category out must fit on shots and honour multi_class.")
    for literal in ("paper", "protocols", "fits_on", "max_epochs", "needs"):
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
    for name in ("test_step", "predict_step", "forward", "begin_fit", "see_shots"):
        require(getattr(cls, name) is getattr(Method, name), f"{name} belongs to the base class; it is overridden.")
    arguments = list(inspect.signature(cls.predict).parameters)
    require(arguments == ["self", "images", "categories"], f"predict takes images and categories; got {arguments}.")


def needs_what_it_says(candidate: Candidate) -> None:
    """It needs neither a category nor a text tower unless its file says so, whichever settings end the need."""
    images, keys = noise_images(3), candidate.keys(3)
    for variant in candidate.without_category:
        told = variant.prepared(images, keys)
        where = f" with {words}" if (words := overrides(variant.settings, candidate.settings)) else ""
        unnamed = f"scores{where} depend on the category of a test image, which `needs` does not name"
        for others in ([*keys[1:], keys[0]], ["a category never heard of"] * 3):
            with explained(unnamed):
                again = variant.prepared(images, others)
            require(all(map(torch.equal, told, again)), f"{unnamed}.")
    if not candidate.needs("text_tower"):
        backbone = small_backbone()
        backbone.clip.transformer = backbone.clip.token_embedding = None
        with explained("it asks for the text tower, which `needs` does not name"):
            candidate.prepare(backbone=backbone)(images, keys)


def scores_are_finite(candidate: Candidate) -> None:
    """Scores and maps are finite and differ between images."""
    predicted = candidate.prepared(noise_images(4), candidate.keys(4))
    what = f"predict must return a Prediction(score, map), got {type(predicted).__name__}."
    require(isinstance(predicted, Prediction), what)
    score, anomaly_map = predicted
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
    method, images, keys = candidate.prepared, noise_images(4), candidate.keys(4)
    require(not method.transductive, "its scores depend on the other test images, as `transductive` says.")
    together = method(images, keys)
    for i, category in enumerate(keys):
        alone = method(images[i : i + 1], [category])
        with explained("alone it scores otherwise than beside other test images"):
            torch.testing.assert_close(together.score[i], alone.score[0], **CLOSE)
            torch.testing.assert_close(together.anomaly_map[i], alone.anomaly_map[0], **CLOSE)


def other_categories_change_nothing(candidate: Candidate) -> None:
    """Other categories change nothing that is not fitted."""
    first = next(iter(WORDS))
    single = candidate.build([first])
    if PROTOCOLS[candidate.protocol].uses_shots:
        single.adapt(noise_images(2, 0), first)
    images, keys = noise_images(3), [first] * 3
    joint, alone = candidate.prepared(images, keys), single(images, keys)
    torch.testing.assert_close(joint.score, alone.score, **CLOSE)
    torch.testing.assert_close(joint.anomaly_map, alone.anomaly_map, **CLOSE)


def a_second_one_starts_anew(candidate: Candidate) -> None:
    """A second instance starts anew, and the first goes on as it was."""
    images, keys = noise_images(3), candidate.keys(3)
    first = candidate.prepare()
    before = first(images, keys)
    candidate.prepare(first_seed=100)(images, keys)
    for when, again in (("the first", first(images, keys)), ("a third", candidate.prepare()(images, keys))):
        same = torch.equal(before.score, again.score) and torch.equal(before.anomaly_map, again.anomaly_map)
        require(same, f"{when} instance scores otherwise once a second one has seen other shots: they share a state.")


def backbone_is_left_alone(candidate: Candidate) -> None:
    """The shared CLIP is left as it was, whatever was asked of the method."""
    backbone, before = lend()
    method = candidate.prepare()
    method.train()
    method.eval()(noise_images(4), candidate.keys(4))
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
    require(bool(method.learnt), f"it {method.untrained}")
    loss = method.train().loss(_training_batch(method))
    require(isinstance(loss, Tensor) and loss.requires_grad, f"the loss must depend on a parameter; got {loss}.")
    require(loss.ndim == 0 and bool(loss.isfinite()), f"the loss must be a finite scalar; got {loss}.")
    loss.backward()  # type: ignore[no-untyped-call]
    idle = [key for key, p in method.learnt.items() if p.grad is None]
    require(not idle, f"every parameter must get a gradient; without one: {', '.join(idle)}.")
    touched = [key for key, p in lend().backbone.named_parameters() if p.grad is not None]
    require(not touched, f"the CLIP must get no gradient; {', '.join(touched[:3])} did.")


def _training_batch(method: Method) -> Batch:
    """What the method is fitted on: shots are normal, auxiliary images have both labels and masks."""
    mask = torch.zeros(4, SIZE, SIZE, dtype=torch.bool)
    if method.fits_on == "auxiliary":
        mask[:2, 8:40, 16:32] = True
    keys = [list(WORDS)[i % len(method.categories)] for i in range(4)]
    return Batch(noise_images(4), mask, mask.any(dim=(1, 2)), keys, [f"{i}.png" for i in range(4)])


def scores_ignore_the_truth(candidate: Candidate) -> None:
    """Scores are the same, to the last bit, whatever the labels of the test images.

    A whole run, twice, on the same images with all labels and masks turned round: whoever looks at the truth, or at
    what tells it, is found. Images come one by one, so that none has other neighbours in its batch.
    """
    with tempfile.TemporaryDirectory() as folder:
        cell = small_cell(candidate, folder)
        roots = {turned: Path(folder, str(turned)) for turned in (False, True)}
        first, second = (by_content(cell, root, run(cell, root, turned=turned)) for turned, root in roots.items())
    _check_values(*map(torch.stack, zip(*first.values(), strict=True)))
    require(first.keys() == second.keys(), "both runs must measure the same images.")
    for image, (score, anomaly_map) in first.items():
        other, same = second[image][0], all(map(torch.equal, (score, anomaly_map), second[image]))
        change = f"differs once labels are turned round (scores {score:.9g} and {other:.9g})"
        require(same, f"the score or the map of an image {change}.")


def lives_under_a_plain_trainer(candidate: Candidate) -> None:
    """A plain Trainer, a reloaded checkpoint and a kept fit give the scores of `bench run`, to the last bit."""
    with tempfile.TemporaryDirectory() as folder:
        cell = small_cell(candidate, folder)
        ours, theirs = run(cell, Path(folder, "bench")), live(cell, Path(folder, "plain"))
    pairs: dict[str, tuple[Sequence[Kept | Prediction], Sequence[Kept | Prediction]]] = {
        "Trainer.test and bench run": (theirs.tested, ours),
        "Trainer.predict and Trainer.test": (theirs.predicted, theirs.tested),
        "a reloaded checkpoint and what was saved": (theirs.reloaded, theirs.predicted),
        "a kept fit and what was kept": (theirs.revived, theirs.predicted),
    }
    for words, (some, others) in pairs.items():
        require(len(some) == len(others) > 0, f"{words} give {len(some)} and {len(others)} batches.")
        for one, other in zip(some, others, strict=True):
            same = torch.equal(one.score, other.score)
            if one.anomaly_map.shape == other.anomaly_map.shape:  # of `Kept` they are resized
                same &= torch.equal(one.anomaly_map, other.anomaly_map)
            require(same, f"{words} give different scores or maps (scores {one.score} and {other.score}).")


PROMISES = (
    Promise(literals_are_the_class, once),
    Promise(settings_are_the_config, once),
    Promise(predict_sees_no_label, once),
    Promise(needs_what_it_says),
    Promise(scores_are_finite),
    Promise(scores_need_no_other_image),
    Promise(other_categories_change_nothing, where_categories_meet),
    Promise(owns_no_backbone),
    Promise(a_second_one_starts_anew),
    Promise(loss_trains_its_own),
    Promise(scores_ignore_the_truth),
    Promise(lives_under_a_plain_trainer),
    Promise(backbone_is_left_alone),  # the last: all that was asked before counts
)
