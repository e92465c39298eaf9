"""Numbers drawn from the content of an image, against SplitMix64 in whole numbers and what they must be like."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from methods.anovl.draws import content_seeds, fork, normal, uniform

WORD = 2**64


def mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def drawn(seed, count):
    """Of SplitMix64 itself: the state grows by a constant."""
    return [((mix((seed + (i + 1) * 0x9E3779B97F4A7C15) % WORD) >> 41) + 0.5) / 2**23 for i in range(count)]


SEEDS = torch.tensor([0, 1, -5, 2**62 + 3, -(2**63)])


def test_uniform_numbers_are_those_of_splitmix64():
    got = uniform(SEEDS, 3, 4)
    assert got.shape == (5, 3, 4)
    for row, seed in zip(got, SEEDS.tolist(), strict=True):
        assert row.flatten().tolist() == drawn(seed % WORD, 12)


def test_the_published_first_output_of_splitmix64():
    """1234567 gives 6457827717110365317, of which the upper 23 bits make a number below 1."""
    expected = ((6457827717110365317 >> 41) + 0.5) / 2**23
    assert uniform(torch.tensor([1234567]), 1).item() == expected


def test_a_fork_is_another_seed_for_each_number():
    forks = torch.stack([fork(SEEDS, number) for number in range(8)])
    assert forks.unique().numel() == forks.numel()
    assert forks[3, 1].item() % WORD == mix((mix(1) + 3) % WORD)


def test_a_seed_of_an_image_counts_every_bit_of_every_pixel():
    image = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    bits = image.numpy().view(np.uint32).ravel().tolist()
    total = sum(mix(b) * mix(2 * i + 1) for i, b in enumerate(bits)) % WORD
    assert content_seeds(image[None], 5).item() % WORD == mix((total + 11) % WORD)
    others = image.repeat(49, 1, 1, 1)
    for i in range(48):
        place = np.unravel_index(i, (3, 4, 4))
        others[(i, *place)] = torch.nextafter(others[(i, *place)], torch.tensor(2.0))
    assert content_seeds(others, 0).unique().numel() == 49
    assert content_seeds(image.flip(2)[None], 0) != content_seeds(image[None], 0)


def test_a_seed_depends_on_no_other_image_and_on_no_layout():
    images = torch.rand(4, 3, 8, 8)
    seeds = content_seeds(images, 0)
    assert torch.equal(content_seeds(images[[2, 0]], 0), seeds[[2, 0]])
    assert torch.equal(content_seeds(images.contiguous(memory_format=torch.channels_last), 0), seeds)


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_numbers_are_uniform_and_normal(seed):
    seeds = torch.tensor([seed])
    assert kstest(uniform(seeds, 20_000)[0].numpy(), "uniform").pvalue > 1e-3
    values = normal(seeds, 20_000)[0].double().numpy()
    assert kstest(values, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 4 / math.sqrt(20_000)


def test_two_forks_are_not_correlated():
    one, other = (normal(fork(torch.tensor([7]), number), 20_000)[0].numpy() for number in (0, 1))
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / math.sqrt(20_000)


def test_ends_are_left_out():
    values = uniform(torch.arange(50), 20_000)
    assert 0 < values.min() < values.max() < 1
