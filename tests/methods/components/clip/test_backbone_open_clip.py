"""The backbone against open_clip itself, and against attention written out."""

import math

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import text_global_pool

from methods.components.clip import image_tower
from methods.components.clip.backbone import CLIPBackbone, Tokens, Windows

pytestmark = pytest.mark.slow

TEXTS = ["a photo of a cat", "a photo of a damaged metal nut for visual inspection", "a zipper"]


@pytest.fixture(scope="module", params=[False, True], ids=["gelu", "quick_gelu"])
def tiny(request):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        clip = open_clip.CLIP(
            embed_dim=20,
            quick_gelu=request.param,
            vision_cfg={"image_size": 32, "layers": 3, "width": 32, "head_width": 8, "patch_size": 8},
            text_cfg={"context_length": 77, "vocab_size": 49408, "width": 24, "heads": 3, "layers": 3},
        )
        with torch.no_grad():  # norms and biases of one and zero would hide a forgotten one
            for weight in clip.parameters():
                if weight.ndim == 1:
                    weight.add_(0.2 * torch.randn_like(weight))
            clip.visual.positional_embedding.mul_(3)
    return CLIPBackbone(clip, open_clip.SimpleTokenizer())


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def _normalised(images):
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    return (images - mean) / torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def test_image_feature_is_open_clips(tiny, images):
    expected = tiny.clip.encode_image(_normalised(images), normalize=True)
    torch.testing.assert_close(tiny.encode_image(images).image, expected, atol=1e-6, rtol=0)


def test_features_of_any_length_are_open_clips(tiny, images):
    visual = tiny.clip.visual
    got = tiny.encode_image(images, layers=(1,), normalise=False)
    torch.testing.assert_close(got.image, tiny.clip.encode_image(_normalised(images)), atol=2e-6, rtol=0)
    raw = visual.forward_intermediates(_normalised(images), indices=[0], output_fmt="NLC")["image_intermediates"][0]
    torch.testing.assert_close(got.patches[0], visual.ln_post(raw) @ visual.proj, atol=2e-6, rtol=0)


def test_layers_and_taps_are_open_clips_intermediates(tiny, images):
    visual = tiny.clip.visual
    expected = visual.forward_intermediates(
        _normalised(images), indices=[0, 1, 2], output_fmt="NLC", output_extra_tokens=True
    )
    raw = torch.stack(expected["image_intermediates"])
    class_tokens = torch.stack(expected["image_intermediates_prefix"])[:, :, 0]
    got = tiny.encode_image(images, layers=(3, 1), taps=(2, 3))
    torch.testing.assert_close(got.taps, raw[[1, 2]], atol=2e-6, rtol=0)
    torch.testing.assert_close(got.class_taps, class_tokens[[1, 2]], atol=2e-6, rtol=0)
    projected = F.normalize(visual.ln_post(raw[[2, 0]]) @ visual.proj, dim=-1)
    torch.testing.assert_close(got.patches, projected, atol=1e-6, rtol=0)
    assert got.grid == (4, 4)


def test_text_feature_is_open_clips(tiny):
    expected = tiny.clip.encode_text(open_clip.tokenize(TEXTS))
    got = tiny.encode_text(tiny.tokenize(TEXTS), normalise=False)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(tiny.encode_text(tiny.tokenize(TEXTS)), F.normalize(expected, dim=-1), atol=1e-6, rtol=0)


def test_trimmed_text_is_untrimmed_text_with_learnt_embeddings_and_deep_prompts(tiny):
    clip, tokens = tiny.clip, tiny.tokenize(TEXTS)
    noise = torch.randn(tokens.embeddings.shape, generator=torch.Generator().manual_seed(3))
    tokens = Tokens(tokens.ids, tokens.embeddings + noise)  # garbage after the end must not matter
    deep = torch.randn(2, 2, 24, generator=torch.Generator().manual_seed(4))
    x = tokens.embeddings + clip.positional_embedding
    for index, block in enumerate(clip.transformer.resblocks):
        if index > 0:
            x = torch.cat([x[:, :1], deep[index - 1].expand(3, 2, 24), x[:, 3:]], dim=1)
        x = block(x, attn_mask=clip.attn_mask)
    expected = text_global_pool(clip.ln_final(x), tokens.ids, "argmax") @ clip.text_projection
    got = tiny.encode_text(tokens, deep_prompts=list(deep), deep_start=1, normalise=False)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_end_of_text_is_found_as_the_model_pools(tiny, monkeypatch):
    monkeypatch.setattr(tiny.clip, "text_pool_type", "eos")
    monkeypatch.setattr(tiny.clip, "text_eos_id", 269)  # the full stop
    ids = open_clip.tokenize(["a cat. and more"])
    expected = tiny.clip.encode_text(ids)
    got = tiny.encode_text(Tokens(ids, tiny.clip.token_embedding(ids)), normalise=False)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [24, 48])
def test_positions_resized_as_open_clip_does(tiny, size, tmp_path):
    config = {
        "embed_dim": 20,
        "quick_gelu": tiny.clip.visual.transformer.resblocks[0].mlp.gelu.__class__.__name__ == "QuickGELU",
        "vision_cfg": {"image_size": size, "layers": 3, "width": 32, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 24, "heads": 3, "layers": 3},
    }
    torch.save(tiny.clip.state_dict(), tmp_path / "tiny.pt")
    forced = open_clip.CLIP(**config).eval()
    open_clip.load_checkpoint(forced, str(tmp_path / "tiny.pt"))
    images = torch.rand(1, 3, size, size)
    expected = forced.encode_image(_normalised(images), normalize=True)
    same = CLIPBackbone(tiny.clip, tiny.tokenizer, image_size=size, position_resize="open_clip")
    torch.testing.assert_close(same.encode_image(images).image, expected, atol=2e-6, rtol=0)
    assert (tiny.encode_image(images).image - expected).abs().max() > 1e-4  # the default resizes otherwise


