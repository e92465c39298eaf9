"""PatchCore on a transformer, against loops over patches and open_clip's own blocks."""

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.testing import assert_close

from methods.components.scoring import to_map
from methods.patchcore.method import PatchCore

SIDE = 4  # patches


def noise_images(count, seed):
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def build(backbone, **settings):
    torch.manual_seed(0)
    return PatchCore(backbone, {"nut": "nut", "pcb": "board"}, PatchCore.Config(**settings))


@torch.no_grad()
def tokens_of(backbone, image, blocks):
    """Patch tokens as they leave each of `blocks`, a list of (N, width)."""
    visual = backbone.clip.visual
    patches = visual.conv1((image[None] - backbone.mean) / backbone.std)[0].flatten(1).T
    x = visual.ln_pre(torch.cat([visual.class_embedding[None], patches]) + visual.positional_embedding)[None]
    found = []
    for depth, block in enumerate(visual.transformer.resblocks, start=1):
        x = block(x)
        found += [x[0, 1:]] if depth in blocks else []
    return found


def described(backbone, image, settle=lambda tokens: tokens):
    """3 x 3 averages with zeros beyond the edge, then means of pairs of neighbouring channels: (N, width)."""
    layers = []
    for tokens in tokens_of(backbone, image, (4, 6)):
        tokens, mean = settle(tokens), torch.zeros_like(tokens)
        for patch in range(SIDE * SIDE):
            row, column = divmod(patch, SIDE)
            near = [(r, c) for r in range(row - 1, row + 2) for c in range(column - 1, column + 2)]
            mean[patch] = sum(tokens[r * SIDE + c] for r, c in near if 0 <= r < SIDE and 0 <= c < SIDE) / 9
        layers.append(mean)
    return torch.cat(layers, dim=1).unflatten(1, (-1, 2)).mean(dim=2)


SETTLED = {
    "none": lambda tokens: tokens,
    "unit": lambda tokens: tokens / tokens.norm(dim=1, keepdim=True),
    "layer_norm": lambda tokens: (
        (tokens - tokens.mean(dim=1, keepdim=True)) / tokens.var(dim=1, correction=0, keepdim=True).add(1e-5).sqrt()
    ),
}


@pytest.mark.parametrize("norm", SETTLED)
def test_is_the_loop(backbone, norm):
    method, shots, images = build(backbone, norm=norm, sigma_at=64), noise_images(3, 1), noise_images(2, 0)
    method.adapt(noise_images(2, 2), "pcb")
    method.adapt(shots, "nut")
    memory = torch.cat([described(backbone, shot, SETTLED[norm]) for shot in shots]).tolist()
    score, maps = method(images, ["nut", "nut"])
    for i, image in enumerate(images):
        patches = described(backbone, image, SETTLED[norm]).tolist()
        distances = torch.tensor([min(math.dist(patch, other) ** 2 for other in memory) for patch in patches])
        assert_close(score[i], distances.max(), rtol=1e-4, atol=1e-6)
        enlarged = to_map(distances[None], (SIDE, SIDE), (64, 64))[0]
        assert_close(maps[i], torch.from_numpy(gaussian_filter(enlarged.numpy(), 4.0)), rtol=1e-4, atol=1e-6)


def test_sigma_follows_the_side_of_the_image(backbone):
    shots, images = noise_images(2, 1), noise_images(1, 0)
    maps = []
    for sigma, sigma_at in ((4.0, 224), (4.0 * 64 / 224, 64)):
        method = build(backbone, sigma=sigma, sigma_at=sigma_at)
        method.adapt(shots, "nut")
        maps.append(method(images, ["nut"]).anomaly_map)
    assert_close(*maps)


def test_more_neighbours_are_the_mean_of_their_squared_distances(backbone):
    method, shots, images = build(backbone, n_neighbours=3, sigma=0.0), noise_images(2, 1), noise_images(1, 0)
    method.adapt(shots, "nut")
    memory = torch.cat([described(backbone, shot) for shot in shots])
    squares = (described(backbone, images[0])[:, None] - memory).square().sum(dim=2)
    expected = squares.sort(dim=1).values[:, :3].mean(dim=1)
    assert_close(method(images, ["nut"]).score[0], expected.max(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("around", ["memory", "query"])
@pytest.mark.parametrize("near", [3, 1000])
def test_reweighted_score(backbone, around, near):
    """Equation 7 in plain numbers; a memory with fewer rows than neighbours gives all it has."""
    method = build(backbone, image_score=f"reweighted_{around}", n_reweighting=near)
    shots, images = noise_images(2, 1), noise_images(1, 0)
    method.adapt(shots, "nut")
    memory = torch.cat([described(backbone, shot) for shot in shots]).tolist()
    pairs = [
        (min(memory, key=lambda row: math.dist(row, patch)), patch) for patch in described(backbone, images[0]).tolist()
    ]
    nearest, patch = max(pairs, key=lambda pair: math.dist(*pair))
    centre = nearest if around == "memory" else patch
    others = [math.dist(patch, row) for row in sorted(memory, key=lambda row: math.dist(row, centre))[:near]]
    farthest = math.dist(nearest, patch)
    expected = (1 - math.exp(farthest) / sum(map(math.exp, others))) * farthest
    assert method(images, ["nut"]).score.item() == pytest.approx(expected, rel=1e-4)


def test_a_shot_is_not_anomalous(backbone):
    method, shot = build(backbone), noise_images(1, 1)
    method.adapt(shot, "nut")
    score, maps = method(torch.cat([shot, noise_images(1, 2)]), ["nut", "nut"])
    assert maps[0].max() < 1e-6
    assert score[0] < 1e-6 < 1e-3 < score[1]


@pytest.mark.parametrize("bank", ["per_class", "pooled"])
def test_coreset_of_each_category(backbone, bank):
    """A tenth of the patches, the same whichever category came first."""
    shots = {"nut": noise_images(4, 1), "pcb": noise_images(4, 2)}
    methods = [build(backbone, coreset=0.1, bank=bank) for _ in range(2)]
    for method, order in zip(methods, (["nut", "pcb"], ["pcb", "nut"]), strict=True):
        for category in order:
            method.adapt(shots[category], category)
    kept = [method.memory.remembered()["features"]["nut"][0] for method in methods]
    assert torch.equal(*kept)
    assert kept[0].shape == (6, 1, 48)  # of 64 patches
    rows = torch.cat([described(backbone, shot) for shot in shots["nut"]])
    assert all(torch.isclose(rows, row, atol=1e-5).all(dim=1).any() for row in kept[0][:, 0])
    images, keys = noise_images(2, 3), ["nut", "pcb"]
    assert_close(*(method(images, keys).score for method in methods))


def test_pooled_dimensions(backbone):
    method = build(backbone, layer_dim=20, dim=12)
    method.adapt(noise_images(2, 1), "nut")
    assert method.memory.remembered()["features"]["nut"][0].shape == (2, 16, 12)


def test_settings_that_do_not_fit_are_refused(backbone):
    with pytest.raises(ValueError, match="neighbourhood must be odd, so that a patch has a middle; got 2"):
        build(backbone, neighbourhood=2)
    with pytest.raises(ValueError, match=r"bank=retrieved compares with whole shots: it needs coreset=1; got 0\.1"):
        build(backbone, bank="retrieved", coreset=0.1)
