"""PromptAD: what it learns, its options, many categories, and what it refuses."""

from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from datamodules.components.sample import Batch
from methods.components.clip.backbone import BackboneError, Tokens
from methods.components.scoring import fuse
from methods.promptad import PromptAD
from tests.support.steps import train

SIZE = 64
WORDS = {"metal_nut": "metal nut", "pcb1": "printed circuit board"}


def build(backbone, categories=("metal_nut",), seed=0, **settings):
    """Contexts larger than initialised, so that they matter."""
    torch.manual_seed(seed)
    settings = {"map_size": 32} | settings
    method = PromptAD(backbone, {key: WORDS[key] for key in categories}, PromptAD.Config(**settings))
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.mul_(10)
    for category in categories:
        method.adapt(noise_images(2, seed=list(WORDS).index(category)), category)
    return method.eval()


def noise_images(count, seed=7):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def shots(*categories):
    """A batch of normal images, one for each of the keys."""
    count = len(categories)
    nothing = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
    paths = [f"{i}.png" for i in range(count)]
    return Batch(noise_images(count, seed=1), nothing, nothing.any(dim=(1, 2)), list(categories), paths)


def test_fusion_is_harmonic_without_the_factor_two():
    assert_close(fuse(torch.tensor([0.5, 0.2]).log(), torch.tensor([0.5, 0.6]).log()), torch.tensor([0.25, 0.15]))


def test_a_category_without_states_is_refused_unless_the_generic_ones_do(backbone):
    with pytest.raises(ValueError, match=r"promptad_states\.json, field 'nut' must be a list.*got None.*generic"):
        PromptAD(backbone, {"nut": "nut"}, PromptAD.Config(states="specific"))
    PromptAD(backbone, {"nut": "nut"}, PromptAD.Config(states="generic"))


def test_each_category_takes_the_states_that_it_has_and_a_remark_names_the_others(backbone):
    names = {"nut": "nut", **WORDS, "bolt": "bolt"}
    mixed = PromptAD(backbone, names)
    assert mixed.remarks == ["no defect words for nut, bolt: generic states"]
    for states, keys in (("specific", list(WORDS)), ("generic", ["nut", "bolt"])):
        plain = PromptAD(backbone, {key: names[key] for key in keys}, PromptAD.Config(states=states))
        assert not plain.remarks
        for key in keys:
            for head, other in ((mixed.cls, plain.cls), (mixed.seg, plain.seg)):
                assert torch.equal(head(key).manual.ids, other(key).manual.ids)


def test_own_words_take_the_place_of_ours(backbone, tmp_path):
    file = tmp_path / "mine.json"
    file.write_text('{"nut": ["with rust", "eaten by moss"]}')
    method = PromptAD(backbone, {"nut": "nut"}, PromptAD.Config(states_file=str(file)))
    expected = backbone.tokenize([f"N N N N nut {suffix}." for suffix in ("with rust", "eaten by moss")]).ids
    for head, prompts in ((method.cls, 3), (method.seg, 1)):
        ids = head("nut").manual.ids
        assert len(ids) == (8 + 2) * prompts
        assert torch.equal(ids[8 * prompts :], expected.repeat_interleave(prompts, dim=0))


def test_prompts_over_77_tokens_are_refused(backbone):
    with pytest.raises(BackboneError, match=r"prompt of 'nut' is too long.*at most 77 tokens.*very very.*has 8\d"):
        PromptAD(backbone, {"nut": "very " * 75 + "nut"}, PromptAD.Config(states="generic"))
    with pytest.raises(BackboneError, match=r"prompt of 'metal_nut' is too long: its learnt tokens.*N N N"):
        build(backbone, n_ctx=72)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_anomalous": 0}, "1 or more each; got 3 prompts of 4 and 0 suffixes"),
        ({"n_ctx": 0}, "3 prompts of 0 and"),
        ({"states": "my own"}, "'generic'; got 'my own'"),
        ({"memory_layers": (1.5,)}, r"at most 1; got \(1\.5,\)"),
        ({"sigma": -1.0}, "sigma must be 0 or more pixels"),
    ],
)
def test_settings_out_of_range_are_refused(backbone, settings, message):
    with pytest.raises(ValueError, match=message):
        _ = build(backbone, **settings)(noise_images(1), ["metal_nut"]).anomaly_map


def test_images_of_a_category_whose_shots_were_not_seen_are_refused(backbone):
    with pytest.raises(ValueError, match="No normal shots of 'pcb1' were seen"):
        build(backbone)(noise_images(1), ["pcb1"])


