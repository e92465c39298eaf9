"""Which tower sees what of the other, and texts with learnt tokens in front."""

from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from methods.anople.coupled_prompts import ClassTexts, CoupledPrompts
from methods.components.clip.backbone import BackboneError, Tokens

NAMES = {"metal_nut": "metal nut", "pcb1": "printed circuit board"}


def build(backbone, **settings):
    torch.manual_seed(0)
    return CoupledPrompts(backbone, **{"depth": 3, "n_text": 4, "n_visual": 2} | settings)


@pytest.mark.parametrize(
    ("coupling", "text", "visual"),
    [("none", 4, 2), ("text_to_image", 4, 6), ("image_to_text", 6, 2), ("both", 6, 6)],
)
def test_only_the_receiving_tower_sees_more(backbone, coupling, text, visual):
    prompts = build(backbone, coupling=coupling)
    assert [tuple(p.shape) for p in prompts().text] == [(text, 32)] * 3
    assert [tuple(p.shape) for p in prompts().visual] == [(visual, 48)] * 3
    assert prompts.n_text == text


@pytest.mark.parametrize("shared", [True, False])
def test_both_directions_start_from_own_prompts(backbone, shared):
    """One step: what is projected has nothing of the other tower in it."""
    prompts = build(backbone, share_projections=shared)
    for block, (text, visual) in enumerate(zip(*prompts(), strict=True)):
        layer = 0 if shared else block
        to_text, to_visual = prompts.to_text[layer], prompts.to_visual[layer]
        assert_close(text[:4], prompts.text[block])
        assert_close(text[4:], prompts.visual[block] @ to_text.weight.T + to_text.bias)
        assert_close(visual[:2], prompts.visual[block])
        assert_close(visual[2:], prompts.text[block] @ to_visual.weight.T + to_visual.bias)
    assert len(prompts.to_text) == len(prompts.to_visual) == (1 if shared else 3)


@pytest.mark.parametrize("side", ["text", "visual"])
def test_one_side_alone_has_nothing_to_couple(backbone, side):
    prompts = build(backbone, sides=side)
    assert [len(p) for p in getattr(prompts(), side)] == [4 if side == "text" else 2] * 3
    assert getattr(prompts(), "visual" if side == "text" else "text") == ()
    assert [name for name, _ in prompts.named_parameters()] == [side]


def test_size_of_the_paper():
    """Of ViT-B-16-plus-240 at J = 9: 55,296 prompts and 10,335,744 of projections."""
    sizes = SimpleNamespace(text_width=640, image_width=896, n_text_blocks=12, n_image_blocks=12)
    prompts = CoupledPrompts(sizes, depth=9, n_text=4, n_visual=4)
    assert prompts.text.numel() + prompts.visual.numel() == 55_296
    assert sum(p.numel() for p in prompts.parameters()) == 55_296 + 10_335_744


@pytest.mark.parametrize("wrong", [{"depth": 0}, {"depth": 7}, {"n_text": 0}, {"n_visual": 0}])
def test_numbers_out_of_range_are_refused(backbone, wrong):
    with pytest.raises(ValueError, match=r"depth 1 to 6.*got depth"):
        build(backbone, **wrong)


@pytest.mark.parametrize("wrong", [{"sides": "none"}, {"coupling": "t2i"}])
def test_unknown_choices_are_refused(backbone, wrong):
    with pytest.raises(BackboneError, match="is one of"):
        build(backbone, **wrong)


def test_without_learnt_tokens_texts_are_plain(backbone):
    texts = ClassTexts(backbone, NAMES, 0).encode(backbone, (), ["pcb1", "metal_nut"])
    words = ["printed circuit board.", "abnormal printed circuit board.", "metal nut.", "abnormal metal nut."]
    assert_close(texts.flatten(0, 1), backbone.encode_text(backbone.tokenize(words)))


def test_learnt_tokens_stand_before_the_words(backbone):
    """Prompts of block 0 as if they were words, later ones over the same tokens."""
    prompts = build(backbone, coupling="none")().text
    texts = ClassTexts(backbone, NAMES, 4).encode(backbone, prompts, ["metal_nut"])[0]
    ids, embeddings, _ = backbone.tokenize(["x x x x metal nut.", "x x x x abnormal metal nut."])
    embeddings = embeddings.clone()
    embeddings[:, 1:5] = prompts[0]
    expected = backbone.encode_text(Tokens(ids, embeddings), deep_prompts=prompts[1:])
    assert_close(texts, expected)
    assert not torch.allclose(texts, backbone.encode_text(Tokens(ids, embeddings)), atol=1e-4)


def test_a_text_that_is_too_long_is_refused(backbone):
    with pytest.raises(BackboneError, match="at most 77 tokens"):
        ClassTexts(backbone, NAMES, 75)
