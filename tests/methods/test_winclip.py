"""WinCLIP against open_clip's own towers, run window by window, and maps averaged pixel by pixel."""

import math

import pytest
import torch
import torch.nn.functional as F

from methods.winclip import (
    ANOMALOUS_STATES,
    NORMAL_STATES,
    TEMPLATES,
    WinCLIP,
    compose,
    window_patches,
    windows_to_grid,
)

SIDE = 4  # patches of the fixture's image
SCALES = (2, 3)


def noise_images(count, seed, size=64):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def tower(backbone, image, keep):
    """Joint-space unit features (class token first) of one image of which only the patches `keep` exist."""
    visual = backbone.clip.visual
    patches = visual.conv1((image[None] - backbone.mean) / backbone.std)[0].flatten(1).T
    tokens = torch.cat([visual.class_embedding[None], patches]) + visual.positional_embedding
    tokens = visual.ln_pre(tokens[[0, *(1 + index for index in keep)]])[None]
    return F.normalize(visual.ln_post(visual.transformer(tokens))[0] @ visual.proj, dim=-1)


def corners(scale):
    return [(top, left) for top in range(SIDE - scale + 1) for left in range(SIDE - scale + 1)]


def inside(scale, corner):
    return [(corner[0] + i, corner[1] + j) for i in range(scale) for j in range(scale)]


@torch.no_grad()
def features_of(backbone, image):
    """Class feature, patch features by patch, window features by scale and corner."""
    everything = tower(backbone, image, range(SIDE * SIDE))
    windows = {
        (scale, corner): tower(backbone, image, [SIDE * i + j for i, j in inside(scale, corner)])[0]
        for scale in SCALES
        for corner in corners(scale)
    }
    return everything[0], everything[1:], windows


@torch.no_grad()
def prototypes_of(backbone, words):
    pair = []
    for states in (NORMAL_STATES, ANOMALOUS_STATES):
        texts = [template.format(state.format(words)) for template in TEMPLATES for state in states]
        features = backbone.clip.encode_text(backbone.tokenizer(texts), normalize=True)
        pair.append(F.normalize(features.mean(dim=0), dim=-1))
    return pair


def probability(feature, pair, temperature):
    normal, anomalous = (math.exp(float(feature @ text) / temperature) for text in pair)
    return anomalous / (normal + anomalous)


def spread(scores, scale):
    """Harmonic mean over the windows that hold a patch, as a dict of patches."""
    out = {}
    for i in range(SIDE):
        for j in range(SIDE):
            holding = [scores[corner] for corner in corners(scale) if (i, j) in inside(scale, corner)]
            out[i, j] = len(holding) / sum(1 / score for score in holding)
    return out


def zero_shot_oracle(features, pair, temperature):
    """Score of an image and its map as a dict of patches."""
    image, _, windows = features
    score = probability(image, pair, temperature)
    small, mid = (
        spread({c: probability(windows[scale, c], pair, temperature) for c in corners(scale)}, scale)
        for scale in SCALES
    )
    return score, {at: 3 / (1 / score + 1 / small[at] + 1 / mid[at]) for at in small}


def association_oracle(features, references):
    """Mean association as a dict of patches."""
    _, patches, windows = features
    near = {
        (i, j): min((1 - float(patches[SIDE * i + j] @ r)) / 2 for _, reference, _ in references for r in reference)
        for i in range(SIDE)
        for j in range(SIDE)
    }
    maps = [near]
    for scale in SCALES:
        seen = [reference[scale, corner] for _, _, reference in references for corner in corners(scale)]
        scores = {c: min((1 - float(windows[scale, c] @ r)) / 2 for r in seen) for c in corners(scale)}
        maps.append(spread(scores, scale))
    return {at: sum(each[at] for each in maps) / 3 for at in near}


