"""Float32 on a GPU is IEEE float32 unless "tf32" is asked for, and towers answer as on the CPU."""

import pytest
import torch
import torch.nn.functional as F

from benchmark.contract.candidates import noise_images, small_backbone
from methods.components.clip.precision import read_switches, set_arithmetic

pytestmark = pytest.mark.gpu
IEEE = 2e-5  # float32 errs by about 1e-6 here, TF32 by 5e-4


def errors(gpu):
    """Largest relative errors of a product and of a convolution of 1,024 terms."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 1024, generator=generator) for _ in range(2))
    images, filters = torch.randn(4, 64, 16, 16, generator=generator), torch.randn(32, 64, 4, 4, generator=generator)
    found = (a.to(gpu) @ b.to(gpu).T).cpu(), F.conv2d(images.to(gpu), filters.to(gpu)).cpu()
    exact = a.double() @ b.double().T, F.conv2d(images.double(), filters.double())
    return [float((one - other).abs().max() / other.abs().max()) for one, other in zip(found, exact, strict=True)]


@pytest.fixture
def arithmetic():
    yield set_arithmetic
    set_arithmetic("fp32")


def test_nothing_is_rounded_to_tf32_unless_asked(gpu, arithmetic):
    for precision in ("fp32", "bf16", "fp16"):
        arithmetic(precision)
        assert max(errors(gpu)) < IEEE, (precision, read_switches())
    if torch.cuda.get_device_capability(gpu) < (8, 0):
        pytest.skip("this GPU has no TF32")
    arithmetic("tf32")
    assert min(errors(gpu)) > IEEE


def test_towers_answer_as_on_the_cpu(gpu):
    images, texts = noise_images(4), ["a photo of a bottle", "a broken screw"]
    cpu, there = small_backbone(), small_backbone().to(gpu)
    asked = {"layers": (2, 8), "taps": (4,), "stream": "vv_from_ordinary", "vv_from": 2}
    for wanted, found in zip(
        cpu.encode_image(images, **asked)[:3], there.encode_image(images.to(gpu), **asked)[:3], strict=True
    ):
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-4, atol=1e-5)
    wanted, found = (each.encode_text(each.tokenize(texts)) for each in (cpu, there))
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-4, atol=1e-5)


def test_weights_have_the_same_hash_there(gpu):
    backbone = small_backbone()
    assert backbone.weights_hash == small_backbone().to(gpu).weights_hash
