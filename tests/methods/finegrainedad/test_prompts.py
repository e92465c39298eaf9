"""Prompts of all levels against texts that are really written, and what is said where a caption is missing or wrong."""

import re
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from methods.components.captions.fields import CaptionError
from methods.components.captions.lookup import read_captions
from methods.components.semantic_concatenation import ConcatenatedPrompts, ConcatenatedTexts, Slots, encode_texts
from methods.components.states import GENERIC_STATES, anomalous_states
from methods.finegrainedad.prompts import MultiLevelPrompts
from methods.finegrainedad.words import find_words, rank_by_embedding, without_captions

SLOTS = Slots(n_prompts=1, n_ctx=2, n_suffixes=2, n_ctx_suffix=1)
OWN = ("{} with rust", "{} with dirt")
STATES = {"nut": (*GENERIC_STATES, *OWN)}
NUT = """
schema: 1
categories:
  nut:
    caption: One Nut lies flat, and the Nut is round.
    foreground: Nut
    background: BACKGROUND
    relation: The bore sits in the middle of the outer ring.
    components:
      - {entity: bore, caption: A smooth bore in the center., number: 1, location: center, direction: null,
         colour: black, texture: smooth, shape: round}
      - {entity: outer ring, caption: The silver Outer Ring at the edge., number: 1, location: edge, direction: null,
         colour: silver, texture: smooth, shape: round}
"""


@pytest.fixture
def source(tmp_path):
    """Writes the caption with other words and gives the file's path."""

    def write(background="wet sand", **changes):
        text = NUT.replace("BACKGROUND", background)
        for old, new in changes.values():
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "mine.yaml"
        file.write_text(text)
        return str(file)

    return write


def find(backbone, source, seed=0, states=STATES, slots=SLOTS, **settings):
    torch.manual_seed(seed)
    return find_words(backbone, {"nut": "nut"}, states, source, slots, **settings)


def test_words_of_every_level(backbone, source):
    said = find(backbone, source())["nut"]
    assert said.image.normal == "One Nut lies flat, and the Nut is round."
    assert said.image.manual == [
        f"One Nut with {state} lies flat, and the Nut with {state} is round." for state in ("rust", "dirt")
    ]
    assert said.background.normal == "wet sand background"
    assert said.background.manual == ["wet sand background with rust", "wet sand background with dirt"]
    relation, colour, texture, shape = said.attributes
    assert sorted(relation.manual) == [
        f"The bore with {state} sits in the middle of the outer ring with {state}." for state in ("dirt", "rust")
    ]
    assert [each.normal for each in (colour, texture, shape)] == ["black.silver", "smooth.smooth", "round.round"]
    assert all(len(each.manual) == 2 for each in said.attributes)
    assert not {*colour.manual} & {"black", "silver"}


@pytest.mark.slow
def test_a_component_gets_one_state_and_another_place(backbone, source):
    seen = set()
    for seed in range(40):
        bore, ring = (component.manual for component in find(backbone, source(), seed)["nut"].components)
        assert len(bore) == len(ring) == 1
        state, place = re.fullmatch(r"A smooth bore with (rust|dirt) (.*)\.", bore[0]).groups()
        assert place not in ("in the center", "in the middle")
        assert re.fullmatch(r"The silver Outer Ring with (rust|dirt) (?!at the edge|in the corners)\w+ .*\.", ring[0])
        seen.add((state, place))
    assert {state for state, _ in seen} == {"rust", "dirt"}
    assert len({place for _, place in seen}) > 5
    assert find(backbone, source(), 3) == find(backbone, source(), 3)


def test_no_background_no_level_unless_the_released_words_are_asked_for(backbone, source):
    assert find(backbone, source("null"))["nut"].background is None
    released = find(backbone, source("null"), none_background=True)["nut"]
    assert released.background.normal == "none background"


def test_alternatives_are_ranked_by_their_embeddings(backbone):
    words = ["blue", "light brown", "square"]
    ranked = rank_by_embedding(backbone, 2, words)
    means = {word: backbone.tokenize([f"N N {word}."]).embeddings.mean().item() for word in words}
    assert ranked == sorted(words, key=means.get, reverse=True)


