"""FAPrompt against a transcription that shares no code with it, its options, and what it refuses."""

from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from datamodules.components.sample import Batch
from methods.components.clip.backbone import Tokens
from methods.faprompt import FAPrompt, select_patches
from tests.support.plain_faprompt import plain_twin, total

SIZE = 64
THEIRS = {"dice1_anomalous": "dice1_abnormal", "dice2_anomalous": "dice2_abnormal", "orthogonality": "oc"}


def build(backbone, seed=0, **settings):
    """Prompts and prior larger than initialised, so that both matter."""
    torch.manual_seed(seed)
    method = FAPrompt(backbone, {"nut": "nut"}, FAPrompt.Config(**settings))
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.mul_(4)
    return method.eval()


def noise_images(count, seed=3):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def noise_batch(count=3):
    mask = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
    mask[-1, 10:30, 16:48] = True
    return Batch(noise_images(count), mask, mask.any(dim=(1, 2)), ["nut"] * count, [f"{i}.png" for i in range(count)])


def normalise(backbone, images):
    return (images - backbone.mean) / backbone.std


@pytest.mark.parametrize("selection", ["topk", "first"])
def test_predicts_what_the_transcription_predicts(backbone, selection):
    method = build(backbone, prior_selection=selection)
    plain = plain_twin(method, vv_from=1, tau=0.07)  # 5 of 24 blocks are 1 of 8
    plain.first = selection == "first"
    score, anomaly_map = method(noise_images(3), ["nut"] * 3)
    for row, image in enumerate(normalise(backbone, noise_images(3)).split(1)):
        expected_score, expected_map = plain.predict(image, sigma=10 * SIZE / 518)
        assert_close(score[row].item(), expected_score, atol=2e-6, rtol=0)
        assert_close(anomaly_map[row], torch.from_numpy(expected_map), atol=2e-6, rtol=0)


@pytest.mark.parametrize("count", [1, 3])
def test_loss_and_gradients_of_the_transcription(backbone, count):
    """Also for a batch of one image, on which the released code breaks."""
    method, batch = build(backbone), noise_batch(count)
    plain = plain_twin(method, vv_from=1, tau=0.07)
    expected = plain.terms(normalise(backbone, batch.image), batch.mask.float(), batch.label.long())
    got = method.loss_terms(batch)._asdict()
    assert {THEIRS.get(name, name) for name in got} == set(expected)
    for name, value in got.items():
        assert_close(value, expected[THEIRS.get(name, name)], atol=1e-5, rtol=1e-5, msg=name)
    loss = method.loss(batch)
    assert_close(loss, total(expected), atol=1e-5, rtol=1e-5)
    loss.backward()
    total(expected).backward()
    for ours, theirs in (
        (method.prompts.normal_ctx, plain.ctx_pos),
        (method.prompts.anomalous_ctx, plain.ctx_neg),
        (method.prior[0].weight, plain.weight1),
        *zip(method.deep.blocks, plain.deep, strict=True),
    ):
        assert_close(ours.grad, theirs.grad, atol=1e-4 * theirs.grad.abs().max().item(), rtol=0)


def test_learns(backbone):
    method, batch = build(backbone), noise_batch()
    optimizer = method.train().configure_optimizers()
    losses = []
    for _ in range(6):
        loss = method.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05


def test_optimiser_is_the_released_one(backbone):
    (group,) = build(backbone).configure_optimizers().param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (1e-3, (0.5, 0.999), 1e-8, 0)


def test_sizes_of_the_paper():
    """Of ViT-L-14-336: blocks, and the parameters that the released model really uses."""
    tokens = Tokens(torch.zeros(2, 77, dtype=torch.long), torch.zeros(2, 77, 768))
    backbone = SimpleNamespace(
        embed_dim=768, text_width=768, n_image_blocks=24, n_text_blocks=12, tokenize=lambda texts: tokens
    )
    method = FAPrompt(backbone, {})
    assert method.vv_from == 5
    assert [tuple(prompt.shape) for prompt in method.deep.blocks] == [(4, 768)] * 8
    assert sum(value.numel() for value in method.state_dict().values()) == 4_100_064


def test_selects_in_descending_order_or_in_raster_order():
    probability = torch.tensor([[0.1, 0.9, 0.5, 0.7]])
    assert select_patches(probability, 3, "topk").tolist() == [[1, 3, 2]]
    assert select_patches(probability, 3, "first").tolist() == [[0, 1, 2]]


