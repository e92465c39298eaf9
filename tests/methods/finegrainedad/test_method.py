"""FineGrainedAD: what it learns, its options, where it meets PromptAD, and what it refuses."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from datamodules.components.sample import Batch
from methods.components.captions.fields import CaptionError
from methods.components.scoring import fuse
from methods.finegrainedad.method import FineGrainedAD
from methods.finegrainedad.token_wise import UntrainedKeys
from methods.promptad import PromptAD
from tests.support.small_finegrainedad import WORDS, batch_of, build, noise_images
from tests.support.steps import train


def count_calls(monkeypatch, backbone, name):
    calls, real = [], getattr(backbone, name)

    def counted(*arguments, **settings):
        calls.append(name)
        return real(*arguments, **settings)

    monkeypatch.setattr(backbone, name, counted)
    return calls


@pytest.mark.slow
def test_learns_without_the_image_tower(backbone, monkeypatch):
    method = build(backbone, lr=0.05)
    images, texts = (count_calls(monkeypatch, backbone, f"encode_{kind}") for kind in ("image", "text"))
    losses = train(method, batch_of("metal_nut", "metal_nut"), steps=15)
    assert losses[-1] < losses[0] - 0.05
    assert (len(images), len(texts)) == (0, 15)  # one pass for all levels


@pytest.mark.slow
def test_the_same_seed_learns_the_same_and_another_seed_something_else(backbone):
    trained = []
    for seed in (0, 0, 1):
        method = build(backbone, seed=seed)
        train(method, batch_of("metal_nut"), steps=2)
        trained.append(method.eval()(noise_images(2), ["metal_nut"] * 2))
    assert torch.equal(trained[0].anomaly_map, trained[1].anomaly_map)
    assert not torch.equal(trained[0].score, trained[2].score)


@pytest.mark.slow
def test_optimiser_and_schedule_are_the_released_ones(backbone):
    (optimizer,), (schedule,) = build(backbone).configure_optimizers()
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (2e-3, 0.9, 5e-4)
    assert (schedule.T_max, schedule.eta_min) == (100, 1e-5) == (FineGrainedAD.max_epochs, 1e-5)


@pytest.mark.slow
def test_sizes_of_the_paper(backbone):
    """Of the widths of ViT-B-16-plus-240: 5,128 learnt numbers, and 4 of 12 and 8 of 12 blocks in the memory."""
    wide = SimpleNamespace(
        text_width=640,
        n_image_blocks=12,
        logit_scale=4.6,
        embed_dim=640,
        tokenizer=backbone.tokenizer,
        tokenize=lambda texts: backbone.tokenize(texts)._replace(embeddings=torch.zeros(len(texts), 77, 640)),
    )
    method = FineGrainedAD(wide, {"pcb1": "printed circuit board"})
    assert method.taps == (3, 8)
    assert sum(parameter.numel() for parameter in method.parameters()) == 5_128
    n_levels = 2 + len(method.seg.levels["pcb1"].components)
    separate = FineGrainedAD(wide, {"pcb1": ""}, FineGrainedAD.Config(separate_contexts=True))
    assert sum(parameter.numel() for parameter in separate.parameters()) == n_levels * 5_120 + 8


@pytest.mark.slow
def test_many_categories_are_averaged_over_images_and_each_sees_its_own(backbone):
    keys, expected = ("pcb1", "metal_nut", "pcb1"), torch.zeros(())
    joint = build(backbone, tuple(WORDS))
    for category in WORDS:
        alone = build(backbone, (category,))
        alone.seg.load_state_dict(joint.seg.state_dict())
        alone.seg.levels, alone.seg.templates = joint.seg.levels, joint.seg.templates  # the same sampled words
        alone.shots[category] = joint.shots[category]
        expected += alone.loss(batch_of(category)).detach() * keys.count(category) / len(keys)
        assert_close(joint(noise_images(2), [category] * 2), alone(noise_images(2), [category] * 2), atol=1e-5, rtol=0)
    assert_close(joint.loss(batch_of(*keys)).detach(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_untrained_keys_are_no_part_of_what_is_learnt(backbone):
    method = build(backbone, compat="released")
    assert isinstance(method.keys, UntrainedKeys)
    before = [value.clone() for value in method.keys.parameters()]
    train(method, batch_of("metal_nut"), steps=2)
    assert all(torch.equal(*pair) for pair in zip(before, method.keys.parameters(), strict=True))
    assert not torch.equal(method.seg.normal_ctx, build(backbone, compat="released").seg.normal_ctx)


@pytest.mark.slow
def test_without_a_caption_it_is_promptad(backbone):
    """The same map from the same contexts, and no regions and no regularisation in the loss."""
    states = {"states": "generic"}
    method = build(backbone, ("widget",), **states)
    assert method.remarks[0].startswith("No caption of widget: PromptAD's prompts")
    plain = build(backbone, ("widget",), cls=PromptAD, n_prompts_cls=1, margin=1.0, **states)
    with torch.no_grad():
        for head in (plain.seg, plain.cls):
            head.normal_ctx.copy_(method.seg.normal_ctx[0])
            head.anomalous_ctx.copy_(method.seg.anomalous_ctx[0])
    found, expected = method(noise_images(3), ["widget"] * 3), plain(noise_images(3), ["widget"] * 3)
    assert_close(found.anomaly_map, expected.anomaly_map, atol=1e-6, rtol=0)
    assert_close(found.score, expected.score, atol=1e-6, rtol=0)
    shots = Batch(noise_images(2, 2), *batch_of("widget", "widget")[1:])
    terms = plain.loss_terms(shots).seg
    assert_close(method.loss(shots), terms.contrast + terms.margin + 1e-3 * terms.alignment)


@pytest.mark.slow
def test_image_inference_uses_the_image_level_alone(backbone):
    method = build(backbone, inference="image")
    features = method._encode_image(noise_images(2))
    with torch.no_grad():
        normal, anomalous = method.seg.prototypes(backbone, ["metal_nut"])[0, 0]
    textual = (method.scale * features.patches[0] @ torch.stack([normal, anomalous]).T).log_softmax(dim=-1)[..., 1]
    assert_close(method._compare(method.seg, features.patches[0], torch.tensor([0, 0])), textual)
    token_wise = build(backbone)(noise_images(2), ["metal_nut"] * 2)
    assert not torch.equal(method(noise_images(2), ["metal_nut"] * 2).anomaly_map, token_wise.anomaly_map)


@pytest.mark.slow
def test_options_change_their_term_of_the_loss_alone(backbone):
    usual, even, free = (build(backbone, **s) for s in ({}, {"region_weight": 0.0}, {"reg_weight": 0.0}))
    assert usual.shots["metal_nut"].weights.unique().numel() > 1
    assert torch.equal(even.shots["metal_nut"].weights, torch.ones_like(usual.shots["metal_nut"].weights))
    terms = {name: m.loss_terms("metal_nut")["seg"] for name, m in (("usual", usual), ("even", even))}
    assert_close(terms["usual"].image, terms["even"].image)
    assert not torch.equal(terms["usual"].components[0].contrast, terms["even"].components[0].contrast)
    batch = batch_of("metal_nut")
    assert_close(usual.loss(batch) - free.loss(batch), terms["usual"].regularisation)


@pytest.mark.slow
def test_shots_are_tiled_four_by_four(backbone):
    assert (build(backbone).shot_scale, build(backbone, region_weight=0.0).shot_scale) == (4, 1)
    method = build(backbone, scale=4)
    weights = method.shots["metal_nut"].weights
    assert weights.shape[1:] == (2, 16)  # 4 x 4 patches of either shot
    assert not torch.equal(weights, build(backbone).shots["metal_nut"].weights)  # these were enlarged


@pytest.mark.slow
def test_second_head_scores_images_and_leaves_the_map(backbone):
    one, two = build(backbone), build(backbone, score_head="cls")
    found, expected = two(noise_images(2), ["metal_nut"] * 2), one(noise_images(2), ["metal_nut"] * 2)
    assert two.cls.normal_ctx.shape[1] == 3
    assert_close(found.anomaly_map, expected.anomaly_map)
    assert not torch.allclose(found.score, expected.score)
    extra = two.loss_terms("metal_nut")["cls"]
    levels = (extra.image, *extra.components, extra.background)
    aligned = sum(each.alignment for each in (extra.image, *extra.components))
    expected = sum(each.contrast + each.margin for each in levels) + 1e-3 * aligned
    assert_close(two.loss(batch_of("metal_nut")) - one.loss(batch_of("metal_nut")), expected)


@pytest.mark.slow
def test_released_test_images_have_swapped_channels(backbone):
    method = build(backbone, compat="released")
    swapped = method(noise_images(2).flip(1), ["metal_nut"] * 2)
    method.choices = method.choices._replace(bgr=False)
    assert_close(swapped, method(noise_images(2), ["metal_nut"] * 2))


@pytest.mark.slow
def test_texts_are_encoded_once_until_they_change(backbone, monkeypatch):
    method, texts = build(backbone), count_calls(monkeypatch, backbone, "encode_text")
    for _ in range(3):
        method(noise_images(1), ["metal_nut"])
    assert len(texts) == 1
    train(method, batch_of("metal_nut"), steps=1)
    method.eval()(noise_images(1), ["metal_nut"])
    assert len(texts) == 3


@pytest.mark.slow
def test_score_joins_text_and_memory(backbone):
    method = build(backbone)
    features = method._encode_image(noise_images(1))
    textual = method._compare(method.seg, features.image.unsqueeze(1), torch.tensor([0])).squeeze()
    nearest = method.memory.distances(F.normalize(features.taps, dim=-1), ["metal_nut"])
    visual = torch.stack(nearest).mean(dim=0).view(1, 1, 4, 4) / 2
    peak = F.interpolate(visual, (32, 32), mode="bilinear").max()
    assert_close(method(noise_images(1), ["metal_nut"]).score[0], fuse(textual, peak.log()).detach())


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"region_weight": -1.0}, ValueError, r"0 or more; got -1\.0, 1\.0"),
        ({"reg_weight": -0.5}, ValueError, r"0 or more; got 1\.5, -0\.5"),
        ({"captions": "nowhere"}, CaptionError, "captions must be one of .* or the path of a YAML file; got 'nowhere'"),
        ({"n_anomalous": 0}, ValueError, "1 or more each; got 1 prompts of 4 and 0 suffixes"),
        ({"n_ctx": 70}, CaptionError, r"mvtec_ad\.yaml, metal_nut\..*: must make prompts of 77 tokens at most"),
    ],
)
def test_settings_out_of_range_are_refused(backbone, settings, error, message):
    with pytest.raises(error, match=message):
        build(backbone, **settings)


def test_a_category_without_states_is_refused_unless_the_generic_ones_do(backbone, tmp_path):
    file = tmp_path / "mine.json"
    file.write_text('{"bolt": ["with rust"]}')
    with pytest.raises(ValueError, match=r"mine\.json, field 'metal_nut' must be a list.*got None"):
        build(backbone, states_file=str(file), states="specific")
    assert (
        build(backbone, states_file=str(file), states="generic")
        .seg.levels["metal_nut"]
        .image.manual[0]
        .count("damaged")
    )


def test_each_category_takes_the_states_that_it_has_and_a_remark_names_the_others(backbone):
    mixed = FineGrainedAD(backbone, {"widget": "widget", **WORDS})
    assert mixed.remarks[0].startswith("No caption of widget: ")
    assert mixed.remarks[1:] == ["no defect words for widget: generic states"]
    plain = FineGrainedAD(backbone, {"widget": "widget"}, FineGrainedAD.Config(states="generic"))
    assert mixed.words["widget"] == plain.words["widget"]
    assert len(plain.remarks) == 1
    specific = FineGrainedAD(backbone, WORDS, FineGrainedAD.Config(states="specific"))
    assert not specific.remarks
    assert all(mixed.words[key].image == specific.words[key].image for key in WORDS)


@pytest.mark.slow
@pytest.mark.parametrize("score_head", ["seg", "cls"])
@pytest.mark.parametrize("text", ["retrieved", "argmax"])
def test_all_levels_judge_as_the_shots_or_the_image_level_say(backbone, text, score_head):
    """Whatever the label is: as the same method does that is told the category."""
    shared = {"bank": "pooled", "score_head": score_head, "region_weight": 0.0}
    told, free = (build(backbone, tuple(WORDS), text=each, **shared) for each in ("known", text))
    if text == "retrieved":  # half of each of the shots that `build` sampled
        shown = torch.cat([noise_images(2, seed) for seed in (0, 1)])
        images, judges = (shown + noise_images(4)) / 2, ["metal_nut"] * 2 + ["pcb1"] * 2
    else:
        images = noise_images(6)
        with torch.no_grad():
            features = told._encode_image(images).image
            pairs = (told.cls or told.seg).prototypes(backbone, list(WORDS))[:, 0]
        likest = [[max(float(f @ each) for each in pair) for pair in pairs] for f in features]
        judges = [list(WORDS)[each.index(max(each))] for each in likest]
    wrong = [next(key for key in WORDS if key != judge) for judge in judges]
    found, expected, other = free(images, wrong), told(images, judges), told(images, wrong)
    assert torch.equal(found.score, expected.score)
    assert torch.equal(found.anomaly_map, expected.anomaly_map)
    assert (found.score != other.score).all()
    assert (found.anomaly_map != other.anomaly_map).flatten(1).any(dim=1).all()


def test_categories_whose_shots_were_not_seen_are_refused(backbone):
    method = FineGrainedAD(backbone, WORDS)
    with pytest.raises(ValueError, match="No normal shots of 'pcb1' were seen; `adapt` has seen: none"):
        method.loss(batch_of("pcb1"))
    with pytest.raises(ValueError, match="No normal shots of 'pcb1' were seen"):
        method(noise_images(1), ["pcb1"])
