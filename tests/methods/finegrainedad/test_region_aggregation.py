"""Density peaks against loops over points, tiles against the image they are cut from, and which tokens weigh more."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from methods.finegrainedad.choices import RELEASED
from methods.finegrainedad.density_peaks import density_peaks, nearest_seed
from methods.finegrainedad.region_aggregation import (
    TILES,
    Rules,
    ShotRegions,
    cut_tiles,
    find_regions,
    join_tiles,
    resize_images,
    weigh_regions,
)


def random_points(n_sets=2, n_points=40, seed=0):
    return torch.randn(n_sets, n_points, 3, generator=torch.Generator().manual_seed(seed))


def loop_over_points(points, n_clusters, k, inside):
    """Centres and assignment of one set, written out."""
    n = len(points)

    def apart(i, j):
        return math.dist(points[i].tolist(), points[j].tolist()) / math.sqrt(points.shape[1])

    far = max(apart(i, j) for i in range(n) for j in range(n)) + (1 if not all(inside) else 0)
    distance = [[apart(i, j) if inside[j] else far for j in range(n)] for i in range(n)]
    density = []
    for i in range(n):
        nearest = sorted(distance[i])[:k]
        density.append(math.exp(-sum(d * d for d in nearest) / k) if inside[i] else 0.0)
    peaks = []
    for i in range(n):
        denser = [distance[i][j] for j in range(n) if (density[j], -j) > (density[i], -i)]
        peaks.append(density[i] * min(denser, default=far))
    centres = sorted(range(n), key=lambda i: -peaks[i])[:n_clusters]
    ids = [min(range(n_clusters), key=lambda c: distance[centres[c]][i]) for i in range(n)]
    for cluster, centre in enumerate(centres):
        ids[centre] = cluster
    return centres, ids


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("k", [2, 5])
def test_density_peaks_are_those_of_a_loop(k, masked):
    points = random_points()
    mask = random_points(seed=1)[..., 0] > -0.5
    found = density_peaks(points, 3, k, mask if masked else None)
    for row in range(2):
        inside = mask[row].tolist() if masked else [True] * 40
        centres, ids = loop_over_points(points[row], 3, k, inside)
        assert found.centres[row].tolist() == centres
        assert [found.ids[row, i] for i in range(40) if inside[i]] == [ids[i] for i in range(40) if inside[i]]


def test_every_set_is_clustered_by_itself():
    points, mask = random_points(3), random_points(3, seed=1)[..., 0] > 0
    together = density_peaks(points, 4, 3, mask)
    for row in range(3):
        alone = density_peaks(points[row : row + 1], 4, 3, mask[row : row + 1])
        assert torch.equal(alone.centres[0], together.centres[row])
        assert torch.equal(alone.ids[0], together.ids[row])


def test_groups_that_lie_apart_are_found():
    groups = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]]).repeat_interleave(20, dim=0)
    points = groups + 0.3 * torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    ids = density_peaks(points.unsqueeze(0), 3, 5).ids[0].view(3, 20)
    assert all(len(group.unique()) == 1 for group in ids)
    assert len(ids.unique()) == 3


def test_of_equal_points_one_alone_is_a_centre():
    points = torch.tensor([[0.0], [0.0], [0.0], [0.1], [5.0], [5.2]]).unsqueeze(0)
    centres = density_peaks(points, 2, 2).centres[0]
    assert sorted(points[0, centres, 0].tolist()) in ([0.0, 5.0], [0.0, pytest.approx(5.2)])


def test_noise_decides_where_all_densities_are_equal():
    points = random_points(1)
    noise = torch.zeros(1, 40)
    noise[0, 17], noise[0, 31] = 2e-6, 1e-6
    assert density_peaks(points, 1, 1, noise=noise).centres.tolist() == [[17]]


@pytest.mark.parametrize(("n_clusters", "k"), [(0, 1), (41, 1), (2, 0), (2, 41)])
def test_numbers_out_of_range_are_refused(n_clusters, k):
    with pytest.raises(ValueError, match=f"must be 1 to 40, the points; got {n_clusters} and {k}"):
        density_peaks(random_points(), n_clusters, k)


def test_nearest_seed_by_hand():
    points = torch.tensor([[[0.0], [1.0], [4.0], [5.0]]])
    assert nearest_seed(points, torch.tensor([[3, 0]])).tolist() == [[1, 1, 0, 0]]


def test_tiles_are_joined_as_they_were_cut():
    """Every patch of the whole image has its own number, which its token keeps."""
    rows, columns, patch = 3, 3, 2
    numbers = torch.arange(2 * TILES**2 * rows * columns).float().view(2, 1, TILES * rows, TILES * columns)
    images = numbers.repeat_interleave(patch, dim=2).repeat_interleave(patch, dim=3).expand(-1, 3, -1, -1)
    tiles = cut_tiles(images)
    assert tiles.shape == (2 * TILES**2, 3, rows * patch, columns * patch)
    tokens = F.avg_pool2d(tiles, patch)[:, :1].flatten(2).transpose(1, 2)  # (k·16, N, 1)
    assert torch.equal(join_tiles(tokens, (rows, columns)).squeeze(-1), numbers.flatten(1))


def test_images_of_the_right_side_are_left_alone():
    images = torch.rand(2, 3, 32, 32)
    assert resize_images(images, 32) is images
    enlarged = resize_images(images, 64)
    assert enlarged.shape == (2, 3, 64, 64)
    assert enlarged.min() >= 0
    assert enlarged.max() <= 1


def random_scene():
    """Tokens on an 8 x 8 grid: a left and a right part, more like each other than like what is behind them."""
    layout = torch.zeros(8, 8, dtype=torch.long)  # background
    layout[2:6, 2:4], layout[2:6, 4:6] = 1, 2
    directions = F.normalize(torch.tensor([[0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0]]), dim=-1)
    noise = 0.05 * torch.randn(2, 64, 4, generator=torch.Generator().manual_seed(0))
    tokens = F.normalize(directions[layout.flatten()] + noise, dim=-1)
    return layout.flatten(), tokens, directions


@pytest.mark.parametrize("split", ["density", "language"])
def test_each_prompt_takes_the_region_it_speaks_of(split):
    layout, tokens, texts = random_scene()
    found = find_regions(tokens, texts[1:], texts[0], Rules(split=split))
    assert torch.equal(found.foreground, (layout > 0).expand(2, -1))
    for component in (1, 2):
        own = (found.ids == found.match[:, component - 1 : component]) & found.foreground
        assert own.any(dim=1).all()
        assert not (own & (layout != component)).any()  # three regions for two parts: one part is cut in two
    behind = found.ids[:, layout == 0]
    assert (behind == behind[:, :1]).all()


def test_without_a_background_every_token_is_foreground():
    _, tokens, texts = random_scene()
    found = find_regions(tokens, texts[1:], None, Rules())
    assert found.foreground.all()
    assert found.match.shape == (2, 2)
    assert found.ids.unique().tolist() == [0, 1, 2]


def test_the_first_shot_decides_for_all_if_asked():
    _, tokens, texts = random_scene()
    turned = torch.stack([tokens[0], tokens[1].flip(0).roll(9, dims=0)])
    own = find_regions(turned, texts[1:], texts[0], Rules())
    first = find_regions(turned, texts[1:], texts[0], Rules(first_shot=True))
    assert torch.equal(first.foreground, own.foreground[:1].expand(2, -1))
    assert not torch.equal(own.foreground[0], own.foreground[1])
    assert torch.equal(first.match[1], first.match[0])


def test_released_regions_are_sampled():
    _, tokens, texts = random_scene()
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(find_regions(tokens, texts[1:], texts[0], RELEASED.rules).ids)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_equal_tokens_give_regions_and_no_nan():
    _, _, texts = random_scene()
    found = find_regions(texts[:1].expand(1, 64, -1), texts[1:], texts[0], Rules(split="language"))
    assert weigh_regions(found, 1.5, (2, 2)).isfinite().all()


def test_weights_by_hand():
    """One shot of 4 x 4 tokens on 16 x 16: its region is the left half and the cell right of it at the top."""
    ids = torch.zeros(16, 16, dtype=torch.long)
    ids[:, :8], ids[0, 8] = 1, 1
    regions = ShotRegions(ids.bool().view(1, -1), ids.view(1, -1), torch.tensor([[1, 0]]))
    weights = weigh_regions(regions, 1.5, (4, 4)).view(2, 4, 4)
    expected = torch.tensor([2.5, 2.5, 1.0, 1.0]).repeat(4, 1)
    expected[0, 2] = 1 + 1.5 / 16
    assert_close(weights[0], expected)
    assert_close(weights[1], 3.5 - expected)
    scrambled = weigh_regions(regions, 1.5, (4, 4), scrambled=True)
    assert_close(scrambled.sum(), weights.sum())
    assert not torch.allclose(scrambled.view(2, 4, 4), weights)
