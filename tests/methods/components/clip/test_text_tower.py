"""Texts that share a start, each token computed once, against the same texts row by row."""

import pytest
import torch
from torch.testing import assert_close

from methods.components.clip import text_tower
from methods.components.clip.backbone import BackboneError, Tokens

WRITTEN = ["a photo of a nut", "a photo of a nut with rust", "a photo of a bolt", "an old nut", "a photo of a nut"]


@pytest.fixture
def texts(backbone):
    """Texts whose words are their sources, with embeddings that can learn."""
    ids, embeddings, _ = backbone.tokenize(WRITTEN)
    return Tokens(ids, embeddings.clone().requires_grad_(), ids.unsqueeze(-1))


def grow(tokens):
    ends = tuple(tokens.ids.argmax(dim=-1).tolist())
    words = tokens.sources[:, : max(ends) + 1].numpy()
    return text_tower._grow_trees(words.tobytes(), words.shape, ends, torch.device("cpu"))


def test_a_start_that_texts_share_is_there_once(texts):
    (tree,) = grow(texts)
    ends = 7 - 1, 9 - 1, 7 - 1, 5 - 1  # start, words and end of each text
    assert len(tree.texts) == 7 + (9 - 6) + (7 - 5) + (5 - 1)
    assert tree.texts.tolist() == [0] * 7 + [1] * 3 + [2] * 2 + [3] * 4
    assert tree.positions.tolist() == [*range(7), 6, 7, 8, 5, 6, 1, 2, 3, 4]
    assert tree.ends.tolist() == [6, 9, 11, 15, 6]
    seen = [row.isfinite().nonzero().flatten().tolist() for row in tree.mask]
    assert seen[6] == [0, 1, 2, 3, 4, 5, 6]
    assert seen[9] == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    assert seen[11] == [0, 1, 2, 3, 4, 10, 11]
    assert seen[15] == [0, 12, 13, 14, 15]
    assert [len(seen[end]) - 1 for end in tree.ends[:4]] == [*ends]


@pytest.mark.parametrize("at_once", [1, 12, 1024])
def test_features_and_gradients_are_those_of_rows(backbone, texts, at_once, monkeypatch):
    """Equal words have one embedding: each token's own gradients are summed by word, as a lookup would."""
    monkeypatch.setattr(text_tower, "_TOKENS_AT_ONCE", at_once)
    text_tower._grow_trees.cache_clear()
    assert len(grow(texts)) == {1: 5, 12: 4, 1024: 1}[at_once]
    weight = torch.randn(len(WRITTEN), backbone.embed_dim, generator=torch.Generator().manual_seed(0))
    found = []
    for tokens in (texts, texts._replace(sources=None)):
        features = backbone.encode_text(tokens)
        (gradient,) = torch.autograd.grad((features * weight).sum(), texts.embeddings)
        by_word = torch.zeros(int(texts.ids.max()) + 1, backbone.text_width)
        by_word.index_add_(0, texts.ids.flatten(), gradient.flatten(0, 1))
        found.append((features.detach(), by_word))
    text_tower._grow_trees.cache_clear()
    (ours, gradient), (rows, expected) = found
    assert_close(ours, rows, atol=1e-6, rtol=0)
    assert_close(gradient, expected, atol=1e-6 * expected.abs().max().item(), rtol=1e-5)


def test_equal_values_of_other_sources_learn_by_themselves(backbone, texts):
    sources = texts.sources.clone()
    sources[-1] += 1  # the last text has the words of the first
    backbone.encode_text(texts._replace(sources=sources))[-1, 0].backward()
    assert texts.embeddings.grad[-1].abs().sum() > 0
    assert texts.embeddings.grad[:-1].abs().sum() == 0


def test_trees_grown_in_a_test_serve_a_fit(backbone, texts):
    text_tower._grow_trees.cache_clear()
    with torch.inference_mode():
        backbone.encode_text(texts)
    backbone.encode_text(texts)[:, 0].sum().backward()
    assert texts.embeddings.grad.abs().sum() > 0
    assert text_tower._grow_trees.cache_info().hits == 1


def test_deep_prompts_are_each_text_s_own(backbone, texts):
    deep = [torch.randn(len(WRITTEN), 2, backbone.text_width, generator=torch.Generator().manual_seed(0))]
    ours, rows = (backbone.encode_text(each, deep_prompts=deep) for each in (texts, texts._replace(sources=None)))
    assert torch.equal(ours, rows)


def test_sources_of_another_shape_are_refused(backbone, texts):
    with pytest.raises(BackboneError, match=r"Sources of tokens must be \(5, 77, K\) on the CPU; got \(5, 77\)"):
        backbone.encode_text(texts._replace(sources=texts.ids))