@torch.no_grad()
@pytest.mark.parametrize(("after", "order"), [(True, "{text} {suffix}"), (False, "{suffix} {text}")])
def test_learnt_tokens_and_attributes_stand_where_words_would(backbone, source, after, order):
    """Against tokens of written texts: contexts "a photo", suffix "rusty", and attributes added with weights."""
    words = find(backbone, source())
    prompts = MultiLevelPrompts(backbone, words, SLOTS._replace(after_name=after))
    spoken = backbone.tokenize(["a photo", "rusty old"]).embeddings
    prompts.normal_ctx.copy_(spoken[:1, 1:3].unsqueeze(0))
    prompts.anomalous_ctx.copy_(spoken[1, 1:3].view(1, 2, 1, -1))
    said = words["nut"]

    def embed(texts):
        return backbone.tokenize([f"a photo {text}." for text in texts]).embeddings

    weights = 1 / (1 + (-prompts.attribute_weights).exp())
    families = {
        "normal": (lambda each: [each.normal], weights[0]),
        "manual": (lambda each: each.manual, weights[1]),
        "learnt": (
            lambda each: [order.format(text=each.normal, suffix=suffix) for suffix in ("rusty", "old")],
            weights[1],
        ),
    }
    image, bore, ring, background = prompts("nut")
    for family, (texts, weight) in families.items():
        mixed = embed(texts(said.image))
        for each, attribute in zip(weight, said.attributes, strict=True):
            mixed = mixed + each * embed(texts(attribute))
        assert_close(getattr(image, family).embeddings, mixed, atol=1e-6, rtol=1e-5, msg=family)
        for level, own in ((bore, said.components[0]), (ring, said.components[1]), (background, said.background)):
            assert_close(getattr(level, family).embeddings, embed(texts(own)), msg=family)
    features = prompts.encode(backbone, "nut")
    alone = backbone.encode_text(background.manual, normalise=False)
    assert_close(features.background.manual, alone, atol=1e-5, rtol=0)
    assert_close(features.prototypes[-1], features.background.prototypes)
    assert len(features.prototypes) == 4


@pytest.mark.slow
@torch.no_grad()
def test_contexts_of_each_level_or_of_all(backbone, source):
    words = find(backbone, source())
    shared, separate = (MultiLevelPrompts(backbone, words, SLOTS, separate=apart) for apart in (False, True))
    one_set = (2 + 2) * backbone.text_width
    assert sum(p.numel() for p in shared.parameters()) == one_set + 8
    assert sum(p.numel() for p in separate.parameters()) == 4 * one_set + 8
    for prompts, changed in ((shared, 4), (separate, 1)):
        before = prompts.encode(backbone, "nut").prototypes
        prompts.normal_ctx[-1].normal_()  # of the last component, where they are separate
        after = prompts.encode(backbone, "nut").prototypes
        assert [not torch.allclose(*pair) for pair in zip(before, after, strict=True)].count(True) == changed


