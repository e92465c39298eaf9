"""Semantic concatenation against texts that are really written, and the file of anomalous states."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from benchmark.request import registry
from methods.components.clip.text_tower import Tokens
from methods.components.semantic_concatenation import ConcatenatedPrompts, ConcatenatedTexts, Slots, encode_texts
from methods.components.states import GENERIC_STATES, anomalous_states, remarks_on_lists, without_list


@torch.no_grad()
@pytest.mark.parametrize(
    ("after_name", "learnt"), [(True, "metal nut rusty broken"), (False, "rusty broken metal nut")]
)
def test_learnt_tokens_stand_where_words_would(backbone, after_name, learnt):
    """With embeddings of words in place of learnt tokens the prompts are those words' texts."""
    prompts = ConcatenatedPrompts(
        backbone,
        {"pcb1": "printed circuit board", "metal_nut": "metal nut"},
        {"pcb1": GENERIC_STATES, "metal_nut": ("{} with rust", "old {}")},
        Slots(n_prompts=2, n_ctx=3, n_suffixes=1, n_ctx_suffix=2, after_name=after_name),
    )
    spoken = backbone.tokenize(["a photo of", "this is the", "rusty broken"]).embeddings
    prompts.normal_ctx.copy_(spoken[:2, 1:4])
    prompts.anomalous_ctx.copy_(spoken[2:, 1:3])
    written = [
        *("a photo of metal nut.", "this is the metal nut."),
        *("a photo of metal nut with rust.", "this is the metal nut with rust."),
        *("a photo of old metal nut.", "this is the old metal nut."),
        *(f"a photo of {learnt}.", f"this is the {learnt}."),
    ]
    expected = backbone.encode_text(backbone.tokenize(written), normalise=False)
    text = prompts.encode(backbone, "metal_nut")
    assert_close(torch.cat(text), expected, atol=1e-5, rtol=0)
    anomalous = F.normalize(expected[2:].mean(dim=0), dim=-1)
    assert_close(text.prototypes, torch.stack([F.normalize(expected[:2].mean(dim=0), dim=-1), anomalous]))


@pytest.mark.parametrize(("all_pairs", "different"), [(True, 8), (False, 4)])
def test_pairs_of_context_and_suffix(backbone, all_pairs, different):
    """Two contexts and four suffixes share a divisor: the released rule meets only four pairs, each twice."""
    slots = Slots(n_prompts=2, n_ctx=1, n_suffixes=4, n_ctx_suffix=1, all_pairs=all_pairs)
    prompts = ConcatenatedPrompts(backbone, {"nut": "nut"}, {"nut": ("old {}",)}, slots)
    learnt = prompts("nut").learnt.embeddings
    assert len(learnt) == 8
    assert len(learnt.flatten(1).unique(dim=0)) == different


@pytest.mark.parametrize("after_name", [True, False])
@pytest.mark.parametrize("all_pairs", [True, False])
def test_shared_starts_change_no_feature_and_no_gradient(backbone, after_name, all_pairs):
    slots = Slots(2, 3, n_suffixes=4, n_ctx_suffix=2, after_name=after_name, all_pairs=all_pairs)
    prompts = ConcatenatedPrompts(backbone, {"nut": "metal nut"}, {"nut": ("{} with rust", "{} with dirt")}, slots)
    with torch.no_grad():  # equal values learn apart
        prompts.normal_ctx[1] = prompts.normal_ctx[0]
        prompts.anomalous_ctx[:] = prompts.anomalous_ctx[0, 0]
    texts = prompts("nut")
    apart = ConcatenatedTexts(*(Tokens(part.ids, part.embeddings) for part in texts))
    found = []
    for each in (texts, apart):
        features = F.normalize(torch.cat(encode_texts(backbone, [each])[0]), dim=-1)
        loss = (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum()
        found.append((features, *torch.autograd.grad(loss, list(prompts.parameters()), retain_graph=True)))
    for ours, expected in zip(*found, strict=True):
        assert_close(ours, expected, atol=2e-6 * expected.abs().max().item(), rtol=1e-5)


def test_every_category_of_the_sets_that_papers_describe_has_states():
    for dataset in map(registry.dataset, ("mvtec_ad", "visa", "textile", "procedural", "procedural_auxiliary")):
        for category in dataset.categories:
            found = anomalous_states(category, "specific")
            assert found[:8] == GENERIC_STATES == anomalous_states(category, "generic"), category
            assert 8 + 2 <= len({*found}) == len(found) <= 8 + 7, category
            assert all(state.count("{}") == 1 for state in found), category


def test_auto_takes_the_list_where_there_is_one(tmp_path):
    file = tmp_path / "states.json"
    file.write_text(json.dumps({"nut": ["with rust"], "bolt": []}))
    assert anomalous_states("nut", "auto", str(file)) == (*GENERIC_STATES, "{} with rust")
    assert anomalous_states("cap", "auto", str(file)) == GENERIC_STATES
    assert without_list(("nut", "cap", "bolt"), "auto", str(file)) == ["cap"]
    assert remarks_on_lists(("nut", "cap", "lid"), "auto", str(file)) == [
        "no defect words for cap, lid: generic states"
    ]
    for lists, categories in (("auto", ["nut"]), ("specific", ["cap"]), ("generic", ["cap"])):
        assert not remarks_on_lists(categories, lists, str(file))
    with pytest.raises(ValueError, match=r"states\.json, field 'bolt' must be a list"):
        anomalous_states("bolt", "auto", str(file))
    with pytest.raises(ValueError, match="must be a JSON object"):
        anomalous_states("nut", "auto", str(tmp_path / "nowhere.json"))


@pytest.mark.parametrize("suffixes", [[], "with rust", ["with rust", 3], [" "], ["rusty {}"]])
def test_states_of_a_wrong_kind_are_refused(suffixes, tmp_path):
    file = tmp_path / "states.json"
    file.write_text(json.dumps({"nut": suffixes}))
    with pytest.raises(ValueError, match=r"states\.json, field 'nut' must be a list") as caught:
        anomalous_states("nut", "specific", str(file))
    assert f"got {suffixes!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "got"),
    [(None, "No such file"), (b'{"nut": [', "Expecting value"), (b"\xff", "can't decode"), (b"[1]", r"got \[1\]")],
)
def test_a_file_of_states_that_cannot_be_read_is_refused(content, got, tmp_path):
    file = tmp_path / "states.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"states\.json must be a JSON object with a list of suffixes.*{got}"):
        anomalous_states("nut", "specific", str(file))
