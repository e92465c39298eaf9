"""`bench check` finds each kind of broken promise, says which it is, and lets honest methods pass."""

from dataclasses import dataclass
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmark.contract import candidates
from benchmark.contract import promises as contract
from benchmark.request import registry
from methods.components.base import Method
from methods.components.prediction import Prediction
from methods.components.prompts import ensemble

TRUTH = "Scores are the same, to the last bit, whatever the labels of the test images"
LIFE = "A plain Trainer, a reloaded checkpoint and a kept fit give the scores of `bench run`, to the last bit"
ALONE = "The shared CLIP is left as it was, whatever was asked of the method"


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    """The sets that are rendered for a fit go into a cache of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


def broken(out):
    """Sentences of the broken promises and why, of a command's lines; the others must say ok."""
    lines = [line.partition(" ") for line in out.splitlines()]
    assert {status for status, _, _ in lines} <= {"ok", "BROKEN"}
    return [text for status, _, text in lines if status == "BROKEN"]


@pytest.mark.slow
def test_an_honest_method_keeps_every_promise_in_each_of_its_protocols(bench):
    done = bench("check", "toy_mean")
    assert (done.code, done.err) == (0, "")
    said = [line.removeprefix("ok     ") for line in done.out.splitlines()]
    expected = {
        promise.check.__doc__.partition("\n")[0].removesuffix(".")
        + ("" if promise.asked_of is contract.once else where)
        for where in (" (few_shot)", " (multi_class)", " (zero_shot)")
        for promise in contract.PROMISES
        if promise.check is not contract.other_categories_change_nothing or where != " (few_shot)"  # has one category
    }
    assert sorted(said) == sorted(expected)
    assert len(said) == 3 + 3 * 9 + 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["toy_learns", "toy_transfers", "toy_watches"])
def test_fitted_methods_of_a_third_party_pass_too(bench, name):
    done = bench("check", name)
    assert (done.code, broken(done.out)) == (0, [])
    for protocol in registry.method(name).protocols:
        assert f"ok     {TRUTH} ({protocol})" in done.out


@pytest.mark.slow
def test_a_variant_is_checked_by_the_words_of_a_run(bench):
    assert bench("check", "toy_mean", "method.scale=2").code == 0
    done = bench("check", "toy_mean", "method.toy_mean.scale=0")
    assert done.code == 1
    assert "Scores and maps are finite and differ between images (zero_shot): AssertionError: different" in done.out
    (candidate, *_) = candidates.candidates("toy_mean", ["method.scale=2", "method.sides=[3,4]"])
    assert candidate.prepare().config == candidate.cls.Config(scale=2.0, sides=(3, 4))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "promise", "why"),
    [
        ("label", TRUTH, "AttributeError: 'UnlabelledBatch' object has no attribute 'label'"),
        (
            "path",
            TRUTH,
            "AssertionError: the score or the map of an image differs once labels are turned round (scores 1 and 0).",
        ),
        ("stop_predict", TRUTH, "RuntimeError: ToyCheats raised StopIteration in a test step"),
        ("stop_hook", TRUTH, "AssertionError: a run must measure all 4 test images; it measured 1."),
        ("skip_epoch", TRUTH, "RuntimeError: the fit of ToyCheats must see 2 batches"),
        ("alter", ALONE, "AssertionError: the method changed the shared CLIP: backbone.clip.visual.conv1.weight"),
    ],
)
def test_a_cheat_breaks_one_promise_which_is_named(bench, how, promise, why):
    done = bench("check", "toy_cheats", f"method.how={how}")
    assert (done.code, done.err) == (1, "")
    line, *others = broken(done.out)
    assert line.startswith(f"{promise} (few_shot): {why}")
    assert all(other.startswith(LIFE) for other in others)  # a run that fails has no scores to compare


@pytest.mark.slow
def test_a_stop_in_the_loss_is_found_where_it_is_asked_and_where_it_is_fitted(bench):
    asked, fitted, lived = broken(bench("check", "toy_cheats", "method.how=stop_loss").out)
    assert asked.startswith("The loss trains all that is its own and nothing else (few_shot): StopIteration")
    assert fitted.startswith(f"{TRUTH} (few_shot): RuntimeError: ToyCheats raised StopIteration in a training step")
    assert lived.startswith(f"{LIFE} (few_shot): RuntimeError: ToyCheats raised StopIteration in a training step")


@pytest.mark.slow
def test_who_only_asks_whether_there_is_a_label_scores_as_an_honest_one(bench):
    honest, asking = bench("check", "toy_cheats"), bench("check", "toy_cheats", "method.how=maybe_label")
    assert honest == asking
    assert (honest.code, broken(honest.out)) == (0, [])