def grid_of(scores):
    return torch.tensor([[scores[i, j] for j in range(SIDE)] for i in range(SIDE)])


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.01, 0.07])
def test_zero_shot_is_the_loop(backbone, temperature):
    method = WinCLIP(backbone, {"nut": "metal nut"}, WinCLIP.Config(temperature=temperature))
    images, pair = noise_images(2, 0), prototypes_of(backbone, "metal nut")
    score, anomaly_map = method(images, ["nut", "nut"])
    for i, image in enumerate(images):
        expected, expected_map = zero_shot_oracle(features_of(backbone, image), pair, temperature)
        assert grid_of(expected_map).std() > 1e-4
        assert float(score[i]) == pytest.approx(expected, rel=1e-4)
        torch.testing.assert_close(anomaly_map[i], grid_of(expected_map), rtol=1e-4, atol=0)


@pytest.mark.slow
def test_few_shot_is_the_loop(backbone):
    method = WinCLIP(backbone, {"nut": "metal nut", "pcb": "board"})
    images, shots, pair = noise_images(2, 0), noise_images(2, 1), prototypes_of(backbone, "board")
    method.adapt(shots, "pcb")
    score, anomaly_map = method(images, ["pcb", "pcb"])
    references = [features_of(backbone, shot) for shot in shots]
    for i, image in enumerate(images):
        features = features_of(backbone, image)
        text, text_map = zero_shot_oracle(features, pair, 0.01)
        association = association_oracle(features, references)
        assert grid_of(association).std() > 1e-4
        assert float(score[i]) == pytest.approx((text + max(association.values())) / 2, rel=1e-4)
        expected = (grid_of(text_map) + grid_of(association)) / 2
        torch.testing.assert_close(anomaly_map[i], expected, rtol=1e-4, atol=0)


@pytest.mark.slow
def test_a_shot_has_no_association(backbone):
    """Fused with nothing, score and map are half of what the text says."""
    plain, seen = (WinCLIP(backbone, {"nut": "nut"}) for _ in range(2))
    shot = noise_images(1, 3)
    seen.adapt(shot, "nut")
    for whole, half in zip(plain(shot, ["nut"]), seen(shot, ["nut"]), strict=True):
        torch.testing.assert_close(half, whole / 2, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["retrieved", "argmax"])
def test_an_image_is_judged_as_its_own_shot_or_nearest_text_says(backbone, text):
    """Whatever its label is: as the same method judges it that is told the category."""
    words = {"nut": "metal nut", "pcb": "board"}
    told, free = (WinCLIP(backbone, words, WinCLIP.Config(bank="pooled", text=each)) for each in ("known", text))
    shots = noise_images(2, 1)
    for method in (told, free):
        for shot, category in zip(shots.split(1), words, strict=True):
            method.adapt(shot, category)
    if text == "retrieved":
        images, judges = shots.flip(0), ["pcb", "nut"]
    else:
        images = noise_images(2, 5)
        pairs = {category: prototypes_of(backbone, words[category]) for category in words}
        like = [{key: max(float(features_of(backbone, i)[0] @ t) for t in pairs[key]) for key in words} for i in images]
        judges = [max(each, key=each.get) for each in like]
    wrong = ["pcb" if judge == "nut" else "nut" for judge in judges]
    expected, others, found = told(images, judges), told(images, wrong), free(images, wrong)
    assert torch.equal(found.score, expected.score)
    assert torch.equal(found.anomaly_map, expected.anomaly_map)
    assert (found.score != others.score).all()


@pytest.mark.slow
def test_retrieved_texts_need_a_shot(backbone):
    method = WinCLIP(backbone, {"nut": "nut"}, WinCLIP.Config(text="retrieved"))
    with pytest.raises(ValueError, match="`adapt` has seen: none"):
        method(noise_images(1, 0), ["nut"])


def test_prompts():
    assert (len(NORMAL_STATES), len(ANOMALOUS_STATES), len(TEMPLATES)) == (7, 4, 22)
    normal, anomalous = compose(NORMAL_STATES, "metal nut"), compose(ANOMALOUS_STATES, "metal nut")
    assert (len(set(normal)), len(set(anomalous))) == (154, 88)
    assert not set(normal) & set(anomalous)
    assert "a photo of a metal nut." in normal
    assert "a jpeg corrupted photo of the flawless metal nut." in normal
    assert "a photo of a small metal nut with flaw." in anomalous
    assert "a photo of the damaged metal nut for visual inspection." in anomalous
    assert not any("{" in text for text in (*normal, *anomalous))