@pytest.mark.parametrize("separate", [True, False])
def test_shared_starts_change_no_feature_and_no_gradient(backbone, source, separate):
    prompts = MultiLevelPrompts(backbone, find(backbone, source()), SLOTS, separate=separate)
    with torch.no_grad():  # equal values learn apart
        for parameter in prompts.parameters():
            parameter[:] = parameter.flatten()[0]
    texts, found = prompts("nut"), []
    for each in (texts, [ConcatenatedTexts(*(part._replace(sources=None) for part in text)) for text in texts]):
        features = torch.cat([torch.cat(level) for level in encode_texts(backbone, each)])
        features = torch.nn.functional.normalize(features, dim=-1)
        loss = (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum()
        found.append((features, *torch.autograd.grad(loss, list(prompts.parameters()), retain_graph=True)))
    for ours, expected in zip(*found, strict=True):
        assert_close(ours, expected, atol=2e-6 * expected.abs().max().item(), rtol=1e-5)


@torch.no_grad()
def test_without_a_caption_prompts_are_those_of_promptad(backbone):
    words = find(backbone, None)
    assert "No caption of nut" in without_captions(words)[0]
    prompts = MultiLevelPrompts(backbone, words, SLOTS)
    plain = ConcatenatedPrompts(backbone, {"nut": "nut"}, STATES, SLOTS)
    plain.normal_ctx.copy_(prompts.normal_ctx[0])
    plain.anomalous_ctx.copy_(prompts.anomalous_ctx[0])
    (image,) = prompts("nut")
    for ours, theirs in zip(image, plain("nut"), strict=True):
        assert torch.equal(ours.ids, theirs.ids)
        assert torch.equal(ours.embeddings, theirs.embeddings)


@torch.no_grad()
def test_categories_with_fewer_levels_repeat_the_image(backbone, source):
    words = find_words(backbone, {"nut": "nut", "bolt": "bolt"}, STATES | {"bolt": GENERIC_STATES}, source(), SLOTS)
    assert "No caption of bolt:" in without_captions(words)[0]
    known = MultiLevelPrompts(backbone, words, SLOTS).prototypes(backbone, ["bolt", "nut", "bolt"])
    assert known.shape == (3, 4, 2, backbone.embed_dim)
    assert torch.equal(known[0], known[0, :1].expand(4, -1, -1))
    assert torch.equal(known[0], known[2])
    assert not torch.allclose(known[1, 0], known[1, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("A smooth bore in", "A smooth hole in"), r"mine\.yaml, nut\.components\[0\]\.entity: must occur in its"),
        (("foreground: Nut", "foreground: bolt"), r"mine\.yaml, nut\.foreground: must occur"),
        (("lies flat", "lies " + "very " * 70 + "flat"), r"mine\.yaml, nut\.caption: must make prompts of 77 tokens"),
        (("    relation:", "    colour: red\n    relation:"), r"mine\.yaml, nut: must hold exactly the fields"),
    ],
)
def test_captions_that_break_a_rule_are_refused(backbone, source, change, message):
    with pytest.raises(CaptionError, match=message):
        find(backbone, source(change=change))


def test_words_that_mean_the_same_are_no_anomalous_ones(backbone, source):
    own = """
vocabulary:
  colour: [ebony]
  location: {hub: around the hub}
  synonyms: {colour: [[ebony, black]], location: [[hub, center]]}
categories:"""
    file = source(change=("\ncategories:", own))
    for seed in range(40):
        said = find(backbone, file, seed)["nut"]
        assert not {"ebony", "black and white", "gray"} & {*said.attributes[1].manual}
        assert "around the hub" not in said.components[0].manual[0]
    vocabulary = read_captions(file).vocabulary
    assert {"ebony", "silver"} <= {*vocabulary.others("colour", {"white"})}
    assert {"hub", "middle"} <= {*vocabulary.others("location", {"edge"})}
    assert vocabulary.others("shape", {"round", "bent"}) == [
        word
        for word in vocabulary.shape
        if word
        not in ("round", "ring-shaped", "spherical", "cylindrical", "rounded", "bent", "curved", "kidney-shaped")
    ]


def test_too_few_alternatives_are_refused(backbone, source):
    many = {"nut": (*GENERIC_STATES, *("{} with rust" for _ in range(30)))}
    with pytest.raises(CaptionError, match=r"mine\.yaml, nut\.components\.colour: must leave 30 words"):
        find(backbone, source(), states=many)


@pytest.mark.slow
def test_every_shipped_caption_makes_prompts(backbone):
    for name in ("mvtec_ad", "visa", "procedural"):
        categories = {path: path for path in _categories(name)}
        states = {category: anomalous_states(category, "specific") for category in categories}
        words = find_words(backbone, categories, states, name, Slots(1, 4, 4, 1))
        assert all(said.components and len(said.attributes) == 4 for said in words.values())


def _categories(name):
    lines = (Path(__file__).parents[3] / "configs" / "captions" / f"{name}.yaml").read_text().splitlines()
    after = lines[lines.index("categories:") + 1 :]
    return [line.strip(" :") for line in after if line.startswith("  ") and line[2] not in " -#"]
