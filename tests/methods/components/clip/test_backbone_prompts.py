"""Prompts in both towers: where they stand, what learns, and that the shared model stays as it was."""

import pytest
import torch
import torch.nn.functional as F

from methods.components.clip.backbone import Tokens, Windows
from methods.components.prompts import ensemble

IMAGE_WIDTH, TEXT_WIDTH, N_PATCHES = 48, 32, 16


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))


def _oracle(backbone, images, deep, prefix):
    """MaPLe's vision tower with prompts at the end of the sequence: attention does not see the order."""
    visual = backbone.clip.visual
    x = visual.conv1((images - backbone.mean) / backbone.std).flatten(2).mT
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
    extra = [t.expand(len(x), -1, -1) for t in ([deep[0]] if deep else []) + ([] if prefix is None else [prefix])]
    x, after = visual.ln_pre(torch.cat([x, *extra], dim=1)), []
    for index, block in enumerate(visual.transformer.resblocks):
        if 0 < index < len(deep):
            n = deep[index].shape[-2]
            start = 1 + N_PATCHES
            x = torch.cat([x[:, :start], deep[index].expand(len(x), n, -1), x[:, start + n :]], dim=1)
        x = block(x)
        after.append(x)
    image = F.normalize(visual.ln_post(x[:, 0]) @ visual.proj, dim=-1)
    return image, torch.stack(after)[:, :, 1 : 1 + N_PATCHES]


CASES = {
    "deep": ([_random(3, IMAGE_WIDTH, seed=j) for j in range(4)], None),
    "deep in all blocks": ([_random(2, IMAGE_WIDTH, seed=j) for j in range(8)], None),
    "deep per image": ([_random(2, 3, IMAGE_WIDTH, seed=j) for j in range(2)], None),
    "prefix": ([], _random(2, IMAGE_WIDTH, seed=9)),
    "prefix per image": ([], _random(2, 1, IMAGE_WIDTH, seed=9)),
    "both": ([_random(3, IMAGE_WIDTH, seed=j) for j in range(3)], _random(1, IMAGE_WIDTH, seed=9)),
}


@pytest.mark.parametrize("case", CASES)
def test_visual_prompts_and_prefix(backbone, images, case):
    deep, prefix = CASES[case]
    image, raw = _oracle(backbone, images, deep, prefix)
    got = backbone.encode_image(images, layers=(8, 2), taps=(1, 5), deep_prompts=deep, prefix=prefix)
    torch.testing.assert_close(got.image, image, atol=2e-6, rtol=0)
    torch.testing.assert_close(got.taps, raw[[0, 4]], atol=5e-6, rtol=0)
    visual = backbone.clip.visual
    projected = F.normalize(visual.ln_post(raw[[7, 1]]) @ visual.proj, dim=-1)
    torch.testing.assert_close(got.patches, projected, atol=2e-6, rtol=0)


def test_stacked_deep_prompts_are_their_rows(backbone, images):
    stacked = _random(3, 2, IMAGE_WIDTH)
    one, other = (backbone.encode_image(images, deep_prompts=deep).image for deep in (stacked, list(stacked)))
    assert torch.equal(one, other)
    tokens, stacked = backbone.tokenize(["a cut bottle"]), _random(3, 2, TEXT_WIDTH)
    one, other = (backbone.encode_text(tokens, deep_prompts=deep) for deep in (stacked, list(stacked)))
    assert torch.equal(one, other)


def test_patch_edit_comes_before_its_block(backbone, images):
    plain = backbone.encode_image(images, taps=(3, 4))
    prefix = _random(1, IMAGE_WIDTH)
    seen = []

    def double(patches):
        seen.append(patches)
        return 2 * patches

    edited = backbone.encode_image(images, taps=(3, 4), patch_edit=(3, double))
    assert torch.equal(edited.taps[0], plain.taps[0])
    assert torch.equal(seen[0], plain.taps[0])  # before block 3, counted from 0, is after the third
    assert (edited.taps[1] - plain.taps[1]).abs().max() > 0.1
    assert (edited.image - plain.image).abs().max() > 1e-3
    backbone.encode_image(images, prefix=prefix, patch_edit=(0, double))
    assert seen[1].shape == (2, N_PATCHES, IMAGE_WIDTH)


def test_value_value_stream_with_prompts_has_patches_only(backbone, images):
    asked = {"layers": (2, 8), "stream": "vv_from_ordinary", "vv_from": 1}
    deep = [_random(3, IMAGE_WIDTH, seed=j) for j in range(4)]
    prompted = backbone.encode_image(images, deep_prompts=deep, prefix=_random(2, IMAGE_WIDTH), **asked)
    plain = backbone.encode_image(images, **asked)
    assert prompted.patches.shape == plain.patches.shape == (2, 2, N_PATCHES, 24)
    assert (prompted.patches - plain.patches).abs().max() > 1e-3


