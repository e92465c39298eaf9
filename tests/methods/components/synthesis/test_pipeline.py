import os

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from methods.components.synthesis import pipeline as synthesis
from methods.components.synthesis.pipeline import FAINTEST, KINDS, Synthesis, add_noise

SIDE = 96


def normal(side=SIDE, seed=0):
    """A smooth image with colours, (3, side, side), of values that 8 bits hold."""
    coarse = np.random.default_rng(seed).random((6, 6, 3), dtype=np.float32)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    return torch.from_numpy(np.round(smooth * 255) / 255).permute(2, 0, 1).contiguous()


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_is_local_visible_and_a_function_of_its_seed(kind):
    image, synth = normal(), Synthesis(kinds=(kind,))
    before, masks = image.clone(), set()
    for seed in range(15):
        edit, again = synth.edit(image, (0, seed)), synth.edit(image, np.random.default_rng((0, seed)))
        assert torch.equal(edit.image, again.image)
        assert torch.equal(edit.mask, again.mask)
        assert edit.image.dtype == torch.float32
        assert edit.mask.dtype == torch.bool
        assert torch.equal(edit.image[:, ~edit.mask], image[:, ~edit.mask])
        assert (edit.image - image)[:, edit.mask].abs().mean() * 255 > FAINTEST[kind] - 0.01
        assert edit.image.min() >= 0
        assert edit.image.max() <= 1
        assert 0.001 < edit.mask.float().mean() < 0.5
        masks.add(edit.mask.numpy().tobytes())
    assert torch.equal(image, before)
    assert len(masks) == 15


class Edits:
    """What a loader's workers make of one image, each item seeded by its number."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return (*Synthesis().edit(normal(), (3, index)), os.getpid())


@pytest.mark.slow
def test_workers_change_nothing():
    alone, shared = (DataLoader(Edits(), 3, num_workers=workers) for workers in (0, 2))
    here = os.getpid()
    for (image, mask, _), (same, same_mask, pids) in zip(alone, shared, strict=True):
        assert here not in pids.tolist()
        assert torch.equal(image, same)
        assert torch.equal(mask, same_mask)


def test_kinds_are_sampled_in_equal_parts(monkeypatch):
    sampled = []
    monkeypatch.setattr(Synthesis, "_paint", lambda self, kind, *_: sampled.append(kind) or BLACK)
    for seed in range(300):
        Synthesis().edit(torch.ones(3, 8, 8), seed)
    assert all(80 < sampled.count(kind) < 120 for kind in KINDS)


BLACK = (np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), bool), 0.0)


@pytest.mark.slow
def test_a_texture_leaves_a_fifth_to_four_fifths_of_the_image(monkeypatch):
    monkeypatch.setattr(synthesis, "augment", lambda pixels, rng: np.zeros_like(pixels))
    kept = []
    for seed in range(200):
        edit = Synthesis(kinds=("perlin",)).edit(torch.ones(3, 32, 32), seed)
        inside = edit.image[:, edit.mask]
        assert inside.min() == inside.max()
        kept.append(inside.max().item())
    assert min(kept) >= 0.2 - 1e-6
    assert max(kept) <= 0.8 + 1e-6
    assert abs(np.mean(kept) - 0.5) < 0.02
    assert 0.08 < np.std(kept) < 0.12


def test_an_edit_that_nobody_sees_is_sampled_anew_but_a_black_image_ends():
    image = torch.zeros(3, 64, 64)
    edit = Synthesis(kinds=("cutpaste",)).edit(image, 0)
    assert torch.equal(edit.image, image)
    assert edit.mask.any()


def places(side):
    """An image that says where each pixel is: red its column, green its row, in steps of one level."""
    line = torch.arange(side) / 255
    return torch.stack([line.expand(side, side), line[:, None].expand(side, side), torch.zeros(side, side)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cutpaste", "scar"])
def test_a_patch_is_moved_whole_from_another_place(kind, monkeypatch):
    side, turns = 240, []
    monkeypatch.setattr(synthesis, "jitter", lambda pixels, rng: pixels)
    for seed in range(40):
        edit = Synthesis(kinds=(kind,)).edit(places(side), seed)
        rows, columns = (axis.numpy().astype(float) for axis in edit.mask.nonzero(as_tuple=True))
        source = edit.image[:2, edit.mask].numpy() * 255  # column and row of the pixels that were pasted
        target = np.stack([columns, rows])
        scatter = (source - source.mean(1, keepdims=True)) @ (target - target.mean(1, keepdims=True)).T
        turn = np.arctan2(scatter[1, 0] - scatter[0, 1], scatter.trace())
        turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        moved = source - source.mean(1, keepdims=True) - turned @ (target - target.mean(1, keepdims=True))
        assert np.abs(moved).max() < 1.5  # a stiff motion, up to rounding
        turns.append(abs(np.degrees(turn)))
        area = edit.mask.float().mean()
        assert 0.019 < area < 0.16 if kind == "cutpaste" else 0.0002 < area < 1.4 * 16 * 25 / 256**2
    assert max(turns) < 0.5 if kind == "cutpaste" else 25 < max(turns) < 48


def test_noise_is_added_to_masked_tokens_relative_to_their_length():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 5, 400, generator=generator) * torch.tensor([1.0, 50.0]).view(2, 1, 1)
    mask = torch.tensor([[1, 0, 0, 1, 0], [0, 1, 1, 1, 1]], dtype=torch.bool)
    ratio = torch.tensor([0.25, 1.0])
    noisy = add_noise(tokens, mask, ratio, torch.Generator().manual_seed(7))
    sampled = iter(torch.randn(6, 400, generator=torch.Generator().manual_seed(7)))
    for image, token in np.ndindex(2, 5):
        expected = tokens[image, token]
        if mask[image, token]:
            expected = expected + ratio[image] * expected.norm() / 20 * next(sampled)
        torch.testing.assert_close(noisy[image, token], expected)
    assert torch.equal(noisy[~mask], tokens[~mask])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_noise_keeps_the_type_and_lets_gradients_through(dtype):
    tokens = torch.ones(1, 3, 16, dtype=dtype, requires_grad=True)
    mask = torch.tensor([[True, False, True]])
    noisy = add_noise(tokens, mask, torch.tensor([0.5]), torch.Generator().manual_seed(0))
    assert noisy.dtype == dtype
    noisy.sum().backward()
    assert tokens.grad.ne(0).all()
    assert torch.equal(add_noise(tokens, mask & False, torch.tensor([0.5]), torch.Generator()), tokens)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"kinds": ("perlin", "blob")},
            r"one or more of perlin, cutpaste, scar; got \('perlin', 'blob'",
        ),
        ({"kinds": ()}, r"kinds must name one or more"),
        ({"exponents": (3, 2)}, r"the lower first; got \(3, 2\)"),
        ({"exponents": (-1, 2)}, r"from 0 on"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        Synthesis(**settings)


def test_only_squares_are_edited():
    with pytest.raises(ValueError, match=r"\(3, H, H\); got \(3, 32, 40\)"):
        Synthesis().edit(torch.zeros(3, 32, 40), 0)
