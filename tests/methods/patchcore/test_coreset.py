"""The greedy coreset against a loop over single rows."""

import math

import pytest
import torch

from methods.patchcore.coreset import approximate_greedy, sample_coreset


def rows(count, dim, seed=0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def test_is_the_loop_over_rows():
    features, projection, start = rows(60, 7), rows(3, 7, 1), [4, 40, 11]
    reduced = [
        [sum(a * b for a, b in zip(row, w, strict=True)) for w in projection.tolist()] for row in features.tolist()
    ]
    farthest = [sum(math.dist(row, reduced[s]) for s in start) / len(start) for row in reduced]
    expected = []
    for _ in range(12):
        expected.append(farthest.index(max(farthest)))
        farthest = [min(old, math.dist(row, reduced[expected[-1]])) for old, row in zip(farthest, reduced, strict=True)]
    assert approximate_greedy(features, 12, projection, torch.tensor(start)).tolist() == expected
    assert approximate_greedy(features, 12, None, torch.tensor(start)).tolist() != expected


def test_keeps_rows_as_they_are_and_covers_all_groups():
    """Of two clouds far from each other, one of 3 rows among 97, both are kept."""
    features = torch.cat([rows(97, 5), 100 + rows(3, 5, 1)])
    kept = sample_coreset(features, 0.05, 2, 10, seed=3)
    assert kept.shape == (5, 5)
    assert all(any(torch.equal(row, other) for other in features) for row in kept)
    assert (kept > 50).all(dim=1).any()


def test_the_seed_alone_decides():
    features = rows(80, 6)
    torch.manual_seed(5)
    first = sample_coreset(features, 0.1, 4, 10, seed=3)
    torch.manual_seed(6)
    assert torch.equal(first, sample_coreset(features, 0.1, 4, 10, seed=3))
    assert not torch.equal(first, sample_coreset(features, 0.1, 4, 10, seed=4))


def test_without_projection_where_it_would_keep_all_dimensions():
    features, generator = rows(50, 6), torch.Generator().manual_seed(3)
    torch.empty(6, 6).uniform_(generator=generator)
    start = torch.randperm(50, generator=generator)[:10]
    expected = features[approximate_greedy(features, 5, None, start)]
    assert torch.equal(sample_coreset(features, 0.1, 6, 10, seed=3), expected)


def test_a_share_that_keeps_nothing_is_refused():
    with pytest.raises(ValueError, match=r"coreset must keep one patch or more of 20; got a share of 0\.01"):
        sample_coreset(rows(20, 4), 0.01, 2, 10, seed=0)