@pytest.mark.parametrize("stream", ["ordinary", "vv_from_ordinary", "vv_from_itself"])
def test_gradients_reach_visual_prompts_alone(backbone, images, stream):
    deep = [_random(3, IMAGE_WIDTH, seed=j).requires_grad_() for j in range(3)]
    prefix = _random(2, IMAGE_WIDTH).requires_grad_()
    got = backbone.encode_image(images, layers=(8,), deep_prompts=deep, prefix=prefix, stream=stream)
    (got.image[:, 0].sum() + got.patches[..., 0].sum()).backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in (*deep, prefix))
    assert all(p.grad is None and not p.requires_grad for p in backbone.parameters())


def test_gradients_reach_text_embeddings_and_deep_prompts_alone(backbone):
    tokens = backbone.tokenize(["a photo of a damaged bottle", "a long text " * 5])
    embeddings = tokens.embeddings.clone().requires_grad_()
    deep = [_random(2, TEXT_WIDTH, seed=j).requires_grad_() for j in range(2)]
    backbone.encode_text(Tokens(tokens.ids, embeddings), deep_prompts=deep, deep_start=4)[:, 0].sum().backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in (embeddings, *deep))
    end = tokens.ids[0].argmax()
    assert embeddings.grad[0, : end + 1].abs().sum(-1).min() > 0
    assert embeddings.grad[0, end + 1 :].abs().max() == 0
    assert all(p.grad is None for p in backbone.parameters())


def test_gradient_agrees_with_finite_differences(backbone, images):
    direction = _random(2, IMAGE_WIDTH, seed=3)
    prompt = _random(2, IMAGE_WIDTH).requires_grad_()
    backbone.encode_image(images, deep_prompts=[prompt]).image[:, 0].sum().backward()
    step = 1e-2
    ends = [
        backbone.encode_image(images, deep_prompts=[prompt.detach() + sign * step * direction]).image[:, 0].sum()
        for sign in (1, -1)
    ]
    assert (prompt.grad * direction).sum().item() == pytest.approx(((ends[0] - ends[1]) / (2 * step)).item(), rel=2e-2)


def test_nothing_is_recorded_where_nothing_learns(backbone, images):
    frozen = [_random(3, IMAGE_WIDTH)]
    assert not backbone.encode_image(images, layers=(8,), deep_prompts=frozen).patches.requires_grad
    assert not backbone.encode_text(backbone.tokenize(["a"])).requires_grad
    learnt = [_random(3, IMAGE_WIDTH).requires_grad_()]
    with torch.no_grad():
        assert not backbone.encode_image(images, deep_prompts=learnt).image.requires_grad
    with torch.inference_mode():
        assert backbone.encode_image(images, deep_prompts=learnt).image.is_inference()


def test_positions_first_resized_in_inference_mode_serve_training_later(backbone):
    images = torch.rand(1, 3, 80, 96)
    with torch.inference_mode():
        backbone.encode_image(images)
    prompt = _random(1, IMAGE_WIDTH).requires_grad_()
    backbone.encode_image(images, prefix=prompt).image[0, 0].backward()
    assert prompt.grad.abs().sum() > 0


def _fingerprint(backbone):
    modules = dict(backbone.named_modules())
    hooks = [
        len(value) for m in modules.values() for key, value in vars(m).items() if "hooks" in key and value is not None
    ]
    own = [key for m in modules.values() for key in vars(m) if callable(vars(m)[key]) and key != "tokenizer"]
    tensors = {name: (t.clone(), t.data_ptr(), t._version) for name, t in backbone.clip.state_dict().items()}
    return {k: id(m) for k, m in modules.items()}, sum(hooks), own, tensors


def test_no_call_alters_the_model(backbone, images):
    modules, hooks, own, tensors = _fingerprint(backbone)
    deep = [_random(3, IMAGE_WIDTH, seed=j).requires_grad_() for j in range(3)]
    backbone.encode_image(
        images, layers=(8,), taps=(2,), tap_point="next_attention", stream="vv_from_itself", vv_from=2
    )
    backbone.encode_image(torch.rand(1, 3, 96, 80), deep_prompts=deep, prefix=deep[0]).image.sum().backward()
    backbone.encode_image(images, patch_edit=(2, lambda patches: patches.mul_(2)))
    backbone.encode_windows(images, Windows(torch.tensor([[0, 1]]), (4, 4)))
    text = [_random(1, TEXT_WIDTH).requires_grad_()]
    backbone.encode_text(backbone.tokenize(["a bottle"]), deep_prompts=text).sum().backward()
    backbone.train()
    modules_after, hooks_after, own_after, tensors_after = _fingerprint(backbone)
    assert modules_after == modules
    assert hooks_after == hooks == 0
    assert own_after == own
    for name, (tensor, pointer, version) in tensors.items():
        after, pointer_after, version_after = tensors_after[name]
        assert torch.equal(after, tensor), name
        assert (pointer_after, version_after) == (pointer, version), name
    assert not any(m.training for m in backbone.modules())


def test_ensemble_is_the_unit_mean_of_unit_features(backbone):
    texts = ["a photo of a bottle", "a bottle", "a cropped photo of the bottle"]
    features = torch.stack([backbone.encode_text(backbone.tokenize([text]))[0] for text in texts])
    got = ensemble(backbone, texts)
    torch.testing.assert_close(got, features.mean(0) / features.mean(0).norm(), atol=1e-6, rtol=0)
