"""How long every method is fitted, pinned: another length is another method, and no other test would notice."""

from pathlib import Path
from typing import NamedTuple

import pytest

from benchmark.request import registry
from methods.components.base import Method

METHODS = Path(__file__).parents[2] / "methods"
NAMES = [name for name in registry.names("method") if registry.method(name).path.is_relative_to(METHODS)]


class Length(NamedTuple):
    epochs: int
    steps: int | None = None  # of a fit that resamples its batches
    batch_size: int | None = None  # images


LENGTHS = {
    "af_clip": Length(2, batch_size=8),  # main.py of Faustinaqq/AF-CLIP bb7edec
    # zqhang/AnomalyCLIP 45ed4dd: train.sh fits 15 epochs, test.sh takes the checkpoint of the last.
    "anomalyclip": Length(15, batch_size=8),
    "anople": Length(1, steps=600, batch_size=8),  # unknown: neither paper nor code was at hand
    "anovl": Length(0),  # five steps on each test image are its own affair
    "april_gan": Length(3, batch_size=8),  # train.sh of ByChelsea/VAND-APRIL-GAN on MVTec AD; 15 on VisA
    "coop": Length(15, batch_size=32),  # unknown: no detector is released; batches are KaiyangZhou/CoOp's
    # mala-lab/FAPrompt 7e9d9d2: train.sh fits 15 epochs without a schedule, test.sh takes the checkpoint of epoch 7.
    "faprompt": Length(7, batch_size=8),
    # RetoFan233/FineGrainedAD aa6b041, which fits the second head for 50. All shots are one batch, as in PromptAD.
    "finegrainedad": Length(100, batch_size=100),
    "linear_heads": Length(15, batch_size=8),  # unknown: UniADet has no code; as AnomalyCLIP
    "nearest_patch": Length(0),
    "patchcore": Length(0),
    "promptad": Length(100, batch_size=400),  # FuNz-0/PromptAD 0f86ce0; all shots are one batch
    "trivial_colour_knn": Length(0),
    "trivial_colour_outlier": Length(0),
    "trivial_pixel_difference": Length(0),
    "winclip": Length(0),
}


def test_every_method_has_a_length():
    assert sorted(NAMES) == sorted(LENGTHS)


@pytest.mark.parametrize("name", NAMES)
def test_length_of_a_fit(name, backbone):
    facts = registry.method(name)
    defaults = {key: setting.default for key, setting in facts.settings.items()}
    assert Length(facts.max_epochs, defaults.get("steps"), defaults.get("batch_size")) == LENGTHS[name]
    method = registry.load(facts, Method)(backbone, {"bottle": "bottle"})
    assert method.max_epochs == LENGTHS[name].epochs
    assert method.steps == (LENGTHS[name].steps or 0)
    assert (method.fits_on == "nothing") == (LENGTHS[name].epochs == 0)
