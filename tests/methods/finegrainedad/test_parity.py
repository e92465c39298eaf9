"""FineGrainedAD against recorded tensors: prompts, regions, weights, losses, gradients, keys and maps.

`pytest tests/methods/finegrainedad/test_parity.py --fixture PATH` runs the same on another file of the schema. The file
is a second reading of the specification, not output of the released code. It mixes released and described choices: a
suffix before the caption, hinges over tokens, the next attention in the memory and the first shot's foreground, with
two seeds for the foreground, three neighbours for the parts, no noise and both kinds of weights and keys.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from datamodules.components.sample import Batch
from methods.components.scoring import to_grid
from methods.finegrainedad import words as multi_level_words
from methods.finegrainedad.losses import add_up
from methods.finegrainedad.method import FineGrainedAD
from methods.finegrainedad.region_aggregation import Rules, find_regions, weigh_regions
from methods.finegrainedad.token_wise import log_token_wise_probability
from tests.support.recorded_captions import CATEGORY, bare, load, open_backbone, read_captions, seed_that_samples

pytestmark = pytest.mark.slow

FIXTURE = Path(__file__).parents[2] / "fixtures" / "finegrainedad_ref.npz"
FORWARD = {"atol": 2e-5, "rtol": 0}
LOSS = {"atol": 1e-5, "rtol": 1e-6}
GRADIENT = 1e-4  # of each tensor's largest
FAMILIES = {"normal": "n", "manual": "h", "learnt": "l"}  # ours: theirs
KINDS = ("rel", "col", "tex", "shp")
CONSTANTS = {"weight": 1.5, "sigma": 4.0, "align": 1e-3, "margin": 1.0, "neighbours": 3}  # of the schema
RULES = Rules(split="language", k_parts=CONSTANTS["neighbours"], first_shot=True)


@pytest.fixture(scope="module")
def parity(request, tmp_path_factory):
    """The recorded tensors, and what builds a method that has seen the recorded shots."""
    with np.load(request.config.getoption("fixture") or FIXTURE) as file:
        texts = {key.removesuffix("_json"): json.loads(str(file[key])) for key in file.files if key.endswith("_json")}
        recorded = {k: torch.from_numpy(np.asarray(file[k])) for k in file.files if not k.endswith("_json")}
    record, strings = texts["record"], texts["strings"]
    weights = {k.removeprefix("clip."): v for k, v in recorded.items() if k.startswith("clip.")}
    backbone = open_backbone(weights, recorded["lo_x"].shape[-1])
    behind = f"{record['background']} background"
    suffixes = [text.removeprefix(behind).strip() for text in bare(strings["bg_h"])]
    states_file = tmp_path_factory.mktemp("finegrainedad") / "states.json"
    states_file.write_text(json.dumps({CATEGORY: suffixes}))
    captions = read_captions(record, strings, texts["random_choices"])
    expected = [bare(strings[f"e{i}_h"])[0] for i in range(len(record["entity"]))]
    seed = seed_that_samples(captions, ["{} " + suffix for suffix in suffixes], expected)
    shots, images = (recorded[key] * backbone.std + backbone.mean for key in ("lo_x", "query_x"))

    def build(weights="fixed", keys="normal"):
        settings = {
            "region_weight": 0.0,
            "map_size": recorded["map_final_normal"].shape[-1],
            "n_anomalous": len(recorded["abnormal_ctx"]),
        }
        config = FineGrainedAD.Config(compat="released", states_file=str(states_file), **settings)
        torch.manual_seed(seed)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(multi_level_words, "find_captions", lambda category, sources: captions)
            method = FineGrainedAD(backbone, {CATEGORY: "bottle"}, config)
        method.choices = method.choices._replace(bgr=False)
        load(method, recorded)
        method.keys = None if keys == "normal" else method.keys
        method.adapt(shots, CATEGORY)
        seen = method.shots[CATEGORY]
        method.shots[CATEGORY] = seen._replace(weights=recorded[f"weight_{weights}"])
        return method.eval()

    return SimpleNamespace(
        build=build, recorded=recorded, strings=strings, images=images, keys=[CATEGORY] * len(images)
    )


def in_our_order(pairs):
    """Image, components, background; recorded are components, image, background."""
    return torch.cat([pairs[-2:-1], pairs[:-2], pairs[-1:]])


def text_regions(recorded):
    return F.normalize(recorded["txt_ent_n"].mean(dim=1), dim=-1), F.normalize(recorded["txt_bg_n"].mean(dim=0), dim=-1)


def test_prompts_of_every_level(parity):
    method = parity.build()
    n_components = len(method.seg.levels[CATEGORY].components)
    names = ("img", *(f"e{i}" for i in range(n_components)), "bg")
    for name, texts in zip(names, method.seg(CATEGORY), strict=True):
        for ours, theirs in FAMILIES.items():
            expected = method.backbone.tokenize(parity.strings[f"{name}_{theirs}"]).ids
            assert torch.equal(getattr(texts, ours).ids, expected), (name, ours)


def test_words_of_the_attributes(parity):
    """The normal ones, and the anomalous ones that are kept, in their order."""
    for name, said in zip(KINDS, parity.build().seg.levels[CATEGORY].attributes, strict=True):
        offered = bare(parity.strings[f"{name}_h"])
        assert [said.normal] == bare(parity.strings[f"{name}_n"])
        assert list(said.manual) == [offered[index] for index in parity.recorded[f"topk_{name}"]]


@pytest.mark.parametrize("family", FAMILIES)
def test_attributes_are_mixed_on_embeddings(parity, family):
    expected = parity.recorded[f"emb_img_{FAMILIES[family]}"]
    embeddings = getattr(parity.build().seg(CATEGORY)[0], family).embeddings
    assert_close(embeddings[:, : expected.shape[1]], expected, **FORWARD)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_text_features(parity, family):
    method, recorded, theirs = parity.build(), parity.recorded, FAMILIES[family]
    text = method.seg.encode(method.backbone, CATEGORY)
    assert_close(getattr(text.image, family), recorded[f"txt_img_{theirs}"], **FORWARD)
    components = torch.stack([getattr(component, family) for component in text.components])
    assert_close(components, recorded[f"txt_ent_{theirs}"], **FORWARD)
    assert_close(getattr(text.background, family), recorded[f"txt_bg_{theirs}"], **FORWARD)


def test_features_of_shots(parity):
    assert_close(parity.build().shots[CATEGORY].patches, parity.recorded["tokens"], **FORWARD)


@pytest.mark.parametrize(("first_shot", "foreground"), [(True, "stage1_fg_code"), (False, "stage1_fg_perimage")])
def test_foreground(parity, first_shot, foreground):
    rules = RULES._replace(first_shot=first_shot)
    found = find_regions(parity.recorded["tile_tokens"], *text_regions(parity.recorded), rules)
    assert torch.equal(found.foreground.long(), parity.recorded[foreground])


def test_regions_and_what_they_weigh(parity):
    recorded = parity.recorded
    found = find_regions(recorded["tile_tokens"], *text_regions(recorded), RULES)
    assert torch.equal(found.ids, recorded["region_id"])
    assert torch.equal(found.match, recorded["region_match"].expand_as(found.match))
    grid = (int(recorded["tokens"].shape[1] ** 0.5),) * 2
    for name, scrambled in (("fixed", False), ("code", True)):
        weights = weigh_regions(found, CONSTANTS["weight"], grid, scrambled=scrambled)
        assert_close(weights, recorded[f"weight_{name}"], atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("weights", ["fixed", "code"])
def test_every_term_of_the_loss(parity, weights):
    method, recorded = parity.build(weights), parity.recorded
    terms = method.loss_terms(CATEGORY)["seg"]
    regions = (*terms.components, terms.background)
    for ours, theirs in (("contrast", "clip"), ("margin", "margin"), ("alignment", "align")):
        assert_close(getattr(terms.image, ours), recorded[f"loss_img_{theirs}"], **LOSS, msg=ours)
    for ours, theirs in (("contrast", "clip"), ("margin", "margin")):
        each = torch.stack([getattr(region, ours) for region in regions])
        assert_close(each, recorded[f"loss_entity_{theirs}_{weights}"], **LOSS, msg=ours)
    aligned = torch.stack([component.alignment for component in terms.components])
    if weights == "fixed":  # texts alone
        assert_close(aligned, recorded["loss_entity_align"], **LOSS)
    assert_close(terms.regularisation, recorded["loss_reg"], **LOSS)
    assert_close(add_up(terms, CONSTANTS["align"], 1.0), recorded[f"loss_total_{weights}"], **LOSS)


@pytest.mark.parametrize("weights", ["fixed", "code"])
def test_loss_and_gradients(parity, weights):
    method, recorded = parity.build(weights), parity.recorded
    k = len(recorded["lo_x"])
    nothing = torch.zeros(k, 1, 1, dtype=torch.bool)
    batch = Batch(recorded["lo_x"], nothing, nothing.any(dim=(1, 2)), [CATEGORY] * k, ["0.png"] * k)
    loss = method.train().loss(batch)
    assert_close(loss.detach(), recorded[f"loss_total_{weights}"], **LOSS)
    loss.backward()
    ours = {
        "normal_ctx": method.seg.normal_ctx.grad[0],
        "abnormal_ctx": method.seg.anomalous_ctx.grad[0],
        "attr_w_normal": method.seg.attribute_weights.grad[0],
        "attr_w_abnormal": method.seg.attribute_weights.grad[1],
    }
    for name, gradient in ours.items():
        expected = recorded[f"grad_{name}_{weights}"]
        assert_close(gradient, expected, atol=GRADIENT * expected.abs().max().item(), rtol=0, msg=name)


@torch.no_grad()
def test_prototypes_and_keys(parity):
    method, recorded = parity.build(keys="qformer"), parity.recorded
    prototypes = method.seg.prototypes(method.backbone, [CATEGORY])[0]
    assert_close(prototypes, in_our_order(recorded["gallery"]), **FORWARD)
    expected = F.normalize(in_our_order(recorded["qf_out"]), dim=-1)
    assert_close(method.keys(prototypes), expected, **FORWARD)


@torch.no_grad()
@pytest.mark.parametrize("keys", ["normal", "qformer"])
def test_maps_of_patches(parity, keys):
    method, recorded = parity.build(keys=keys), parity.recorded
    features = method._encode_image(parity.images)
    assert_close(features.patches[0], recorded["query_tokens"], **FORWARD)
    pairs = recorded["gallery"].expand(len(parity.images), -1, -1, -1)
    query_keys = method.keys(pairs) if method.keys else None
    chosen = (features.patches[0] @ (pairs[:, :, 0] if query_keys is None else query_keys).transpose(1, 2)).argmax(-1)
    assert torch.equal(chosen, recorded[f"match_{keys}"])
    textual = log_token_wise_probability(features.patches[0], pairs, query_keys, method.scale).exp()
    assert_close(to_grid(textual, features.grid), recorded[f"map_text_{keys}"].squeeze(1), **FORWARD)
    taps = F.normalize(features.taps, dim=-1)
    visual = torch.stack(method.memory.distances(taps, parity.keys)).mean(dim=0) / 2
    assert_close(to_grid(visual, features.grid), recorded["map_visual"].squeeze(1), **FORWARD)
    fused = 1 / (1 / textual + 1 / visual)
    assert_close(to_grid(fused, features.grid), recorded[f"map_fused_{keys}"].squeeze(1), **FORWARD)


def test_prediction(parity):
    prediction = parity.build()(parity.images, parity.keys)
    assert_close(prediction.anomaly_map, parity.recorded["map_final_normal"], **FORWARD)
