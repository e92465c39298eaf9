"""From a PNG on the disk to what the released codes of FAPrompt and PromptAD made of the same pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from datamodules.components.reading import read_image
from tests.support.recorded_clip import build_backbone, read_fixture
from tests.support.recorded_faprompt import build_method

FIXTURES = Path(__file__).parents[1] / "fixtures"
ULP = {"atol": 5e-7, "rtol": 0}  # of normalised float32, up to 2.2 in size: two units in the last place
GREY_LEVEL = 1 / 255
FORWARD = {"atol": 2e-5, "rtol": 0}


@pytest.fixture(scope="module")
def faprompt():
    return read_fixture(FIXTURES / "faprompt.npz")


@pytest.fixture
def images(faprompt, tmp_path):
    """The recorded pixels, written as PNG and read by the suite."""
    config, recorded = faprompt
    paths = [tmp_path / f"{i}.png" for i in range(len(recorded["data/raw_image"]))]
    for path, pixels in zip(paths, recorded["data/raw_image"], strict=True):
        Image.fromarray(pixels.numpy()).save(path)
    return torch.stack([read_image(path, config["image_size"]) for path in paths])


def normalise(images, config):
    mean, std = (torch.tensor(config[f"preprocess_{name}"]).view(3, 1, 1) for name in ("mean", "std"))
    return (images - mean) / std


def test_faprompt_images(faprompt, images):
    config, recorded = faprompt
    assert_close(normalise(images, config), recorded["data/image"], **ULP)


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "selection"), [("official", "first"), ("topk", "topk")])
def test_faprompt_scores(faprompt, images, variant, selection):
    config, recorded = faprompt
    method = build_method(build_backbone(recorded, config), recorded, config, selection).eval()
    prediction = method(images, ["object"] * len(images))
    assert_close(prediction.score, recorded[f"{variant}/score/image"], **FORWARD)
    assert_close(prediction.anomaly_map, recorded[f"{variant}/map/final"], **FORWARD)


def test_promptad_images(tmp_path):
    """The release enlarges to 1024 pixels before it shrinks, which is worth one grey level here."""
    with np.load(FIXTURES / "promptad.npz") as file:
        config = json.loads(str(file["config_json"]))
        pixels, shot, test = file["pre_bgr_u8"][..., ::-1], file["pre_train_x"], file["pre_test_x"]
    Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "shot.png")
    read = read_image(tmp_path / "shot.png", config["image_size"])
    std = torch.tensor(config["preprocess_std"]).view(3, 1, 1)
    allowed = {"atol": 1.001 * GREY_LEVEL, "rtol": 0}
    assert_close(normalise(read, config) * std, torch.from_numpy(shot) * std, **allowed)
    # Test images keep OpenCV's order of channels there: `test_channels="bgr"` repeats it.
    assert_close(normalise(read.flip(0), config) * std, torch.from_numpy(test) * std, **allowed)
    assert (normalise(read, config) - torch.from_numpy(test)).abs().max() > 0.4
