"""FAPrompt once more: a plain transcription of the released loops from their specification, one image at a time.

It shares no code with the method, so tests compare the two and `tests/perf/faprompt.py` times them. The image tower has
its attention written out in V-V blocks; texts have 77 tokens; each image has its own second text pass, which encodes
the normal prompt again; the first text pass is repeated for each test image.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn


def image_tower(clip: Any, x: Tensor, vv_from: int, layers: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """Unit class features (B, D) and unit patch features (B, N, D) of normalised images.

    Patches are those of the last block, or of `layers`, counted from 1: (L, B, N, D).
    """
    visual = clip.visual
    x = visual.conv1(x)
    grid = x.shape[-2:]
    old = visual.positional_embedding
    side = int(len(old[1:]) ** 0.5)
    square = old[1:].view(1, side, side, -1).permute(0, 3, 1, 2)
    positions = F.interpolate(square, grid, mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x.flatten(2).transpose(1, 2)], dim=1)
    x = visual.ln_pre(x + torch.cat([old[None, :1], positions], dim=1))
    u, after = x, []
    for index, block in enumerate(visual.transformer.resblocks):
        if index < vv_from:
            u = x = block(x)
            after.append(u)
            continue
        attn, h = block.attn, block.ln_1(x)
        qkv = F.linear(h, attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for part in qkv)
        scale = q.shape[-1] ** -0.5
        ordinary = (q @ k.transpose(-1, -2) * scale).softmax(dim=-1) @ v
        values = (v @ v.transpose(-1, -2) * scale).softmax(dim=-1) @ v
        u = u + attn.out_proj(values.transpose(1, 2).flatten(2))
        x = x + attn.out_proj(ordinary.transpose(1, 2).flatten(2))
        x = x + block.mlp(block.ln_2(x))
        after.append(u)
    chosen = torch.stack([after[layer - 1] for layer in layers]) if layers else u
    tokens = visual.ln_post(chosen[..., 1:, :]) @ visual.proj
    return F.normalize(x[:, 0] @ visual.proj, dim=-1), F.normalize(tokens, dim=-1)


def text_tower(clip: Any, ids: Tensor, embeddings: Tensor, deep: list[Tensor]) -> Tensor:
    """Features (T, D) of prompts of 77 tokens, not normalised; `deep` goes before blocks 1, 2, ...."""
    x = embeddings + clip.positional_embedding
    for index, block in enumerate(clip.transformer.resblocks):
        if 1 <= index <= len(deep):
            prompt = deep[index - 1]
            x = torch.cat([x[:, :1], prompt.expand(len(x), -1, -1), x[:, 1 + len(prompt) :]], dim=1)
        x = block(x, attn_mask=clip.attn_mask)
    return clip.ln_final(x)[torch.arange(len(x)), ids.argmax(dim=-1)] @ clip.text_projection


class Plain(nn.Module):
    """The released learner and its loops, one image after the other."""

    def __init__(self, clip: Any, ids: Tensor, learnt: dict[str, Tensor], vv_from: int, tau: float) -> None:
        super().__init__()
        object.__setattr__(self, "clip", clip)
        self.ids, self.vv_from, self.tau, self.n_patches = ids, vv_from, tau, 0  # ids (2, 77)
        self.embeddings = clip.token_embedding(ids).detach()
        new = {key: nn.Parameter(value.clone()) for key, value in learnt.items()}
        self.ctx_pos, self.ctx_neg = new["ctx_pos"], new["ctx_neg"]  # (E, W), (K, E', W)
        self.deep = nn.ParameterList([value for key, value in new.items() if key.startswith("deep")])
        self.weight1, self.bias1, self.weight2, self.bias2 = (new[k] for k in ("weight1", "bias1", "weight2", "bias2"))
        self.n_patches = self.weight1.shape[1] // clip.text_projection.shape[1]  # M
        self.first = False  # the first patches instead of the most anomalous ones

    def encode(self, prior: Tensor | float = 0.0) -> Tensor:
        """Normal and K anomalous features, (1 + K, D)."""
        n, own = len(self.ctx_pos), self.ctx_neg + prior
        end = 1 + n + own.shape[1]
        normal = torch.cat([self.embeddings[:1, :1], self.ctx_pos[None], self.embeddings[:1, 1 + n :]], dim=1)
        rows = self.embeddings[1:].expand(len(own), -1, -1)
        shared = self.ctx_pos.expand(len(own), -1, -1)
        anomalous = torch.cat([rows[:, :1], shared, own, rows[:, end:]], dim=1)
        ids = torch.cat([self.ids[:1], self.ids[1:].expand(len(own), -1)])
        return text_tower(self.clip, ids, torch.cat([normal, anomalous]), list(self.deep))

    def pair(self, text: Tensor) -> Tensor:
        return F.normalize(torch.stack([text[0], text[1:].mean(dim=0)]), dim=-1)

    def second(self, patches: Tensor, probability: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of one image: its pair (2, D), prior (W,), patch indices (M,) and anomalous features (K, D)."""
        index = probability.topk(self.n_patches).indices
        index = torch.arange(self.n_patches) if self.first else index
        hidden = F.relu(F.linear(patches[index].flatten(), self.weight1, self.bias1))
        prior = F.linear(hidden, self.weight2, self.bias2)
        text = self.encode(prior)
        return self.pair(text), prior, index, text[1:]

    def similarity(self, patches: Tensor, pair: Tensor) -> Tensor:
        return (patches @ pair.T / self.tau).softmax(dim=-1)  # (N, 2)

    def enlarge(self, probability: Tensor, size: int) -> Tensor:
        side = int(len(probability) ** 0.5)
        grid = probability.T.view(1, 2, side, side)
        return F.interpolate(grid, size, mode="bilinear", align_corners=False)[0]

    def terms(self, images: Tensor, mask: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Unweighted losses of normalised images, masks (B, S, S) and labels (B,) as floats and integers."""
        with torch.no_grad():
            cls, patches = image_tower(self.clip, images, self.vv_from)
        text = self.encode()
        first = [self.similarity(p, self.pair(text)) for p in patches]
        seconds = [self.second(p, s[:, 1].detach()) for p, s in zip(patches, first, strict=True)]
        second = [self.similarity(p, s[0]) for p, s in zip(patches, seconds, strict=True)]
        out = {}
        for stage, probabilities in ((1, first), (2, second)):
            maps = torch.stack([self.enlarge(p, images.shape[-1]) for p in probabilities])
            out[f"focal{stage}"] = focal(maps, mask)
            out[f"dice{stage}_abnormal"] = dice(maps[:, 1], mask)
            out[f"dice{stage}_normal"] = dice(maps[:, 0], 1 - mask)
        logits = torch.stack([pair[0] @ c for pair, c in zip(seconds, cls, strict=True)]) / self.tau
        out["image_ce"] = F.cross_entropy(logits, label)
        score = torch.stack([self.score(z, a, b) for z, a, b in zip(logits, first, second, strict=True)])
        bce = F.binary_cross_entropy_with_logits(score, label.float(), reduction="none")
        out["image_focal"] = ((1 - torch.exp(-bce)) ** 2 * bce).mean()
        cosine = F.cosine_similarity(text[1:, None], text[None, 1:], dim=-1)
        out["oc"] = sum(cosine[i, j].abs() for i in range(len(cosine)) for j in range(i + 1, len(cosine)))
        zero = torch.zeros(())
        out["prior"] = sum((s[1].square().mean() for s, y in zip(seconds, label, strict=True) if not y), zero)
        return out

    def score(self, logits: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return 0.5 * (logits.softmax(dim=-1)[1] + (2 * first[:, 1].max() + second[:, 1].max()) / 3)

    @torch.no_grad()
    def predict(self, image: Tensor, sigma: float) -> tuple[float, np.ndarray]:
        """Score and smoothed map of one normalised image, (1, 3, S, S)."""
        cls, patches = image_tower(self.clip, image, self.vv_from)
        first = self.similarity(patches[0], self.pair(self.encode()))
        pair = self.second(patches[0], first[:, 1])[0]
        second = self.similarity(patches[0], pair)
        maps = [self.enlarge(p, image.shape[-1]) for p in (first, second)]
        fused = sum(m[1] + 1 - m[0] for m in maps) / 4
        return float(self.score(pair @ cls[0] / self.tau, first, second)), gaussian_filter(fused.numpy(), sigma=sigma)


def total(terms: dict[str, Tensor]) -> Tensor:
    """The weighted sum of `Plain.terms`."""
    weights = {"focal2": 0.5, "dice2_abnormal": 0.5, "dice2_normal": 0.5, "oc": 0.1}
    return sum((weights.get(key, 1.0) * value for key, value in terms.items()), torch.zeros(()))


def focal(maps: Tensor, mask: Tensor) -> Tensor:
    """Of maps (B, 2, S, S) and masks (B, S, S)."""
    eps = 1e-5
    one_hot = torch.stack([1 - mask, mask], dim=1).clamp(eps, 1 - eps)
    pt = (one_hot * maps).sum(dim=1) + eps
    return (-((1 - pt) ** 2) * pt.log()).mean()


def dice(p: Tensor, g: Tensor) -> Tensor:
    """Of probabilities and masks, (B, S, S)."""
    p, g = p.flatten(1), g.flatten(1)
    return 1 - ((2 * (p * g).sum(dim=1) + 1) / (p.sum(dim=1) + g.sum(dim=1) + 1)).mean()


def plain_twin(method: Any, vv_from: int, tau: float) -> Plain:
    """The transcription with the prompts of a `FAPrompt`."""
    names = {"prompts.normal_ctx": "ctx_pos", "prompts.anomalous_ctx": "ctx_neg"}
    names |= {f"prior.{i}.{kind}": f"{kind}{1 + i // 2}" for i in (0, 2) for kind in ("weight", "bias")}
    learnt = {names.get(key, key): value for key, value in method.state_dict().items()}
    return Plain(method.backbone.clip, method.prompts.templates.ids, learnt, vv_from, tau)
