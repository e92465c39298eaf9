"""AnoVL against a transcription that shares no code with it, without each of its parts, and in other company."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from methods.anovl.adapter import FitSettings, fit_adapter
from methods.anovl.draws import content_seeds, fork, normal, uniform
from methods.anovl.method import AnoVL
from methods.anovl.views import altered
from methods.anovl.words import ANOMALOUS_STATES, ANY, NORMAL_STATES, OF_OBJECTS, OF_TEXTURES, compose
from tests.support import plain_anovl as plain

SIZE, WORDS = 80, {"metal_nut": "metal nut", "tile": "tile"}  # an object and a texture; 5 x 5 patches
KEYS = ["tile", "metal_nut"]
SETTINGS = {"adapter_steps": 3, "lr": 0.02, "weight_decay": 0.1, "noise": 0.3, "temperature": 0.2}


def build(backbone, **settings):
    return AnoVL(backbone, WORDS, AnoVL.Config(**SETTINGS | settings)).eval()


@pytest.fixture(scope="module")
def method(backbone):
    return build(backbone)


@pytest.fixture(scope="module")
def bare(backbone):
    """Without the parts that take long."""
    return build(backbone, views=False, domain_words=False)


def noise_images(count, seed=3):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def texts_of(key, pictures=None):
    pictures = pictures or {"tile": OF_TEXTURES}.get(key, OF_OBJECTS)
    return [compose(states, WORDS[key], pictures) for states in (NORMAL_STATES, ANOMALOUS_STATES)]


@torch.no_grad()
def plain_texts(backbone, key, pictures=None):
    return plain.encode_texts(backbone.clip, backbone.tokenizer, texts_of(key, pictures))


@torch.no_grad()
def plain_patches(backbone, image):
    return plain.vv_patches(backbone.clip, (image[None] - backbone.mean) / backbone.std)


@pytest.mark.parametrize("key", WORDS)
def test_texts_of_a_category(method, key):
    pair, texts = plain_texts(method.backbone, key)
    row = list(WORDS).index(key)
    assert method.pairs.shape[1:] == pair.shape
    assert texts.shape == method.texts[row].shape == (924, 24)
    assert_close(method.pairs[row], pair, atol=2e-6, rtol=0)
    assert_close(method.texts[row], texts, atol=2e-6, rtol=0)


def test_three_names_of_a_picture_in_22_phrases_for_seven_states():
    for key in WORDS:
        normal_texts, anomalous_texts = texts_of(key)
        assert len(normal_texts) == len(anomalous_texts) == 3 * 22 * 7
        assert len({*normal_texts, *anomalous_texts}) == 924
    assert len(compose(NORMAL_STATES, "nut", ANY)) == 154
    objects, textures = (compose(NORMAL_STATES, "nut", pictures) for pictures in (OF_OBJECTS, OF_TEXTURES))
    assert 0 < len(set(objects) & set(textures)) == 154  # one name is shared


def test_predicts_what_the_transcription_predicts(method):
    images = noise_images(2)
    with torch.no_grad():
        score, anomaly_map = method(images, KEYS)
        seeds = content_seeds(images, 0)
        for i, key in enumerate(KEYS):
            pair, texts = plain_texts(method.backbone, key)
            x = plain_patches(method.backbone, images[i])
            own, bound = seeds[i : i + 1], 24**-0.5
            start = [(2 * uniform(fork(own, j), *shape)[0] - 1) * bound for j, shape in enumerate([(924, 24), (924,)])]
            noises = [0.3 * normal(fork(own, 2 + step), 25, 24)[0] for step in range(3)]
            with torch.enable_grad():
                weight, bias = plain.fit(x, noises, tuple(start), pair / 0.2, texts, lr=0.02, decay=0.1)
            unit = plain.transform(x.double(), weight, bias, texts.double())
            expected = plain.anomaly_map(unit, pair / 0.2, SIZE)
            assert np.abs(anomaly_map[i].numpy() - expected).max() < 1e-5
            backbone = method.backbone
            found = plain.score(backbone.clip, images[i], backbone.mean[0], backbone.std[0], pair / 0.2)
            assert float(score[i]) == pytest.approx(found, abs=5e-6)


@torch.no_grad()
def test_without_adapter_the_map_is_that_of_the_v_v_stream(backbone):
    method, images = build(backbone, adapter=False, views=False), noise_images(2)
    found = method(images, KEYS)
    for i, key in enumerate(KEYS):
        unit = F.normalize(plain_patches(backbone, images[i]), dim=-1)
        expected = plain.anomaly_map(unit, plain_texts(backbone, key)[0] / 0.2, SIZE)
        assert np.abs(found.anomaly_map[i].numpy() - expected).max() < 1e-5
    assert not method.remarks


@torch.no_grad()
def test_without_v_v_attention_the_map_is_that_of_the_ordinary_stream(backbone):
    method, images = build(backbone, adapter=False, views=False, vv_attention=False), noise_images(2)
    features = backbone.encode_image(images, layers=(8,))
    for i, key in enumerate(KEYS):
        expected = plain.anomaly_map(features.patches[0, i], plain_texts(backbone, key)[0] / 0.2, SIZE)
        assert np.abs(method(images, KEYS).anomaly_map[i].numpy() - expected).max() < 1e-5


@torch.no_grad()
def test_without_domain_words_or_views_the_score_is_that_of_photos_and_of_the_image(bare):
    images, pair = noise_images(2), plain_texts(bare.backbone, "tile", ANY)[0]
    features = bare.backbone.encode_image(images).image
    assert bare.texts.shape == (2, 308, 24)
    expected = (features @ pair.T / 0.2).softmax(dim=1)[:, 1]
    assert_close(bare(images, ["tile"] * 2).score, expected, atol=5e-6, rtol=0)


def test_no_steps_leave_the_adapter_as_it_was_drawn(backbone):
    method, images = build(backbone, adapter_steps=0, views=False), noise_images(1)
    pair, texts = plain_texts(backbone, "tile")
    seeds = content_seeds(images, 0)
    weight, bias = ((2 * uniform(fork(seeds, j), *s)[0] - 1) * 24**-0.5 for j, s in enumerate([(924, 24), (924,)]))
    unit = plain.transform(plain_patches(backbone, images[0]), weight, bias, texts)
    expected = plain.anomaly_map(unit, pair / 0.2, SIZE)
    assert np.abs(method(images, ["tile"]).anomaly_map[0].numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("steps", [5, 50])
def test_a_fit_lowers_the_loss_that_it_is_of(bare, steps):
    """With the noise of no step, which is large enough to be told from none by texts that are nearly one."""
    x, pair, texts = plain_patches(bare.backbone, noise_images(1)[0]), 20 * bare.pairs[0], bare.texts[0]
    seeds, noise = torch.tensor([3]), 2.0 * torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
    losses = []
    for count in (0, steps):
        settings = FitSettings(count, lr=1e-3, weight_decay=0.01, noise=2.0)
        adapter = fit_adapter(x[None], pair[None], texts[None], seeds, settings)
        losses.append(plain.adapter_loss(x, noise, adapter.weight[0], adapter.bias[0], pair, texts).item())
    assert losses[1] < losses[0]


def test_an_image_has_the_same_map_in_any_order_and_in_any_company(bare):
    images, keys = noise_images(5), ["tile", "metal_nut", "tile", "tile", "metal_nut"]
    order = [3, 0, 4, 2, 1]
    together = bare(images, keys)
    turned = bare(images[order], [keys[i] for i in order])
    assert_close(turned.anomaly_map, together.anomaly_map[order], atol=2e-6, rtol=0)
    later = bare(images[2:3], keys[2:3])  # after others were fitted
    assert_close(later.anomaly_map[0], together.anomaly_map[2], atol=2e-6, rtol=0)
    assert_close(later.score[0], together.score[2], atol=1e-6, rtol=0)


def test_no_draw_of_torch_is_used_and_none_is_spent(bare):
    images = noise_images(1)
    torch.manual_seed(0)
    first, state = bare(images, ["tile"]).anomaly_map, torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(bare(images, ["tile"]).anomaly_map, first)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_a_prediction_is_the_same_in_every_mode_and_records_no_gradient(bare, mode):
    images = noise_images(2)
    expected = bare(images, KEYS)
    with mode():
        found = bare.predict(images.clone(), KEYS)
    assert torch.equal(found.anomaly_map, expected.anomaly_map)
    assert torch.equal(found.score, expected.score)
    assert not found.anomaly_map.requires_grad
    assert not list(bare.parameters())


def test_another_draw_changes_the_map_and_no_score(backbone, bare):
    images, other = noise_images(1), build(backbone, views=False, domain_words=False, draw=1)
    one, two = bare(images, ["tile"]), other(images, ["tile"])
    assert torch.equal(one.score, two.score)
    assert (one.anomaly_map - two.anomaly_map).abs().max() > 1e-4


def test_the_record_says_that_each_test_image_is_fitted_on(method):
    (remark,) = method.remarks
    assert remark.startswith("fitted on each test image")


def test_views(method):
    """As many as the paper has, all different, and those of a constant image constant."""
    seen = list(altered(noise_images(1)))
    assert len(seen) == 21
    assert len({tuple(view.flatten()[:50].tolist()) for view in seen}) == 21
    assert all(view.shape == (1, 3, SIZE, SIZE) for view in seen)
    assert all(torch.allclose(view, torch.full_like(view, 0.3)) for view in altered(torch.full((1, 3, 8, 8), 0.3)))


def test_texts_of_unit_length_before_their_mean(backbone):
    unit, raw = (build(backbone, views=False, unit_texts=way).pairs for way in (True, False))
    _, texts = plain_texts(backbone, "metal_nut")
    assert_close(unit[0], F.normalize(texts.view(2, 462, -1).mean(dim=1), dim=-1), atol=2e-6, rtol=0)
    assert (unit - raw).abs().max() > 1e-4


def test_an_unknown_category_is_refused(bare):
    with pytest.raises(ValueError, match="categories must be among metal_nut, tile; got screw"):
        bare(noise_images(1), ["screw"])
