"""Tiles against the image they are cut from, and which tokens weigh more."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from methods.finegrainedad.choices import RELEASED
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
