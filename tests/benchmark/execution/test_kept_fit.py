"""What is kept of a fit says of images, in a new process, what the fitted method said, whatever the method."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmark.contract.candidates import candidates, lend, noise_images
from benchmark.execution import kept_fit
from benchmark.execution.kept_fit import dump, read
from benchmark.request import registry
from benchmark.request.protocols import PROTOCOLS
from methods.components.base import Method
from methods.components.clip.backbone import BackboneError

FITTED = [each for name in registry.names("method") for each in candidates(name) if PROTOCOLS[each.protocol].uses_shots]
AGAIN = """
import sys, torch
from pathlib import Path
from safetensors.torch import load_file, save_file
from benchmark.contract.candidates import candidates, noise_images
from benchmark.execution.kept_fit import read, restore

folder, said = Path(sys.argv[1]), {}
for path in sorted(folder.glob("*.fit")):
    name, protocol = path.stem.split("@")
    (candidate,) = [each for each in candidates(name) if each.protocol == protocol]
    first = candidate.build(candidate.categories)
    torch.manual_seed(99)
    method = candidate.cls(first.backbone, first.categories)
    learnt = folder / f"{path.stem}.learnt"
    if learnt.exists():
        method.load_state_dict(load_file(learnt))
    restore(method, read(path, "cell"))
    with torch.inference_mode():
        prediction = method.eval()(noise_images(4), candidate.keys(4))
    said |= {f"{path.stem}/score": prediction.score, f"{path.stem}/map": prediction.anomaly_map.contiguous()}
save_file(said, folder / "said.safetensors")
"""


def shaken(candidate):
    """A method that has seen its shots and whose parameters no initialisation gives."""
    method = candidate.prepare()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))
    return method


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """What each method says before it is kept, and after, in another process."""
    folder, said = tmp_path_factory.mktemp("kept"), {}
    for candidate in FITTED:
        method, name = shaken(candidate), f"{candidate.name}@{candidate.protocol}"
        (folder / f"{name}.fit").write_bytes(dump(method, "cell", 2**30))
        if method.fits_on == "auxiliary":
            save_file(dict(method.state_dict()), folder / f"{name}.learnt")
        with torch.inference_mode():
            prediction = method(noise_images(4), candidate.keys(4))
        said |= {f"{name}/score": prediction.score, f"{name}/map": prediction.anomaly_map}
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", AGAIN, str(folder)], check=True, cwd=root, timeout=280)
    return said, load_file(folder / "said.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("candidate", FITTED, ids=lambda each: f"{each.name}-{each.protocol}")
def test_a_kept_fit_predicts_the_same_to_the_last_bit_in_a_new_process(twice, candidate):
    before, after = twice
    for what in ("score", "map"):
        key = f"{candidate.name}@{candidate.protocol}/{what}"
        assert torch.equal(before[key], after[key]), key


@pytest.fixture(scope="module")
def kept():
    (candidate,) = [each for each in FITTED if (each.name, each.protocol) == ("nearest_patch", "multi_class")]
    return candidate, dump(candidate.prepare(), "cell", 2**30)


@pytest.mark.parametrize("damage", ["cut", "flipped", "of another cell", "foreign", "other schema"])
def test_a_file_that_is_not_whole_and_ours_is_not_used(kept, tmp_path, damage, monkeypatch):
    _, content = kept
    path = tmp_path / "fit"
    flipped = bytearray(content)
    flipped[-3] ^= 1
    damaged = {"cut": content[:-9], "flipped": bytes(flipped), "foreign": b"{}", "of another cell": content}
    path.write_bytes(damaged.get(damage, content))
    assert read(path, "cell") is None or damage in ("of another cell", "other schema")
    if damage == "other schema":
        monkeypatch.setattr(kept_fit, "SCHEMA", "2")
    assert read(path, "another" if damage == "of another cell" else "cell") is None
    path.write_bytes(content)
    monkeypatch.undo()
    assert read(path, "cell") is not None
    assert read(tmp_path / "none", "cell") is None


def test_what_takes_more_than_is_allowed_is_not_kept(kept):
    candidate, content = kept
    method = candidate.prepare()
    features = [kind for kinds in method.memory.remembered()["features"].values() for kind in kinds]
    size = sum(kind.nbytes for kind in [*features, *method.memory.remembered()["images"].values()])
    assert len(dump(method, "cell", size)) == len(content)
    assert dump(method, "cell", size - 1) is None


def test_a_fit_of_another_clip_is_refused(kept, tmp_path):
    candidate, content = kept
    (tmp_path / "fit").write_bytes(content)
    other = lend().backbone
    method = candidate.build(candidate.categories)
    checkpoint = read(tmp_path / "fit", "cell")
    checkpoint["backbone"]["weights_sha256"] = "0" * 64
    with pytest.raises(BackboneError, match=other.weights_hash):
        kept_fit.restore(method, checkpoint)


class Odd(Method):
    protocols = ("few_shot",)

    def predict(self, images, categories):
        raise NotImplementedError

    def on_save_checkpoint(self, checkpoint):
        super().on_save_checkpoint(checkpoint)
        checkpoint["odd"] = {1: 2}


def test_what_is_neither_tensors_nor_plain_is_named():
    with pytest.raises(TypeError, match=r"got \{1: 2\}"):
        dump(Odd(lend().backbone, {"nut": "nut"}), "cell", 2**30)


def test_plain_values_come_back_as_they_were(tmp_path):
    class Full(Odd):
        def on_save_checkpoint(self, checkpoint):
            checkpoint["odd"] = {"a": [1, 2.5, None, True, "x"], "b": {"c": torch.arange(3)}, "tensor": "t"}

    (tmp_path / "fit").write_bytes(dump(Full(lend().backbone, {"nut": "nut"}), "cell", 2**30))
    found = read(tmp_path / "fit", "cell")["odd"]
    assert torch.equal(found["b"].pop("c"), torch.arange(3))
    assert json.dumps(found) == json.dumps({"a": [1, 2.5, None, True, "x"], "b": {}, "tensor": "t"})
