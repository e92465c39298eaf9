"""Density peaks against loops over points, whole and block by block."""

import math

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from methods.finegrainedad import density_peaks as module
from methods.finegrainedad.density_peaks import density_peaks, nearest_seed


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


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("k", "n_rows"), [(1, 1), (4, 3), (4, 39), (40, 7)])
def test_blocks_of_any_size_find_the_same_clusters(k, n_rows, masked, monkeypatch):
    """Densities that are equal, and neighbours beyond the mask, are among them."""
    points = random_points(3).mul(2).round()  # many points are equal
    mask = random_points(3, seed=1)[..., 0] > 1 if masked else None
    if masked:
        mask[1] = True
    whole = density_peaks(points, 5, k, mask)
    monkeypatch.setattr(module, "_PAIRS_AT_ONCE", n_rows * 3 * 40)
    for found, expected in zip(density_peaks(points, 5, k, mask), whole, strict=True):
        assert torch.equal(found, expected)
    for one, other in zip(module._densities(points, k, mask), dense_densities(points, k, mask), strict=True):
        assert torch.equal(one, other)


def dense_densities(points, k, mask):
    """Densities and the largest distance from the whole matrix."""
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist") / math.sqrt(3)
    if mask is not None:
        distances = distances.where(mask.unsqueeze(1), distances.amax(dim=(1, 2), keepdim=True) + 1)
    density = distances.sort(dim=-1).values[..., :k].contiguous().square().mean(dim=-1).neg().exp()
    return density, distances.amax(dim=(1, 2))


class LargestTensor(TorchFunctionMode):
    """Notes the most numbers in a tensor that a function of torch returned."""

    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple) else (made,):
            self.count = max(self.count, tensor.numel() if isinstance(tensor, Tensor) else 0)
        return made


def test_no_tensor_holds_more_pairs_than_a_block(monkeypatch):
    n_sets, n_points, k = 2, 300, 8
    points, mask = random_points(n_sets, n_points), random_points(n_sets, n_points, seed=1)[..., 0] > 0
    monkeypatch.setattr(module, "_PAIRS_AT_ONCE", 20 * n_sets * n_points)
    with LargestTensor() as largest:
        density_peaks(points, 3, k, mask)
    assert largest.count == 20 * n_sets * n_points


@pytest.mark.parametrize(("n_clusters", "k"), [(0, 1), (41, 1), (2, 0), (2, 41)])
def test_numbers_out_of_range_are_refused(n_clusters, k):
    with pytest.raises(ValueError, match=f"must be 1 to 40, the points; got {n_clusters} and {k}"):
        density_peaks(random_points(), n_clusters, k)


def test_nearest_seed_by_hand():
    points = torch.tensor([[[0.0], [1.0], [4.0], [5.0]]])
    assert nearest_seed(points, torch.tensor([[3, 0]])).tolist() == [[1, 1, 0, 0]]
