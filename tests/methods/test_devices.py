"""Every method on a GPU that is not there: no two devices meet, and nothing waits for a value.

Real are the CPU's tensors only. What a method does there by design runs there: token ids and windows, and AnoPLe's
simulation of anomalies, which is a loader's work. `backward` needs a real device: `tests/gpu` has it.
"""

import pytest
import torch
from imaginary_gpu import DEVICE, imaginary_gpu
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from benchmark.contract import candidates, promises
from benchmark.request import registry
from benchmark.request.protocols import PROTOCOLS
from datamodules.components.sample import Batch
from methods.components.base import Method


def first_candidates():
    """Each method in its first protocol with shots and in its first without: in others it does the same."""
    for name in registry.names("method"):
        found = {PROTOCOLS[each.protocol].uses_shots: each for each in reversed(candidates.candidates(name))}
        yield from found.values()


CANDIDATES = list(first_candidates())
FITTED = [each for each in CANDIDATES if each.facts.fits_on != "nothing"]
VARIANTS = {
    "anople": ("method.vv_attention=true", "method.image_texts=all", "method.memory_features=plain"),
    "faprompt": ("method.prior_selection=first", "method.round_deep_prompts=true"),
    "patchcore": ("method.image_score=reweighted_memory", "method.n_neighbours=3"),
}
#: Banks that every memory has.
BANKS = ("pooled", "retrieved")
#: Choices of texts that do not read the label.
TEXTS = ("retrieved", "argmax")
#: What torch raises where a shape or a value is unknown, and where two devices meet; the last is our own.
RAISED = (DynamicOutputShapeException, DataDependentOutputException, RuntimeError)
pytestmark = pytest.mark.filterwarnings("ignore:.*CUDA is not available.*", "ignore:.*data pointer of FakeTensor.*")


def words(candidate):
    return f"{candidate.name}-{candidate.protocol}"


@pytest.fixture(autouse=True)
def own_backbone(monkeypatch):
    """A CLIP that moves to the GPU with the method and is nobody else's."""
    loan = candidates.Loan(candidates.small_backbone(), None)
    monkeypatch.setattr(candidates, "lend", lambda: loan)
    return loan.backbone


def show(method, candidate):
    """Let it adapt to shots that lie on the GPU."""
    if PROTOCOLS[candidate.protocol].uses_shots:
        for category in candidate.categories:
            method.adapt(candidates.noise_images(2).to(DEVICE), category)


def training_batch(method: Method, kind: str = "") -> Batch:
    batch = promises._training_batch(method)
    if kind:  # as AnoPLe's loader simulates anomalies, in images of twice the side
        image, mask = (each.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2) for each in batch[:2])
        mask[:2, 16:80, 32:64] = True
        kinds = [kind, kind, "normal", "normal"]
        batch = batch._replace(image=image, mask=mask, label=mask.any(dim=(1, 2)), simulated=kinds)
    return batch._replace(**{key: getattr(batch, key).to(DEVICE) for key in ("image", "mask", "label")})


@pytest.mark.slow
@pytest.mark.parametrize("candidate", CANDIDATES, ids=words)
def test_adapts_and_predicts(candidate, own_backbone):
    method = candidate.build(candidate.categories)
    with imaginary_gpu(own_backbone, method), torch.no_grad():
        show(method, candidate)
        for _ in range(2):  # the second finds what the first kept
            found = method.predict(candidates.noise_images(3).to(DEVICE), candidate.keys(3))
        assert (found.score.shape, found.score.device) == ((3,), DEVICE)
        assert (found.anomaly_map.shape[0], found.anomaly_map.device) == (3, DEVICE)


@pytest.mark.slow
@pytest.mark.parametrize("candidate", [each for each in CANDIDATES if PROTOCOLS[each.protocol].uses_shots], ids=words)
def test_what_it_remembers_follows_to_another_device(candidate, own_backbone):
    method, images, keys = candidate.prepare(), candidates.noise_images(2), candidate.keys(2)
    method(images, keys)  # keeps what it keeps on the CPU
    with imaginary_gpu(own_backbone, method), torch.no_grad():
        assert method.predict(images.to(DEVICE), keys).score.device == DEVICE


@pytest.mark.slow
@pytest.mark.parametrize("candidate", FITTED, ids=words)
def test_loses(candidate, own_backbone):
    method = candidate.build(candidate.categories).train()
    with imaginary_gpu(own_backbone, method):
        with torch.no_grad():
            show(method, candidate)
        loss = method.loss(training_batch(method))
        assert (loss.shape, loss.device, loss.requires_grad) == ((), DEVICE, True)


@pytest.mark.slow
def test_simulated_anomalies_and_the_one_place_that_waits(own_backbone):
    """Latent noise is sampled on the CPU, for masked tokens alone, to be the same on all devices: they are counted."""
    method = candidates.candidates("anople")[0].build(list(candidates.WORDS)).train()
    with imaginary_gpu(own_backbone, method):
        assert method.loss(training_batch(method, "pixel")).device == DEVICE
        with pytest.raises(DynamicOutputShapeException, match="nonzero"):
            method.loss(training_batch(method, "latent"))


def variants():
    for name, words in VARIANTS.items():
        yield from candidates.candidates(name, words)[:1]
    for name in registry.names("method"):
        settings = registry.method(name).settings
        for bank in BANKS if "bank" in settings else ():
            yield from candidates.candidates(name, [f"method.bank={bank}"])[:1]
        for text in TEXTS if "text" in settings else ():
            found = candidates.candidates(name, [f"method.text={text}"])
            yield from (each for each in found if each.protocol == "multi_class")


def is_alike(candidate):
    """Whether another variant goes nearly the same way: both retrieve, and a pooled bank is one of one category."""
    return candidate.settings.get("bank") == "pooled" or candidate.settings.get("text") == "retrieved"


@pytest.mark.slow
@pytest.mark.parametrize(
    "candidate",
    [pytest.param(each, marks=[pytest.mark.campaign] * is_alike(each)) for each in variants()],
    ids=lambda each: f"{each.name}-{each.settings.get('bank')}-{each.settings.get('text')}",
)
def test_variants(candidate, own_backbone):
    test_adapts_and_predicts(candidate, own_backbone)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda images: images[images.mean(dim=(1, 2, 3)) > 0.5],
        lambda images: images.amax().item(),
        lambda images: int(images.sum()),
        lambda images: images if images.any() else 0,
        lambda images: images.tolist(),
        lambda images: images.cpu().numpy(),
        lambda images: images + torch.ones(3, 3, 64, 64),
        lambda images: torch.where(torch.ones(64, dtype=torch.bool), images, 0),
    ],
)
def test_what_waits_or_mixes_devices_raises(wrong, own_backbone):
    images = candidates.noise_images(3)
    assert wrong(images) is not None  # no error on one real device
    with imaginary_gpu():
        there = images.to(DEVICE)
        with pytest.raises(RAISED):
            wrong(there)


def test_the_cpu_is_real():
    with imaginary_gpu():
        assert int(torch.arange(4).max()) == 3
        index = torch.tensor([0, 2])
        assert candidates.noise_images(3).to(DEVICE)[index].shape[0] == 2
