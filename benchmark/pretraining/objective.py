"""The objective: CLIP's contrastive loss, and patch-to-text losses along several directions of the text.

Directions are state, type of defect, product and place. All read the same cosines between unit features, at the one
learnt temperature of the model.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.pretraining import wording
from benchmark.pretraining.crops import Crops
from benchmark.pretraining.wording import DEFECTS, PRODUCTS
from methods.components.clip.image_tower import ImageRequest, embed_patches, project, run_blocks
from methods.components.clip.text_tower import Tokens, run_text

_UNKNOWN = 0.08  # share of words that are left out, so that a word never met is a trained case
_FULL = 0.25  # share of a patch that must be anomalous for the patch to count as anomalous altogether
_NEAR = 0.3  # cosine of two texts up to which they count as different
_VV_FROM = 0.5  # of the blocks, before the V-V stream
_WINDOWS, _SIDES = 128, (2, 3)  # windows of a step, and their sides in patches: those of WinCLIP
WEIGHTS = {
    "paraphrase": 1.0,
    "apart": 1.0,
    "contrast": 1.0,
    "image_state": 1.0,
    "patch_state": 0.5,
    "patch_type": 1.0,
    "window_state": 0.5,
    "product": 0.3,
    "place": 0.2,
}


class CropFeatures(NamedTuple):
    """Unit features of a batch of crops."""

    embedded: Tensor  # (B, 1 + N, width) class token and patches before the first block
    image: Tensor  # (B, D)
    patches: list[Tensor]  # (B, N, D): of the last block and, in some steps, of the V-V stream


class Lexicon:
    """Token ids of the texts of training, counted from 0 over the tokens that are ever used."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        ids = {tokenizer.sot_token_id, tokenizer.eot_token_id}
        for part in wording.vocabulary():
            for variant in (part.replace("{}", " "), f"{part.replace('{}', ' ')}."):
                ids.update(tokenizer.encode(variant))
        self.used = sorted(ids)
        self._sorted = torch.tensor(self.used)

    def tokens(self, texts: list[str], table: Tensor, drop: np.random.Generator) -> Tokens:
        """Ids (T, C) and embeddings (T, C, W) out of `table` (used, W), some words left out."""
        ids = self.tokenizer(texts, context_length=77)
        ids = ids[:, : int(ids.argmax(dim=1).max()) + 1]
        rows = torch.searchsorted(self._sorted, ids.clamp(min=self.used[0]))
        known = (ids != 0) & (ids != self.tokenizer.sot_token_id) & (ids != self.tokenizer.eot_token_id)
        left_out = torch.from_numpy(drop.random(tuple(ids.shape)) < _UNKNOWN) & known
        kept = ((ids != 0) & ~left_out).unsqueeze(-1)
        return Tokens(ids, table[rows.to(table.device)] * kept.to(table.device))


def see(clip: Any, crops: Crops, images: Tensor, *, vv: bool) -> CropFeatures:
    """CropFeatures of the crops; a crop of a part has the positions of that part."""
    visual = clip.visual
    square = visual.positional_embedding[1:].unflatten(0, tuple(visual.grid_size))
    side = images.shape[-1] // visual.patch_size[0]
    if crops.step > 1:
        square = F.avg_pool2d(square.permute(2, 0, 1), crops.step).permute(1, 2, 0)
    row, column = crops.corner
    square = square[row : row + side, column : column + side].flatten(0, 1)
    positions = torch.cat([visual.positional_embedding[:1], square])
    x = visual.ln_pre(embed_patches(visual, images, positions))
    first = int(_VV_FROM * len(visual.transformer.resblocks))
    request = ImageRequest(stream="vv_from_ordinary" if vv else "ordinary", vv_from=first)
    *_, last = run_blocks(visual, x, request)
    asked = [last.ordinary] + ([last.asked] if vv else [])
    return CropFeatures(x, project(visual, last.ordinary[:, 0]), [project(visual, tokens[:, 1:]) for tokens in asked])