def test_image_focal_reads_the_score_as_asked(backbone):
    """Nothing else depends on the reading."""
    batch = noise_batch()
    terms = {
        way: build(backbone, image_focal_score_as=way).loss_terms(batch)._asdict() for way in ("logit", "probability")
    }
    changed = {name for name in terms["logit"] if not torch.equal(terms["logit"][name], terms["probability"][name])}
    assert changed == {"image_focal"}
    score, label = build(backbone).examine(batch.image).score, batch.label
    truth = torch.where(label, score, 1 - score)  # probability of what is true
    expected = ((1 - truth) ** 2 * -truth.log()).mean()
    assert_close(terms["probability"]["image_focal"], expected)


def test_class_norm_changes_the_image_but_no_patch(backbone):
    plain, normed = (build(backbone, class_norm=way)(noise_images(2), ["nut"] * 2) for way in (False, True))
    assert_close(plain.anomaly_map, normed.anomaly_map)
    assert (plain.score - normed.score).abs().min() > 1e-4


@torch.no_grad()
def test_rounding_deep_prompts_moves_texts_a_little(backbone):
    exact, rounded = (build(backbone, round_deep_prompts=way).examine(noise_images(2)) for way in (False, True))
    moved = (exact.text - rounded.text).norm(dim=1) / exact.text.norm(dim=1)
    assert moved.min() > 0
    assert moved.max() < 2e-3


def test_vv_stream_starts_where_it_is_told(backbone):
    images, late = noise_images(2), build(backbone, vv_from=6)
    features = backbone.encode_image(images, layers=(8,), stream="vv_from_ordinary", vv_from=6)
    assert_close(late.examine(images).features.patches, features.patches)
    assert not torch.equal(build(backbone).examine(images).features.patches, features.patches)


def count_texts(backbone, monkeypatch):
    """Numbers of texts in each text pass from now on."""
    counts, encode = [], backbone.encode_text

    def counted(tokens, **settings):
        counts.append(len(tokens.ids))
        return encode(tokens, **settings)

    monkeypatch.setattr(backbone, "encode_text", counted)
    return counts


def test_encodes_no_text_twice(backbone, monkeypatch):
    method = build(backbone)
    counts = count_texts(backbone, monkeypatch)
    method(noise_images(2), ["nut"] * 2)
    assert counts == [11, 20]
    method(noise_images(2), ["nut"] * 2)
    assert counts[2:] == [20]
    method.train().loss(noise_batch(3))
    assert counts[3:] == [11, 30]


@pytest.mark.parametrize("way", ["step", "data", "checkpoint"])
def test_kept_texts_follow_the_parameters(backbone, way):
    method, other = build(backbone), build(backbone, seed=1)
    method(noise_images(2), ["nut"] * 2)
    if way == "step":
        optimizer = method.configure_optimizers()
        method.loss(noise_batch()).backward()
        optimizer.step()
        other.load_state_dict(method.state_dict())
    elif way == "data":
        for ours, theirs in zip(method.parameters(), other.parameters(), strict=True):
            ours.data[:] = theirs.data
        method.eval()  # as each run of a trainer does
    else:
        method.load_state_dict(other.state_dict())
    fresh = other(noise_images(2), ["nut"] * 2)
    assert_close(method(noise_images(2), ["nut"] * 2), fresh, atol=0, rtol=0)


def test_checkpoint_holds_what_is_learnt_and_nothing_else(backbone):
    method = build(backbone)
    assert method.state_dict().keys() == dict(method.named_parameters()).keys()


def test_checkpoint_of_other_sizes_is_refused(backbone):
    other = build(backbone, n_anomalous=4, depth=2).state_dict()
    with pytest.raises(RuntimeError, match=r"Missing key.*deep\.blocks\.1") as caught:
        build(backbone).load_state_dict(other)
    assert "size mismatch for prompts.anomalous_ctx" in str(caught.value)


def test_masks_of_another_size_are_refused(backbone):
    batch = noise_batch()
    with pytest.raises(ValueError, match=r"64 x 64.*got 32 x 32"):
        build(backbone).loss(batch._replace(mask=batch.mask[:, ::2, ::2]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 7}, r"depth 1 to 6.*got depth 7"),
        ({"depth": 0}, r"depth 1 to 6.*got depth 0"),
        ({"deep_length": 0}, "length 1 or more"),
        ({"n_anomalous": 0}, "1 or more; got 5, 2 and 0"),
        ({"n_prior_patches": 17}, "at most the 16 patches of an image; got 17"),
        ({"temperature": 0.0}, r"above 0; got 0\.0"),
        ({"sigma": -1.0}, "sigma must be 0 or more pixels"),
        ({"prior_selection": "random"}, "'topk' or 'first'; got 'random'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(backbone, settings, message):
    with pytest.raises(ValueError, match=message):
        _ = build(backbone, **settings)(noise_images(1), ["nut"]).anomaly_map
