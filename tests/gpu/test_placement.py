"""Every method learns and predicts on a GPU, where all that it gives lies."""

import pytest
import torch

from benchmark.contract import candidates, promises
from benchmark.request import registry
from benchmark.request.protocols import PROTOCOLS

pytestmark = pytest.mark.gpu
CANDIDATES = [each for name in registry.names("method") for each in candidates.candidates(name)]


def on(device, candidate, monkeypatch, precision="fp32"):
    """The method on a device, with a CLIP of its own, once it has seen its shots."""
    small = candidates.small_backbone()
    own = type(small)(small.clip, small.tokenizer, precision=precision).to(device)
    monkeypatch.setattr(candidates, "lend", lambda: candidates.Loan(own, None))
    method = candidate.build(candidate.categories).to(device)
    if PROTOCOLS[candidate.protocol].uses_shots:
        with torch.no_grad():
            for seed, category in enumerate(candidate.categories):
                method.adapt(candidates.noise_images(2, seed).to(device), category)
    return method


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda each: f"{each.name}-{each.protocol}")
def test_learns_and_predicts_there(candidate, gpu, monkeypatch):
    method = on(gpu, candidate, monkeypatch)
    if method.fits_on != "nothing":
        batch = promises._training_batch(method)
        batch = batch._replace(**{key: getattr(batch, key).to(gpu) for key in ("image", "mask", "label")})
        loss = method.train().loss(batch)
        loss.backward()
        learnt = [each for each in method.parameters() if each.requires_grad]
        assert loss.device == gpu
        assert {each.grad.device for each in learnt} == {gpu}
        assert all(each.grad.isfinite().all() for each in learnt)
    found = method.eval()(candidates.noise_images(4).to(gpu), candidate.keys(4))
    assert {found.score.device, found.anomaly_map.device} == {gpu}
    assert found.score.isfinite().all()
    assert found.anomaly_map.isfinite().all()


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda each: f"{each.name}-{each.protocol}")
def test_scores_as_on_the_cpu(candidate, gpu, monkeypatch):
    images, keys = candidates.noise_images(4), candidate.keys(4)
    wanted = on(torch.device("cpu"), candidate, monkeypatch)(images, keys)
    found = on(gpu, candidate, monkeypatch)(images.to(gpu), keys)
    torch.testing.assert_close(found.score.cpu(), wanted.score, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.anomaly_map.cpu(), wanted.anomaly_map, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda each: f"{each.name}-{each.protocol}")
def test_bf16_gives_float32_near_float32(candidate, gpu, monkeypatch):
    images, keys = candidates.noise_images(4).to(gpu), candidate.keys(4)
    whole = on(gpu, candidate, monkeypatch)(images, keys)
    low = on(gpu, candidate, monkeypatch, "bf16")(images, keys)
    assert low.score.dtype == low.anomaly_map.dtype == torch.float32
    spread = whole.anomaly_map.amax() - whole.anomaly_map.amin()
    assert (low.anomaly_map - whole.anomaly_map).abs().mean() <= 0.2 * spread
