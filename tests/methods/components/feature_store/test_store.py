"""The backbone answers the same with and without a feature store, whatever was in it before."""

import pytest
import torch

from methods.components.clip import image_tower
from methods.components.clip.backbone import BackboneError, Windows
from methods.components.feature_store.store import FeatureCounts, FeatureStore
from methods.nearest_patch import NearestPatch
from methods.winclip import WinCLIP

REQUESTS = {
    "class": {},
    "layers": {"layers": (8, 2)},
    "v-v of ordinary": {"layers": (3, 8), "stream": "vv_from_ordinary", "vv_from": 2},
    "v-v of itself": {"layers": (8,), "stream": "vv_from_itself"},
    "taps": {"taps": (5, 1)},
    "taps after attention": {"layers": (8,), "taps": (3,), "tap_point": "next_attention"},
    "no class norm": {"class_norm": False},
    "of any length": {"layers": (8,), "normalise": False},
}
WINDOWS = Windows(torch.tensor([[0, 1, 4, 5], [10, 11, 14, 15], [0, 5, 10, 15]]), (4, 4))
FIRST_TWO = Windows(WINDOWS.patches[:2], (4, 4))


def _images(n, *, seed=5, size=64):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def _assert_same(got, wanted):
    assert got.grid == wanted.grid
    for one, other in zip(got[:4], wanted[:4], strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype == torch.float32
        assert torch.equal(one, other)


def test_there_is_no_store_unless_one_is_set(backbone):
    assert backbone.store is None


@pytest.mark.parametrize("request_name", REQUESTS)
def test_same_bits_first_and_later(plain, stored, tmp_path, request_name):
    asked, images = REQUESTS[request_name], _images(3)
    wanted = plain.encode_image(images, **asked)
    _assert_same(stored.encode_image(images, **asked), wanted)
    _assert_same(stored.encode_image(images, **asked), wanted)
    assert stored.store.counts == FeatureCounts(hits=3, misses=3, evicted=0, damaged=0)
    stored.store = FeatureStore(tmp_path / "features", 2**28)  # as another process opens it
    _assert_same(stored.encode_image(images, **asked), wanted)
    assert stored.store.counts.hits == 3


def test_same_bits_of_windows(plain, stored):
    images = _images(2)
    wanted = plain.encode_windows(images, WINDOWS)
    for _ in range(2):
        assert torch.equal(stored.encode_windows(images, WINDOWS), wanted)
    assert stored.store.counts[:2] == (2, 2)
    assert torch.equal(stored.encode_windows(images, FIRST_TWO), plain.encode_windows(images, FIRST_TWO))
    assert stored.store.counts[:2] == (2, 4)


def test_only_unknown_images_are_computed_and_the_order_stays(plain, stored, monkeypatch):
    images, asked = _images(5), {"layers": (8, 3), "taps": (2,)}
    known = stored.encode_image(images[[3, 1]], **asked)
    sizes = []
    run = image_tower.run_image
    monkeypatch.setattr(image_tower, "run_image", lambda v, x, *more: sizes.append(len(x)) or run(v, x, *more))
    got = stored.encode_image(images, **asked)
    assert sizes == [3]
    stored.encode_image(images.flip(0), **asked)
    assert sizes == [3]
    wanted = plain.encode_image(images, **asked)
    for part, (one, other) in enumerate(zip(got[:4], wanted[:4], strict=True)):
        assert (one - other).abs().max() <= 1e-6
        rows = (one[[3, 1]], known[part]) if part == 0 else (one[:, [3, 1]], known[part])
        assert torch.equal(*rows)


@pytest.mark.slow
def test_scores_agree_whatever_batches_were_stored(plain, stored):
    images, asked = _images(6), {"layers": (8,), "stream": "vv_from_ordinary", "vv_from": 1}
    for size in (1, 2, 3):
        stored.encode_image(images[3 - size : 3], **asked)
    texts = plain.encode_text(plain.tokenize(["a normal object", "a damaged object"]))
    scores = [
        (100 * backbone.encode_image(images, **asked).patches @ texts.T).softmax(-1)[..., 1]
        for backbone in (plain, stored)
    ]
    assert stored.store.counts[:2] == (3 + 3, 6)
    assert (scores[0] - scores[1]).abs().max() <= 1e-5


@pytest.mark.slow
def test_prompts_prefix_and_edit_never_touch_the_store(plain, stored):
    images = _images(2)
    prompt = torch.randn(2, 48, generator=torch.Generator().manual_seed(0))
    for asked in ({"deep_prompts": [prompt]}, {"prefix": prompt}, {"patch_edit": (3, torch.relu)}):
        for _ in range(2):
            _assert_same(stored.encode_image(images, **asked), plain.encode_image(images, **asked))
    learnt = prompt.clone().requires_grad_()
    stored.encode_image(images, prefix=learnt).image[:, 0].sum().backward()
    assert learnt.grad.abs().sum() > 0
    assert stored.store.counts == FeatureCounts(0, 0, 0, 0)
    assert not stored.store.folder.exists()


def test_answers_of_inference_mode_serve_training_later(stored):
    images = _images(2)
    with torch.inference_mode():
        for _ in range(2):
            assert stored.encode_image(images, layers=(8,)).patches.is_inference()
    features = stored.encode_image(images, layers=(8,))
    assert not features.image.requires_grad
    weight = torch.ones(24, requires_grad=True)
    (features.patches * weight).sum().backward()
    torch.testing.assert_close(weight.grad, features.patches.sum((0, 1, 2)))
    assert stored.store.counts[:2] == (4, 2)


def test_an_answer_may_be_altered_by_its_caller(plain, stored):
    images, asked = _images(1), {"layers": (8,)}
    for _ in range(3):
        got = stored.encode_image(images, **asked)
        _assert_same(got, plain.encode_image(images, **asked))
        got.patches.zero_()


def test_layout_and_type_of_the_images_do_not_matter(plain, stored):
    images = _images(2).bfloat16()
    wanted = plain.encode_image(images)
    stored.encode_image(images.float().to(memory_format=torch.channels_last))
    stored.encode_image(images.double())
    assert (stored.encode_image(images).image - wanted.image).abs().max() <= 1e-6
    assert stored.store.counts[:2] == (4, 2)


def test_empty_batches_and_refusals_are_as_without_a_store(stored):
    assert stored.encode_image(_images(0), layers=(8,)).patches.shape == (1, 0, 16, 24)
    for images in (torch.zeros(3, 64, 64), torch.zeros(2, 3, 60, 64)):
        with pytest.raises(BackboneError, match=r"multiples of the patch|\(B, 3, H, W\)"):
            stored.encode_image(images)
    with pytest.raises(BackboneError, match="layers counts blocks"):
        stored.encode_image(_images(1), layers=(9,))
    with pytest.raises(BackboneError, match="3 x 3 patches do not fit images of 4 x 4"):
        stored.encode_windows(_images(1), Windows(torch.tensor([[8]]), (3, 3)))
    assert not stored.store.folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", [WinCLIP, NearestPatch])
def test_methods_score_alike_with_features_of_other_batches(backbone, stored, method):
    images, shots, names = _images(4), _images(1, seed=6), ["bottle"] * 4
    predictions = []
    for lent, size in ((backbone, 4), (stored, 1), (stored, 4)):
        detector = method(lent, {"bottle": "bottle"})
        detector.adapt(shots, "bottle")
        rows = [detector(images[i : i + size], names[i : i + size]) for i in range(0, 4, size)]
        predictions.append([torch.cat(parts) for parts in zip(*rows, strict=True)])
    assert stored.store.counts.hits >= 4
    for other in predictions[1:]:
        for one, two in zip(predictions[0], other, strict=True):
            assert (one - two).abs().max() <= 1e-5