def prompts(rng: np.random.Generator) -> list[str]:
    """The texts of the patch losses: 4 normal, 4 anomalous, one per type of defect, product and place."""
    normal = [wording.normal_text(rng, wording.any_product(rng)) for _ in range(4)]
    anomalous = [wording.anomalous_text(rng, wording.any_product(rng)) for _ in range(4)]
    types = [wording.defect_text(rng, wording.any_product(rng), defect) for defect in DEFECTS]
    products = [wording.in_template(rng, wording.product_words(rng, product)) for product in PRODUCTS]
    word = wording.any_product(rng)
    places = [wording.in_template(rng, f"{word} with defect {place}") for place in wording.PLACES]
    return normal + anomalous + types + products + places


def paraphrases(clip: Any, lexicon: Lexicon, table: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
    """The objective of the text tower alone: two wordings of one meaning are alike, two meanings are not.

    The image tower learns nothing from a text tower that cannot tell texts apart yet.
    """

    def one() -> list[str]:
        texts = prompts(rng)
        texts = [texts[0], texts[4], *texts[8:]]
        for product in PRODUCTS:
            words = wording.product_words(rng, product)
            texts += [wording.normal_text(rng, words), wording.anomalous_text(rng, words)]
        return texts

    first, second = one(), one()
    features = run_text(clip, lexicon.tokens(first + second, table, rng), (), 0)
    a, b = F.normalize(features.float(), dim=-1).split(len(first))
    return {"paraphrase": _matched(clip.logit_scale.exp() * a @ b.T)}


def losses(
    clip: Any, lexicon: Lexicon, table: Tensor, crops: Crops, images: Tensor, rng: np.random.Generator, *, vv: bool
) -> dict[str, Tensor]:
    """Every term of the objective, scalars by name; the sum weighted by WEIGHTS is minimised."""
    seen = see(clip, crops, images, vv=vv)
    asked = prompts(rng)
    features = run_text(clip, lexicon.tokens(crops.texts + asked, table, rng), (), 0)
    texts = F.normalize(features.float(), dim=-1)
    scale = clip.logit_scale.exp()
    captions, told = texts[: len(crops.texts)], texts[len(crops.texts) :]
    counts = (4, 4, len(DEFECTS), len(PRODUCTS), len(wording.PLACES))
    normal, anomalous, types, products, places = told.split(counts)
    state = F.normalize(torch.stack([normal.mean(dim=0), anomalous.mean(dim=0)]), dim=-1)
    kinds = torch.cat([state[:1], types])
    cover = torch.from_numpy(crops.cover).to(images.device)
    parts = [_patch_terms(patches, cover, crops, scale, state, kinds, products) for patches in seen.patches]
    n = len(cover) // 2
    label = torch.arange(2 * n, device=images.device) // n
    result = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
    result["window_state"] = _window_state(clip.visual, seen.embedded, cover, rng, scale * (state[1] - state[0]))
    result["apart"] = _apart(kinds) + _apart(state)
    result["contrast"] = _contrast(seen.image, captions, crops, scale)
    result["image_state"] = F.cross_entropy(scale * seen.image @ state.T, label) + 0.5 * F.cross_entropy(
        scale * seen.image @ kinds.T, torch.cat([label[:n], 1 + torch.from_numpy(crops.defect).to(label)])
    )
    shown = torch.from_numpy(crops.place >= 0).to(images.device)
    if shown.any():
        target = torch.from_numpy(crops.place).to(images.device)
        result["place"] = F.cross_entropy((scale * seen.image[n:] @ places.T)[shown], target[shown])
    return result


def _patch_terms(
    patches: Tensor, cover: Tensor, crops: Crops, scale: Tensor, state: Tensor, kinds: Tensor, products: Tensor
) -> dict[str, Tensor]:
    """Losses of patch features (B, N, D) against texts of state (2, D), type (1 + types, D) and product (P, D)."""
    n = len(cover) // 2
    degree = (cover / _FULL).clamp(max=1.0)  # (B, N)
    patch_state = _balanced(scale * (patches @ (state[1] - state[0])), degree)
    defect = 1 + torch.from_numpy(crops.defect).to(cover.device)
    logits = scale * patches @ kinds.T  # (B, N, 1 + types)
    of_type = F.cross_entropy(
        logits[n:].flatten(0, 1), defect.repeat_interleave(cover.shape[1]), reduction="none"
    ).view_as(degree[n:])
    of_none = F.cross_entropy(
        logits.flatten(0, 1), torch.zeros_like(degree, dtype=torch.long).flatten(), reduction="none"
    ).view_as(degree)
    patch_type = (of_type * degree[n:]).sum() / degree.sum().clamp(min=1.0) + (of_none * (degree == 0)).sum() / (
        degree == 0
    ).sum()
    whose = torch.from_numpy(crops.product).to(cover.device)
    some = patches[:n, :: max(1, patches.shape[1] // 8)]  # (n, about 8, D)
    product = F.cross_entropy((scale * some @ products.T).flatten(0, 1), whose.repeat_interleave(some.shape[1]))
    return {"patch_state": patch_state, "patch_type": patch_type, "product": product}


def _window_state(visual: Any, x: Tensor, cover: Tensor, rng: np.random.Generator, direction: Tensor) -> Tensor:
    """Loss of the class token of windows of patches alone, half of them on a defect, along the direction of the state.

    Args:
        visual: open_clip's `VisionTransformer`.
        x: class token and patches of all crops before the first block, (B, 1 + N, width).
        cover: share of each patch that is anomalous, (B, N).
        rng: picks the windows.
        direction: anomalous minus normal text, (D,).
    """
    grid, side = int(cover.shape[1] ** 0.5), _SIDES[int(rng.integers(len(_SIDES)))]
    index = torch.arange(grid * grid, device=x.device).view(grid, grid)
    windows = index.unfold(0, side, 1).unfold(1, side, 1).reshape(-1, side * side)  # (K, side²)
    degree = (cover[:, windows].amax(dim=2) / _FULL).clamp(max=1.0)  # (B, K)
    marked, every = degree.flatten().nonzero().flatten().cpu().numpy(), degree.numel()
    chosen = np.concatenate([rng.choice(marked, _WINDOWS // 2), rng.integers(every, size=_WINDOWS - _WINDOWS // 2)])
    rows, which = (torch.from_numpy(part).to(x.device) for part in np.divmod(chosen, len(windows)))
    tokens = x[rows.unsqueeze(1), F.pad(windows[which] + 1, (1, 0))]
    for block in visual.transformer.resblocks:
        tokens = block(tokens)
    return _balanced(project(visual, tokens[:, 0]) @ direction, degree[rows, which])


def _balanced(gap: Tensor, degree: Tensor) -> Tensor:
    """Binary cross-entropy of logits `gap`, once over what is anomalous to its degree and once over the rest."""
    wrong = F.binary_cross_entropy_with_logits(gap, degree, reduction="none")
    rest = 1 - degree
    return (wrong * degree).sum() / degree.sum().clamp(min=1.0) + (wrong * rest).sum() / rest.sum().clamp(min=1.0)


def _apart(texts: Tensor) -> Tensor:
    """Mean excess of the cosines of texts (T, D) over _NEAR: an image learns nothing from texts that are alike."""
    cosines = texts @ texts.T
    return F.relu(cosines - _NEAR)[~torch.eye(len(texts), dtype=torch.bool, device=texts.device)].mean()


def _contrast(images: Tensor, captions: Tensor, crops: Crops, scale: Tensor) -> Tensor:
    """CLIP's symmetric loss; a caption that is as true of another image of the batch is no negative of it."""
    n = len(images) // 2
    product = torch.from_numpy(np.tile(crops.product, 2)).to(images.device)
    vague = torch.from_numpy(crops.vague).to(images.device)
    label = torch.arange(2 * n, device=images.device) // n
    alike = (label[:, None] == label) & ((product[:, None] == product) | vague)  # (images, captions)
    alike.fill_diagonal_(False)
    return _matched((scale * images @ captions.T).masked_fill(alike, float("-inf")))


def _matched(logits: Tensor) -> Tensor:
    """CLIP's cross-entropy both ways: row i belongs to column i."""
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