@pytest.mark.slow
def test_a_method_that_alters_the_clip_does_not_spoil_the_next_check(bench):
    assert bench("check", "toy_cheats", "method.how=alter").code == 1
    assert bench("check", "toy_cheats").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nosuch"], "unknown method 'nosuch'. Allowed: "),
        (["toy_mena"], "unknown method 'toy_mena'. Did you mean 'toy_mean'? Allowed: "),
        (["toy_mean", "method.kind=cube"], "unknown method.toy_mean.kind (command line) 'cube'. "),
        (["toy_mean", "scale=2"], "a check takes words of the form method.key=value alone; got scale."),
        (
            ["toy_mean", "backbone=vit_l_14_336"],
            "a check takes words of the form method.key=value alone; got backbone.",
        ),
        (["toy_mean", "method.faprompt.lr=1"], "method.faprompt.lr (command line) sets a method that does not run"),
    ],
)
def test_a_wrong_word_is_one_sentence(bench, words, said):
    done = bench("check", *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {said}")
    assert done.err.count("\n") == 1


@dataclass(kw_only=True)
class OtherConfig:
    scale: float = 1.0
    sides: tuple[int, int] = (1, 2)  # the source has any length
    kind: str = "abs"
    pause: float = 0.0


def with_maps(maps):
    return Prediction(maps.amax(dim=(1, 2)), maps)


def sees_the_mask(self, batch, batch_idx, dataloader_idx=0):
    """Marks the pixels that a mask beside the image marks, where there is one."""
    path, _ = self.trainer.test_dataloaders.dataset.images[int(batch.indices[0])]
    mask = path.parents[2] / "ground_truth" / "broken" / f"{path.stem}_mask.png"
    there = path.parent.name == "broken" and mask.exists()
    self.seen = torch.from_numpy(np.array(Image.open(mask))) / 255 if there else 0


def a_part_of_the_clip(self, shots, category):
    self.register_buffer("kept", self.backbone.clip.visual.conv1.weight.detach()[1:])


def zeroes_the_clip(self, shots, category):
    self.backbone.clip.visual.conv1.weight.data.zero_()


def has_a_parameter(self, shots, category):
    self.w = nn.Parameter(torch.ones(1))


WORDS_OF = candidates.WORDS
REMEMBERED = []  # by all instances, as a class attribute would


def remembers_for_all(self, shots, category):
    REMEMBERED.append(shots.mean(dim=0))
    self.means[category] = torch.stack(REMEMBERED).mean(dim=0)


#: What is said of a method → the promise that it breaks, and what makes toy_mean such a one.
BREAKS = {
    "paper must be a literal of the class": (contract.literals_are_the_class, {"paper": "https://example.org/other"}),
    "the length of sides is 2 in the class and None": (contract.settings_are_the_config, {"Config": OtherConfig}),
    "predict takes images and categories; got .*labels": (
        contract.predict_sees_no_label,
        {"predict": lambda self, images, categories, labels=None: None},
    ),
    "test_step belongs to the base class": (
        contract.predict_sees_no_label,
        {"test_step": lambda self, batch, batch_idx: None},
    ),
    "see_shots belongs to the base class": (
        contract.predict_sees_no_label,
        {"see_shots": lambda self, data: None},
    ),
    "scores depend on the category of a test image, which `needs` does not name": (
        contract.needs_what_it_says,
        {"needs": ()},
    ),
    "scores with kind=square depend on the category": (
        contract.needs_what_it_says,
        {"needs": ("category if kind=abs",)},
    ),
    "scores and maps must be finite": (
        contract.scores_are_finite,
        {"predict": lambda self, images, _: with_maps(images.mean(1) * torch.nan)},
    ),
    "must not all have the score 1": (
        contract.scores_are_finite,
        {"predict": lambda self, images, _: with_maps(images.mean(1) * 0 + 1)},
    ),
    "must not all have the score 0": (
        contract.scores_are_finite,
        {"predict": lambda _, x, c: Prediction(x[:, 0, 0, 0] * 0, x[:, 0])},
    ),
    "Scalars are not close": (
        contract.scores_need_no_other_image,
        {"predict": lambda self, images, _: with_maps(images.mean(1) / images.mean())},
    ),
    "depend on the other test images, as `transductive` says": (
        contract.scores_need_no_other_image,
        {"transductive": True},
    ),
    "Tensor-likes are not close": (
        contract.other_categories_change_nothing,
        {"adapt": lambda self, shots, category: self.means.update(dict.fromkeys(self.categories, shots.mean(0)))},
    ),
    "a tensor of the CLIP would be in the checkpoint": (contract.owns_no_backbone, {"adapt": a_part_of_the_clip}),
    "must have no parameters": (
        contract.loss_trains_its_own,
        {"adapt": lambda self, *_: setattr(self, "w", nn.Parameter(torch.ones(1)))},
    ),
    r"predict must return a Prediction\(score, map\), got Tensor": (
        contract.scores_are_finite,
        {"predict": lambda self, images, _: images.mean((1, 2, 3))},
    ),
    "which `needs` does not name: KeyError: 'a category never heard of'": (
        contract.needs_what_it_says,
        {"needs": (), "predict": lambda self, images, keys: with_maps(images.mean(1) + 0 * len(WORDS_OF[keys[0]]))},
    ),
    "it asks for the text tower, which `needs` does not name: ": (
        contract.needs_what_it_says,
        {"predict": lambda self, images, _: with_maps(images.mean(1) + ensemble(self.backbone, ["a nut"]).sum())},
    ),
    "it is fitted on 'shots', as fits_on says, and has no parameter to train: make one": (
        contract.loss_trains_its_own,
        {"fits_on": "shots", "max_epochs": 1, "loss": lambda self, batch: batch.image.mean()},
    ),
    "the loss must depend on a parameter; got None": (
        contract.loss_trains_its_own,
        {"fits_on": "shots", "max_epochs": 1, "adapt": has_a_parameter, "loss": lambda self, batch: None},
    ),
    "must define no loss": (contract.loss_trains_its_own, {"loss": lambda self, batch: batch.image.mean()}),
    r"differs .*scores 0\.50": (
        contract.scores_ignore_the_truth,
        {
            "on_test_batch_start": sees_the_mask,
            "predict": lambda self, images, _: Prediction(
                images.mean((1, 2, 3)), images.mean(1) + getattr(self, "seen", 0)
            ),
        },
    ),
    r"differs .*scores 0\.98": (
        contract.scores_ignore_the_truth,
        {
            "on_test_batch_start": sees_the_mask,
            "predict": lambda self, images, _: with_maps(images.mean(1) + 1e-6 * getattr(self, "seen", 0)),
        },
    ),
    r"differs .*scores 0\.98.* and 2\.98": (
        contract.scores_ignore_the_truth,
        {
            "on_test_batch_start": lambda self, batch, batch_idx: setattr(self, "at", batch_idx),
            "predict": lambda self, images, _: with_maps(images.mean(1) + getattr(self, "at", 0)),
        },
    ),
    "a reloaded checkpoint and what was saved give different scores": (
        contract.lives_under_a_plain_trainer,
        {"on_load_checkpoint": Method.on_load_checkpoint},
    ),
    "Trainer.test and bench run give different scores": (
        contract.lives_under_a_plain_trainer,
        {"on_fit_start": lambda self: None, "on_test_start": lambda self: None},
    ),
    "they share a state": (contract.a_second_one_starts_anew, {"adapt": remembers_for_all}),
    "conv1.weight was altered": (contract.backbone_is_left_alone, {"adapt": zeroes_the_clip}),
}


@pytest.mark.slow
@pytest.mark.parametrize("why", BREAKS)
def test_every_promise_can_be_broken(monkeypatch, why):
    promise, members = BREAKS[why]
    kind = import_module("toy_methods.toy_mean").ToyMean
    for member, value in members.items():
        monkeypatch.setattr(kind, member, value, raising=False)
    candidates.lend.cache_clear()
    (candidate,) = [each for each in candidates.candidates("toy_mean") if each.protocol == "multi_class"]
    if promise is contract.backbone_is_left_alone:
        candidate.prepare()  # what counts is what the CLIP was at first: a weight that is zero now stays zero
    with pytest.raises(AssertionError, match=why):
        promise(candidate)
    candidates.lend.cache_clear()


@pytest.mark.slow
def test_a_fit_of_nothing_is_refused_where_it_begins(monkeypatch):
    """Lightning would run it without an optimizer, or with one that knows no parameter."""
    kind = import_module("toy_methods.toy_learns").ToyLearns
    monkeypatch.setattr(kind, "__init__", Method.__init__)
    monkeypatch.setattr(kind, "configure_optimizers", lambda self: torch.optim.Adam(self.parameters()))
    (candidate,) = candidates.candidates("toy_learns")
    with pytest.raises(ValueError, match="ToyLearns is fitted on 'shots', as fits_on says, and has no parameter"):
        contract.lives_under_a_plain_trainer(candidate)


def test_an_error_of_the_method_tells_its_line(monkeypatch, bench):
    path = registry.method("toy_breaks").path
    line = next(i for i, text in enumerate(path.read_text().splitlines(), 1) if "broken on purpose" in text)
    done = bench("check", "toy_breaks")
    assert f"RuntimeError: broken on purpose ({path}, line {line})" in done.out
    assert "Traceback" not in done.out + done.err


def test_the_breaks_are_of_all_promises():
    assert {promise for promise, _ in BREAKS.values()} == {promise.check for promise in contract.PROMISES}