@pytest.mark.slow
@pytest.mark.parametrize("text", ["retrieved", "argmax"])
def test_both_heads_judge_as_the_shots_or_the_prototypes_of_the_image_say(backbone, text):
    """Whatever the label is: as the same method does that is told the category."""
    told, free = (build(backbone, tuple(WORDS), bank="pooled", text=each) for each in ("known", text))
    if text == "retrieved":  # half of each of the shots that `build` sampled
        shown = torch.cat([noise_images(2, seed=seed) for seed in (0, 1)])
        images, judges = (shown + noise_images(4)) / 2, ["metal_nut"] * 2 + ["pcb1"] * 2
    else:
        images = noise_images(6)
        with torch.no_grad():
            features = told._encode_image(images).image
            pairs = told.cls.prototypes(backbone, list(WORDS))
        likest = [[max(float(f @ each) for each in pair) for pair in pairs] for f in features]
        judges = [list(WORDS)[each.index(max(each))] for each in likest]
    wrong = [next(key for key in WORDS if key != judge) for judge in judges]
    found, expected, other = free(images, wrong), told(images, judges), told(images, wrong)
    assert torch.equal(found.score, expected.score)
    assert torch.equal(found.anomaly_map, expected.anomaly_map)
    assert (found.score != other.score).all()
    assert (found.anomaly_map != other.anomaly_map).flatten(1).any(dim=1).all()


@pytest.mark.slow
def test_the_same_seed_learns_the_same_and_another_seed_something_else(backbone):
    trained = []
    for seed in (0, 0, 1):
        method = build(backbone, seed=seed)
        train(method, shots("metal_nut"), steps=3)
        trained.append(method.eval()(noise_images(2), ["metal_nut"] * 2))
    assert torch.equal(trained[0].score, trained[1].score)
    assert torch.equal(trained[0].anomaly_map, trained[1].anomaly_map)
    assert not torch.equal(trained[0].score, trained[2].score)


@pytest.mark.slow
def test_learns(backbone):
    losses = train(build(backbone, lr=0.05), shots("metal_nut", "metal_nut"), steps=20)
    assert losses[-1] < losses[0] - 0.02


def test_optimiser_and_schedule_are_the_released_ones(backbone):
    (optimizer,), (schedule,) = build(backbone).configure_optimizers()
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (2e-3, 0.9, 5e-4)
    rates = []
    for _ in range(PromptAD.max_epochs):
        optimizer.step()
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    assert_close(rates[49], (2e-3 + 1e-5) / 2)
    assert_close(rates[99], 1e-5)


def test_sizes_of_the_paper():
    """Of ViT-B-16-plus-240: the blocks of the memory, and 5,120 and 10,240 learnt numbers."""
    backbone = SimpleNamespace(
        text_width=640,
        n_image_blocks=12,
        logit_scale=4.6,
        tokenizer=SimpleNamespace(encode=str.split),
        tokenize=lambda texts: Tokens(torch.zeros(len(texts), 77, dtype=torch.long), torch.zeros(len(texts), 77, 640)),
    )
    method = PromptAD(backbone, {"bottle": "bottle"})
    assert method.taps == (3, 8)
    count = {head: sum(p.numel() for p in getattr(method, head).parameters()) for head in ("cls", "seg")}
    assert count == {"cls": 10_240, "seg": 5_120}
    assert method.state_dict().keys() == dict(method.named_parameters()).keys()


@pytest.mark.slow
def test_many_categories_are_averaged_over_images_and_each_sees_its_own_texts(backbone):
    keys, expected = ("pcb1", "metal_nut", "pcb1"), torch.zeros(())
    joint, batch = build(backbone, tuple(WORDS)), shots(*keys)
    for category in WORDS:
        rows = [row for row, key in enumerate(keys) if key == category]
        alone = build(backbone, (category,))
        alone.load_state_dict(joint.state_dict())
        part = alone.loss(batch._replace(image=batch.image[rows], category=[category] * len(rows)))
        expected += part.detach() * len(rows) / len(keys)
        assert_close(joint(noise_images(2), [category] * 2), alone(noise_images(2), [category] * 2), atol=1e-5, rtol=0)
    assert_close(joint.loss(batch).detach(), expected, atol=1e-5, rtol=1e-5)


def test_map_has_the_size_that_is_asked_for(backbone):
    assert build(backbone, map_size=48)(noise_images(1), ["metal_nut"]).anomaly_map.shape == (1, 48, 48)


@pytest.mark.slow
def test_test_images_with_swapped_channels(backbone):
    swapped = build(backbone, test_channels="bgr")(noise_images(2), ["metal_nut"] * 2)
    assert_close(swapped, build(backbone)(noise_images(2).flip(1), ["metal_nut"] * 2))
    assert not torch.equal(swapped.score, build(backbone)(noise_images(2), ["metal_nut"] * 2).score)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["step", "checkpoint"])
def test_kept_prototypes_follow_the_parameters(backbone, way):
    method, other = build(backbone), build(backbone, seed=1)
    method(noise_images(1), ["metal_nut"])
    if way == "step":
        train(method, shots("metal_nut"), steps=1)
        other.load_state_dict(method.state_dict())
    else:
        method.load_state_dict(other.state_dict())
    assert_close(method.eval()(noise_images(1), ["metal_nut"]), other(noise_images(1), ["metal_nut"]), atol=0, rtol=0)
