"""How much a text pass gains by trimming: run `python -m tests.perf.text_trim` from the repository.

Times the ViT-L/14 text tower (width 768, 12 blocks, random weights) on FAPrompt's eleven prompts, trimmed and not, in
turns in one process, with and without gradients to the embeddings. CPU seconds, so that other processes do not count.
"""

import statistics
import time
from collections.abc import Callable

import open_clip
import torch
from torch import Tensor

from methods.components.clip.backbone import CLIPBackbone, Tokens

TEXTS = ["N N N N N object."] + ["N N N N N A A damaged object."] * 10
ROUNDS = 3


def tower() -> CLIPBackbone:
    vision = {"image_size": 28, "layers": 1, "width": 64, "patch_size": 14}
    text = {"context_length": 77, "vocab_size": 49408, "width": 768, "heads": 12, "layers": 12}
    clip = open_clip.CLIP(embed_dim=768, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    return CLIPBackbone(clip, open_clip.SimpleTokenizer())


def untrimmed(backbone: CLIPBackbone, tokens: Tokens) -> Tensor:
    clip = backbone.clip
    x = clip.transformer(tokens.embeddings + clip.positional_embedding, attn_mask=clip.attn_mask)  # (T, 77, W)
    x = clip.ln_final(x)[torch.arange(len(x)), tokens.ids.argmax(dim=-1)] @ clip.text_projection
    return torch.nn.functional.normalize(x, dim=-1)


def cpu_seconds(encode: Callable[[Tokens], Tensor], tokens: Tokens, *, learn: bool) -> float:
    embeddings = tokens.embeddings.clone().requires_grad_(learn)
    start = time.process_time()
    with torch.set_grad_enabled(learn):
        features = encode(Tokens(tokens.ids, embeddings))
    if learn:
        features[:, 0].sum().backward()
    return time.process_time() - start


def main() -> None:
    torch.set_num_threads(1)  # CPU seconds of one thread mean the same on a busy machine
    backbone = tower()
    tokens = backbone.tokenize(TEXTS)
    both = {"untrimmed": lambda t: untrimmed(backbone, t), "trimmed": backbone.encode_text}
    error = (both["untrimmed"](tokens) - both["trimmed"](tokens)).abs().max().item()
    print(
        f"{len(TEXTS)} texts, longest {int(tokens.ids.argmax(dim=-1).max()) + 1} of 77 tokens, difference {error:.1e}"
    )
    for learn in (False, True):
        times: dict[str, list[float]] = {name: [] for name in both}
        for _ in range(ROUNDS):
            for name, encode in both.items():
                times[name].append(cpu_seconds(encode, tokens, learn=learn))
        full, short = (statistics.median(times[name]) for name in both)
        label = "with gradients" if learn else "without gradients"
        print(f"{label}: {full:.3f} s untrimmed, {short:.3f} s trimmed, ratio {full / short:.1f}")


if __name__ == "__main__":
    main()