@pytest.mark.parametrize("grid", [(2, 3), (3, 3), (5, 7)])
def test_bilinear_positions_are_not_smoothed(tiny, grid):
    positions = tiny.clip.visual.positional_embedding
    got = image_tower.resize_positions(tiny.clip.visual, grid, "bilinear")
    assert torch.equal(got[0], positions[0])
    weights = []  # of four old places for each new one, along rows and along columns
    for new in grid:
        centres = ((torch.arange(new) + 0.5) * 4 / new - 0.5).clamp(0, 3)
        weights.append((1 - (centres.unsqueeze(1) - torch.arange(4)).abs()).clamp(min=0))  # (new, 4)
    expected = torch.einsum("ir,jc,rcw->ijw", *weights, positions[1:].view(4, 4, -1)).flatten(0, 1)
    torch.testing.assert_close(got[1:], expected, atol=1e-6, rtol=0)


def test_one_window_of_all_patches_is_the_image(tiny, images):
    windows = torch.arange(16).unsqueeze(0)
    expected = tiny.encode_image(images).image
    torch.testing.assert_close(tiny.encode_windows(images, Windows(windows, (4, 4)))[:, 0], expected, atol=1e-6, rtol=0)


def test_windows_are_the_tower_with_all_else_masked(tiny, images, monkeypatch):
    windows = torch.tensor([[0, 1, 4, 5], [5, 6, 9, 10], [15, 14, 11, 10], [3, 2, 7, 6], [8, 9, 12, 13]])
    monkeypatch.setattr("methods.components.clip.image_tower._TOKENS_AT_ONCE", 15)  # three windows at once
    got = tiny.encode_windows(images, Windows(windows, (4, 4)))
    visual = tiny.clip.visual
    for row, image in enumerate(_normalised(images)):
        for column, window in enumerate(windows.tolist()):
            hidden = torch.ones(17, dtype=torch.bool)
            hidden[[0, *(patch + 1 for patch in window)]] = False
            x = visual._embeds(image.unsqueeze(0))
            for block in visual.transformer.resblocks:
                h = block.ln_1(x)
                x = x + block.attn(h, h, h, key_padding_mask=hidden.unsqueeze(0), need_weights=False)[0]
                x = x + block.mlp(block.ln_2(x))
            expected = F.normalize(visual.ln_post(x[0, 0]) @ visual.proj, dim=-1)
            torch.testing.assert_close(got[row, column], expected, atol=2e-6, rtol=0)


def _vv(block, x):
    """V-V attention with the matrices written out, head by head."""
    width, heads = x.shape[-1], block.attn.num_heads
    values = block.ln_1(x) @ block.attn.in_proj_weight[2 * width :].T + block.attn.in_proj_bias[2 * width :]
    mixed = [((v @ v.mT) / math.sqrt(width / heads)).softmax(-1) @ v for v in values.chunk(heads, dim=-1)]
    return torch.cat(mixed, dim=-1) @ block.attn.out_proj.weight.T + block.attn.out_proj.bias


@pytest.mark.parametrize("vv_from", [0, 1])
@pytest.mark.parametrize("stream", ["vv_from_ordinary", "vv_from_itself"])
def test_value_value_streams(tiny, images, stream, vv_from):
    visual = tiny.clip.visual
    x = asked = visual._embeds(_normalised(images))
    expected = []
    for index, block in enumerate(visual.transformer.resblocks):
        if index < vv_from:
            x = asked = block(x)
        else:
            asked = asked + _vv(block, x if stream == "vv_from_ordinary" else asked)
            x = block(x)
        expected.append(F.normalize(visual.ln_post(asked[:, 1:]) @ visual.proj, dim=-1))
    got = tiny.encode_image(images, layers=(1, 2, 3), stream=stream, vv_from=vv_from)
    torch.testing.assert_close(got.patches, torch.stack(expected), atol=2e-6, rtol=0)
    torch.testing.assert_close(got.image, tiny.encode_image(images).image, atol=1e-6, rtol=0)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_returns_float32_near_float32(tiny, images, precision):
    low = CLIPBackbone(tiny.clip, tiny.tokenizer, precision=precision)
    asked = {"layers": (3,), "taps": (2,), "stream": "vv_from_ordinary"}
    got, exact = low.encode_image(images, **asked), tiny.encode_image(images, **asked)
    for name in ("image", "patches"):
        a, b = getattr(got, name), getattr(exact, name)
        assert a.dtype == torch.float32
        assert not torch.equal(a, b)
        assert F.cosine_similarity(a, b, dim=-1).min() > 0.999
    assert got.taps.dtype == torch.float32
    windows = Windows(torch.tensor([[0, 1]]), (4, 4))
    assert (
        F.cosine_similarity(low.encode_windows(images, windows), tiny.encode_windows(images, windows), dim=-1).min()
        > 0.999
    )
    text, exact_text = (b.encode_text(b.tokenize(TEXTS)) for b in (low, tiny))
    assert text.dtype == torch.float32
    assert F.cosine_similarity(text, exact_text, dim=-1).min() > 0.999


def test_float32_ends_an_autocast_around_it(tiny, images):
    expected, expected_text = tiny.encode_image(images).image, tiny.encode_text(tiny.tokenize(TEXTS))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tiny.encode_image(images).image, expected)
        assert torch.equal(tiny.encode_text(tiny.tokenize(TEXTS)), expected_text)
