"""What the backbone refuses, and that the message says what is allowed and what came."""

import pytest
import torch

from methods.components.clip.backbone import BackboneError, CLIPBackbone, Tokens, Windows


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"layers": (9,)}, "layers counts blocks from 1 to 8; got 9"),
        ({"layers": (0,)}, "layers counts blocks from 1 to 8; got 0"),
        ({"taps": (8,), "tap_point": "next_attention"}, "taps counts blocks from 1 to 7; got 8"),
        ({"stream": "vv"}, "stream is one of ordinary, vv_from_ordinary, vv_from_itself; got 'vv'"),
        ({"tap_point": "mlp"}, "tap_point is one of block, next_attention; got 'mlp'"),
        ({"vv_from": 8}, "vv_from is 0 to 7; got 8"),
        ({"patch_edit": (8, torch.relu)}, "patch_edit goes before block 0 to 7; got 8"),
        ({"deep_prompts": [torch.zeros(1, 48)] * 9}, "There are 8 blocks; got 9 deep prompts"),
        ({"deep_prompts": [torch.zeros(1, 47)]}, r"\(n, 48\) or \(2, n, 48\).*got \(1, 47\)"),
        ({"deep_prompts": [torch.zeros(1, 48), torch.zeros(2, 48)]}, r"one n; got \(1, 48\), \(2, 48\)"),
        ({"prefix": torch.zeros(3, 1, 48)}, r"got \(3, 1, 48\)"),
        ({"prefix": torch.zeros(48)}, r"got \(48,\)"),
    ],
)
def test_image_request_that_does_not_fit(backbone, images, asked, message):
    with pytest.raises(BackboneError, match=message):
        backbone.encode_image(images, **asked)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 60, 64), "multiples of the patch of 16 x 16 pixels, the nearest is 64 x 64; got 60 x 64"),
        ((1, 3, 8, 64), "the nearest is 16 x 64; got 8 x 64"),
        ((3, 64, 64), r"\(B, 3, H, W\) in \[0, 1\]; got \(3, 64, 64\)"),
        ((1, 1, 64, 64), r"got \(1, 1, 64, 64\)"),
    ],
)
def test_image_size_that_does_not_fit(backbone, shape, message):
    with pytest.raises(BackboneError, match=message):
        backbone.encode_image(torch.zeros(shape))


def test_sizes_that_fit(backbone):
    got = backbone.encode_image(torch.rand(1, 3, 32, 112), layers=(1,))
    assert got.grid == (2, 7)
    assert got.patches.shape == (1, 1, 14, 24)
    assert got.taps.shape == (0, 1, 14, 48)
    with pytest.raises(BackboneError, match="multiples of the patch"):
        CLIPBackbone(backbone.clip, backbone.tokenizer, image_size=100)


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (torch.tensor([[0, 16]]), "4 x 4 grid are 0 to 15; got 0 to 16"),
        (torch.tensor([[-1, 3]]), "0 to 15; got -1 to 3"),
        (torch.tensor([0, 1]), r"\(K, n\) on the CPU; got \(2,\)"),
        (torch.tensor([[0.0]]), "float32"),
        (torch.tensor([[0]], device="meta"), r"on the CPU; got \(1, 1\) of torch.int64 on meta"),
    ],
)
def test_windows_that_do_not_fit(windows, message):
    with pytest.raises(BackboneError, match=message):
        Windows(windows, (4, 4))


def test_windows_of_another_grid(backbone, images):
    with pytest.raises(BackboneError, match="Windows of 4 x 5 patches do not fit images of 4 x 4 patches"):
        backbone.encode_windows(images, Windows(torch.tensor([[0, 1]]), (4, 5)))


def test_texts_that_do_not_fit(backbone):
    assert backbone.tokenize(["cat " * 75]).ids[0, -1] == 49407
    with pytest.raises(BackboneError, match=r"at most 77 tokens with start and end; 'cat cat .* has 78"):
        backbone.tokenize(["a cat", "cat " * 76])
    with pytest.raises(BackboneError, match="got the one text 'bottle'"):
        backbone.tokenize("bottle")


def test_tokens_and_deep_text_prompts_that_do_not_fit(backbone):
    tokens = backbone.tokenize(["a bottle", "a cut bottle"])
    with pytest.raises(BackboneError, match=r"embeddings \(T, C, 32\).*got \(2, 77\) and \(2, 77, 31\)"):
        backbone.encode_text(Tokens(tokens.ids, tokens.embeddings[..., 1:]))
    with pytest.raises(BackboneError, match=r"Token ids stay on the CPU.*got meta"):
        backbone.encode_text(Tokens(tokens.ids.to("meta"), tokens.embeddings))
    with pytest.raises(BackboneError, match=r"got \(0, 77\)"):
        backbone.encode_text(backbone.tokenize([]))
    with pytest.raises(BackboneError, match="before blocks 0 to 5; got 3 from block 4"):
        backbone.encode_text(tokens, deep_prompts=[torch.zeros(1, 32)] * 3, deep_start=4)
    with pytest.raises(BackboneError, match=r"n < 3, the first end of text.*got \(3, 32\)"):
        backbone.encode_text(tokens, deep_prompts=[torch.zeros(3, 32)])
    with pytest.raises(BackboneError, match=r"\(2, n, 32\).*got \(1, 1, 32\)"):
        backbone.encode_text(tokens, deep_prompts=[torch.zeros(1, 1, 32)])
