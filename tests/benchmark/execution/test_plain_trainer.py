"""What a plain Trainer does with a method and a datamodule, and what it refuses; `bench check` compares the scores."""

import open_clip
import pytest
import torch
from lightning.pytorch import LightningDataModule
from twins import VISA_ALL, write_mvtec_ad, write_visa

from benchmark.contract.candidates import SIZE, plain_trainer, small_backbone
from benchmark.execution.evaluator import Evaluator
from benchmark.metrics.table import metric_names
from datamodules.mvtec_ad import MVTecAD
from datamodules.visa import VisA
from methods.anomalyclip import AnomalyCLIP
from methods.components.base import Method
from methods.components.clip.backbone import BackboneError, CLIPBackbone
from methods.components.prediction import Prediction
from methods.faprompt import FAPrompt
from methods.nearest_patch import NearestPatch
from methods.promptad import PromptAD
from methods.winclip import WinCLIP

WORDS = {"bottle": "bottle", "metal_nut": "metal nut"}


@pytest.fixture(scope="module")
def mvtec(tmp_path_factory):
    root = write_mvtec_ad(tmp_path_factory.mktemp("twin") / "mvtec_ad", list(WORDS))
    return lambda categories=("bottle",), **settings: MVTecAD(root, categories, image_size=SIZE, **settings)


@pytest.fixture(scope="module")
def visa(tmp_path_factory):
    root = write_visa(tmp_path_factory.mktemp("twin") / "visa", VISA_ALL)
    return lambda categories=("candle",): VisA(root, categories, image_size=SIZE, batch_size=3)


def few(cls, backbone, **settings):
    method = cls(backbone, WORDS, cls.Config(**settings))
    method.max_epochs = min(method.max_epochs, 1)
    return method


def fit(method, data, **settings):
    plain_trainer(max_epochs=method.max_epochs, **settings).fit(method, data)
    return method


def score(method, data):
    return torch.cat([part.score for part in plain_trainer().predict(method, data)])


def test_a_fit_on_an_auxiliary_set_sees_normal_and_anomalous_images_with_masks(backbone, visa, monkeypatch):
    """The measured fault: it trained on normal images alone, without a word."""
    batches, method = [], few(FAPrompt, backbone)
    loss = method.loss
    monkeypatch.setattr(method, "loss", lambda batch: batches.append(batch) or loss(batch))
    fit(method, visa())
    labels = torch.cat([batch.label for batch in batches])
    assert (int(labels.sum()), len(labels)) == (4, 7)
    assert all(torch.equal(batch.mask.flatten(1).any(dim=1), batch.label) for batch in batches)
    assert {len(batch.label) for batch in batches} == {7}  # of 8 images a step, the method's, not the datamodule's
    assert method.shots_seen == {}


def test_what_was_fitted_on_test_images_is_not_tested_on_them(backbone, visa, mvtec):
    method = fit(few(FAPrompt, backbone), visa(("candle", "pcb1")))
    with pytest.raises(ValueError, match=r"was fitted on the test images of candle in .*tested on another data set"):
        plain_trainer().test(method, visa(("candle", "cashew")))
    plain_trainer().test(method, visa(("cashew",)), verbose=False)
    plain_trainer().test(method, mvtec(), verbose=False)


def test_a_method_is_not_tested_with_other_shots_than_it_was_fitted_on(backbone, mvtec):
    method = fit(few(PromptAD, backbone), mvtec(shots=1))
    with pytest.raises(ValueError, match=r"PromptAD was fitted on other shots of 'bottle'.*got bottle/train"):
        plain_trainer().test(method, mvtec(shots=2))
    with pytest.raises(ValueError, match="was fitted on other shots of 'bottle'"):
        plain_trainer().predict(method, mvtec(shots=1, seed=2))
    held_out = mvtec(("metal_nut",), shots=1)
    plain_trainer().test(method, held_out, verbose=False)
    assert [*method.shots_seen] == ["bottle", "metal_nut"]
    fit(method, mvtec(shots=2))  # a second fit may take others
    plain_trainer().test(method, mvtec(shots=2), verbose=False)


@pytest.mark.slow
def test_what_fits_nothing_takes_the_shots_of_the_datamodule_it_is_tested_on(backbone, mvtec):
    method = few(NearestPatch, backbone)
    one, two = (score(method, mvtec(shots=shots)) for shots in (1, 2))
    assert not torch.equal(one, two)
    assert torch.equal(one, score(few(NearestPatch, backbone), mvtec(shots=1)))
    without, zero = (score(few(WinCLIP, backbone), mvtec(shots=shots)) for shots in (1, 0))
    assert not torch.equal(without, zero)


def test_a_fit_of_what_learns_nothing_shows_it_the_shots(backbone, mvtec):
    method = fit(few(NearestPatch, backbone), mvtec(shots=1))
    assert [*method.shots_seen] == ["bottle"]
    fit(few(WinCLIP, backbone), mvtec())


class Remembers(Method["Remembers.Config"]):
    """Learns a factor for the shots that it remembers: a backward pass needs them."""

    paper, protocols, fits_on, max_epochs = "", ("few_shot",), "shots", 1

    def __init__(self, backbone, categories, config=None):
        super().__init__(backbone, categories, config)
        self.factor = torch.nn.Parameter(torch.ones(()))

    def adapt(self, shots, category):
        self.kept = shots

    def loss(self, batch):
        return (self.kept * self.factor).mean()

    def predict(self, images, categories):
        return Prediction(images.mean(dim=(1, 2, 3)), images.mean(dim=1))


def test_a_test_before_a_fit_leaves_nothing_that_a_fit_cannot_use(backbone, mvtec):
    """A test runs in inference mode, whose tensors no backward pass may keep."""
    method = Remembers(backbone, WORDS)
    plain_trainer().test(method, mvtec(shots=1), verbose=False)
    fit(method, mvtec(shots=1))
    assert method.factor != 1