@pytest.mark.parametrize(("grid", "side"), [((3, 5), 2), ((5, 3), 3), ((3, 3), 3), ((2, 4), 1)])
def test_windows_on_any_grid(grid, side):
    rows, columns = grid
    at = [(i, j) for i in range(rows - side + 1) for j in range(columns - side + 1)]
    expected = [[(i + di) * columns + j + dj for di in range(side) for dj in range(side)] for i, j in at]
    assert window_patches(grid, side).tolist() == expected
    scores = torch.rand(2, len(at), generator=torch.Generator().manual_seed(0))
    got = windows_to_grid(scores.log(), grid, side).exp()
    assert got.shape == (2, rows, columns)
    for b in range(2):
        for patch in range(rows * columns):
            holding = [scores[b, k].item() for k, window in enumerate(expected) if patch in window]
            mean = len(holding) / sum(1 / score for score in holding)
            assert got[b, patch // columns, patch % columns].item() == pytest.approx(mean, rel=1e-5)


def test_windows_keep_their_order_at_clips_temperature():
    logs = torch.linspace(-85, -1, 60).view(1, -1)  # one window a patch: float32 ends at -103
    assert (windows_to_grid(logs, (6, 10), 1).flatten().diff() > 0).all()
    wide = windows_to_grid(torch.tensor([[-200.0, -100.0]]), (2, 3), 2)[0, 0]
    assert wide.tolist() == pytest.approx([-200, -200 + math.log(2), -100])


def test_a_zero_score_silences_its_window_and_no_other():
    scores = torch.tensor([[0.0, 0.5]])  # two windows of 2 x 2 on a 2 x 3 grid
    got = windows_to_grid(scores.log(), (2, 3), 2).exp()
    assert got.isfinite().all()
    assert got[0, :, :2].max() < 1e-30
    torch.testing.assert_close(got[0, :, 2], torch.tensor([0.5, 0.5]))


@pytest.mark.slow
def test_grid_smaller_than_a_window(backbone):
    method = WinCLIP(backbone, {"nut": "nut"})
    with pytest.raises(ValueError, match=r"3 x 3 patches must fit into the grid; got 2 x 2"):
        method(noise_images(1, 0, size=32), ["nut"])
    small = WinCLIP(backbone, {"nut": "nut"}, WinCLIP.Config(scales=(1, 2)))
    assert small(noise_images(1, 0, size=32), ["nut"]).anomaly_map.shape == (1, 2, 2)


@pytest.mark.slow
def test_another_image_size(backbone):
    method = WinCLIP(backbone, {"nut": "nut"})
    method.adapt(noise_images(1, 1), "nut")
    assert method(torch.rand(2, 3, 48, 96), ["nut", "nut"]).anomaly_map.shape == (2, 3, 6)


@pytest.mark.slow
def test_errors_name_the_category(backbone):
    method = WinCLIP(backbone, {"nut": "nut", "pcb": "board"})
    with pytest.raises(ValueError, match=r"among nut, pcb; got cable"):
        method(noise_images(1, 0), ["cable"])
    method.adapt(noise_images(1, 1), "nut")
    with pytest.raises(ValueError, match=r"shots of 'pcb' were seen; `adapt` has seen: nut"):
        method(noise_images(1, 0), ["pcb"])


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_temperature_must_be_positive(backbone, temperature):
    with pytest.raises(ValueError, match="temperature"):
        WinCLIP(backbone, {"nut": "nut"}, WinCLIP.Config(temperature=temperature))


@pytest.mark.slow
def test_prototypes_stay_out_of_the_state_dict(backbone):
    method = WinCLIP(backbone, {"nut": "nut", "pcb": "board"})
    method.adapt(noise_images(1, 1), "nut")
    assert method.text.shape == (2, 2, backbone.embed_dim)
    assert not method.state_dict()