def test_a_loader_without_a_datamodule_is_the_user_s(backbone, mvtec):
    data = mvtec(shots=1)
    method = few(NearestPatch, backbone)
    with pytest.raises(ValueError, match="No normal shots of 'bottle' were seen"):
        plain_trainer().predict(method, data.test_dataloader())
    method.adapt(data.shot_images("bottle"), "bottle")
    assert len(plain_trainer().predict(method, data.test_dataloader())) == 1


def test_another_module_is_trained_on_the_shots(mvtec):
    data = mvtec(shots=2)
    paths = [path for batch in data.train_dataloader() for path in batch.path]
    assert sorted(paths) == sorted(shot["path"] for shot in data.describe_shots("bottle"))


@pytest.fixture
def checkpoint(backbone, mvtec, tmp_path):
    method = few(NearestPatch, backbone, layers=(0.5,))
    trainer = plain_trainer()
    trainer.test(method, mvtec(shots=1), verbose=False)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def test_a_checkpoint_knows_settings_words_and_shots(backbone, mvtec, checkpoint):
    again = NearestPatch.load_from_checkpoint(checkpoint, backbone=backbone)
    assert again.config == NearestPatch.Config(layers=(0.5,))
    assert again.categories == WORDS
    assert again.shots_seen == {"bottle": {"image_size": SIZE, "shots": mvtec(shots=1).describe_shots("bottle")}}
    assert len(plain_trainer().predict(again, mvtec().test_dataloader())) == 1


def test_a_checkpoint_is_read_without_pickled_code(checkpoint):
    kept = torch.load(checkpoint, weights_only=True)
    assert {"memory", "shots_seen", "fitted_on", "backbone", "hyper_parameters"} <= kept.keys()


def test_a_checkpoint_refuses_another_clip(checkpoint):
    other = small_backbone()
    other.clip.visual.proj.data.mul_(2)
    with pytest.raises(BackboneError, match=r"checkpoint of NearestPatch needs the CLIP that it was made with"):
        NearestPatch.load_from_checkpoint(checkpoint, backbone=other)


def test_a_checkpoint_refuses_the_same_weights_with_another_activation(checkpoint):
    clip = small_backbone().clip
    for block in clip.visual.transformer.resblocks:
        block.mlp.gelu = open_clip.transformer.QuickGELU()
    with pytest.raises(BackboneError, match=r"'activation': 'gelu'.*; got .*'activation': 'quick_gelu'"):
        NearestPatch.load_from_checkpoint(checkpoint, backbone=CLIPBackbone(clip, open_clip.SimpleTokenizer()))


def test_the_evaluator_measures_what_a_transductive_method_makes_of_all_its_scores(backbone, mvtec, monkeypatch):
    """Here each score is turned round once the test is over."""

    def measured():
        plain_trainer(callbacks=[evaluator := Evaluator(32)]).test(few(WinCLIP, backbone), mvtec(), verbose=False)
        return evaluator.measured.metrics["bottle"]

    before = measured()
    monkeypatch.setattr(WinCLIP, "transductive", True)
    monkeypatch.setattr(WinCLIP, "rescore", lambda self, predicted: -predicted.score)
    after = measured()
    assert after["image_AUROC"].value == pytest.approx(1 - before["image_AUROC"].value)
    assert after["pixel_AUROC"] == before["pixel_AUROC"]


def test_the_evaluator_logs_each_category_and_the_mean(backbone, mvtec):
    method, evaluator = few(WinCLIP, backbone), Evaluator(32)
    (logged,) = plain_trainer(callbacks=[evaluator]).test(method, mvtec(list(WORDS)), verbose=False)
    for name in metric_names("image"):
        values = [evaluator.measured.metrics[category][name].value for category in WORDS]
        assert logged[name] == pytest.approx(sum(values) / 2, abs=1e-6)
        assert [logged[f"{category}/{name}"] for category in WORDS] == pytest.approx(values, abs=1e-6)
    assert evaluator.measured.counts["bottle"] == {"normal": 3, "anomalous": 4}


def test_the_evaluator_measures_all_images_or_none(backbone, mvtec):
    method, evaluator = few(WinCLIP, backbone), Evaluator(32)
    with pytest.warns(UserWarning, match="nothing is measured"):
        plain_trainer(callbacks=[evaluator], fast_dev_run=True).test(method, mvtec(batch_size=2), verbose=False)
    assert not hasattr(evaluator, "measured")
    with pytest.raises(ValueError, match=r"Evaluator reads the truth: Trainer\.test needs a datamodule"):
        plain_trainer(callbacks=[evaluator]).test(method, mvtec().test_dataloader(), verbose=False)


def test_a_foreign_datamodule_is_refused_by_the_evaluator(backbone, mvtec):
    class Foreign(LightningDataModule):
        def test_dataloader(self):
            return mvtec().test_dataloader()

    with pytest.raises(ValueError, match="needs a datamodule of this suite"):
        plain_trainer(callbacks=[Evaluator(32)]).test(few(WinCLIP, backbone), Foreign(), verbose=False)


def test_more_epochs_than_the_paper_s_are_the_user_s_choice(backbone, visa):
    method = few(AnomalyCLIP, backbone)
    trainer = plain_trainer(max_epochs=2)
    trainer.fit(method, visa())
    assert trainer.current_epoch == 2


def test_a_datamodule_that_was_not_prepared_says_so(mvtec, tmp_path):
    data = MVTecAD(tmp_path / "nowhere", ["bottle"], image_size=SIZE)
    with pytest.raises(Exception, match="does not exist or is no folder"):
        data.setup("test")
